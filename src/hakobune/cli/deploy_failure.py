"""What a failed deploy says (pure): what was seen, what comes close, what to do, in a deploy's own columns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from hakobune.cli.source_hint import Advice, find_advice

# A folder that holds one of these could be built by itself.
MANIFESTS = (
    "pyproject.toml",
    "requirements.txt",
    "uv.lock",
    "setup.py",
    "Procfile",
    "project.toml",
)
NO_APP = "node_modules", "venv", ".venv", "tests", "docs"


def explain_build(
    what: str, *, seen: str, fix: str, log: Sequence[str], command: str
) -> tuple[str, ...]:
    """The lines about a buildpack that failed; *log* is all that the build printed, *command* shows it."""
    number = line_number(log, seen)
    place = f"line {number} of {len(log)}: " if number else ""
    return (
        what,
        f"  seen   | {seen}   ({place}{command})",
        *((f"  fix    {fix}",) if fix else ()),
    )


def explain_no_buildpack(
    what: str, *, tried: str, close: Sequence[str], fix: str
) -> tuple[str, ...]:
    """The lines about a folder that no buildpack knows."""
    return (
        what,
        f"  tried  {tried.removeprefix('tried ')}",
        *(f"  close  {line}" for line in close),
        *((f"  fix    {fix}",) if fix else ()),
    )


def close_folders(files: Iterable[str], *, source: str) -> tuple[str, ...]:
    """Folders below the source that hold what a buildpack looks for, as sentences; the least deep first.

    Args:
        files: paths relative to the source. source: the folder as the user may type it, empty for the current one.
    """
    found: dict[str, str] = {}
    for path in files:
        folder, _, name = path.rpartition("/")
        if not folder or name not in MANIFESTS or set(folder.split("/")) & set(NO_APP):
            continue
        if folder not in found or MANIFESTS.index(name) < MANIFESTS.index(found[folder]):
            found[folder] = name
    best = sorted(found, key=lambda folder: (folder.count("/"), folder))[:2]
    prefix = f"{source.rstrip('/')}/" if source else ""
    return tuple(
        f"./{folder} has a {found[folder]} → hako deploy --source {prefix}{folder}"
        for folder in best
    )


def line_number(output: Sequence[str], text: str) -> int:
    """The number, from 1, of the first line of *output* that holds *text*; 0 if none does."""
    return next((n for n, line in enumerate(output, 1) if text and text in line), 0)


def with_advice(message: str, sources: Mapping[str, str]) -> str:
    """*message* of a revision that does not listen on its port, its `fix` naming the source's own line if that says so.

    Args:
        sources: the text of each source file by its path.
    """
    if "does not listen on $PORT" not in message:
        return message
    ports = {int(port) for port in re.findall(r"[\d\]]:(\d+)", _seen_line(message))}
    advice = find_advice(sources, ports)
    return message if advice is None else _replace_fix(message, advice)


def with_log_command(message: str, service: str) -> str:
    """*message* of a revision that failed, its `log` line led by the command that shows the whole log."""
    revision = message.partition(" ")[0]
    command = f"hako logs {service} --revision {revision}"
    return re.sub(
        r"(?m)^  log    last: (.*)$", rf'  log    {command} · last: "\1"', message, count=1
    )


def _seen_line(message: str) -> str:
    return next((line for line in message.splitlines() if line.startswith("  seen ")), "")


def _replace_fix(message: str, advice: Advice) -> str:
    fix = f"  fix    {advice.path}:{advice.line}  {advice.code}"
    lines = message.splitlines()
    places = [n for n, line in enumerate(lines) if line.startswith("  fix ")]
    if places:
        lines[places[0]] = fix
    else:
        lines.insert(2, fix)
    return "\n".join(lines)
