"""What `hako dockerfile build --check` prints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hakobune.cli.main import Context
from hakobune.dockerfile.checks import page_of

if TYPE_CHECKING:
    from hakobune.dockerfile.check import Checked
    from hakobune.dockerfile.instructions import LintWarning
    from hakobune.dockerfile.request import DockerfileRequest

_SHOWN_LINES = 4


def check_request(request: DockerfileRequest, kind: str, context: Context) -> int:
    """Print what a check finds, as `text` or `json`; gives the exit code."""
    from hakobune.dockerfile.check import check
    from hakobune.oci.store import Store

    with Store(context.settings.home) as store:
        checked = check(request, store)
    if kind == "json":
        from hakobune.cli.output import print_json

        print_json({"warnings": [_document(one) for one in checked.warnings]}, context.out)
    else:
        for line in _lines(checked, _source(request)):
            print(line, file=context.out)
    for name in checked.unknown:
        print(
            f"note: {name} is not here: variables and triggers that it may have are not checked (--pull fetches it)",
            file=context.err,
        )
    return 1 if checked.warnings else 0


def _document(warning: LintWarning) -> dict[str, object]:
    return {
        "ruleName": warning.rule,
        "detail": warning.message,
        "url": page_of(warning.rule),
        "file": warning.at.file,
        "line": warning.at.line,
        "endLine": warning.at.end_line,
    }


def _source(request: DockerfileRequest) -> list[str]:
    text = request.text
    if text is None:
        text = request.dockerfile.read_text(errors="replace")
    return text.split("\n")


def _lines(checked: Checked, source: list[str]) -> Iterator[str]:
    for warning in checked.warnings:
        yield f"{warning.at}: {warning.message}"
        first, last = warning.at.line, warning.at.end_line
        for number in range(first, min(last, first + _SHOWN_LINES - 1, len(source)) + 1):
            yield f"{number:>6} | {source[number - 1].rstrip()}".rstrip()
        yield f"       = {warning.rule}: {page_of(warning.rule)}"
        yield ""
    count = len(checked.warnings)
    yield "no warnings" if not count else f"{count} warning{'s' if count > 1 else ''}"
