"""Which warnings are wanted: `# check=…` at the top of a Dockerfile, or right above one instruction (Dockerfile reference "check")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from hakobune.dockerfile.errors import TextError, did_you_mean
from hakobune.dockerfile.instructions import Dockerfile, LintWarning

_TRUE, _FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")
_EXPERIMENTAL = frozenset({"InvalidDefinitionDescription"})
_PAGES = "https://docs.docker.com/go/dockerfile/rule/"


class Checks(Struct, frozen=True):
    """`skip=RULE,RULE;error=true;experimental=RULE`.

    Attributes:
        skipped: rules that are not wanted; `all` is every one.
        experimental: rules that are wanted only if they are named; `all` likewise.
        error: a warning fails the build.
    """

    skipped: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()
    error: bool = False

    @classmethod
    def parse(cls, text: str) -> Checks:
        """Read the directive's value.

        Raises:
            TextError: it has no such option, or `error` is neither true nor false.
        """
        checks = cls()
        for part in filter(None, (part.strip() for part in text.split(";"))):
            key, equals, value = (piece.strip() for piece in part.partition("="))
            names = frozenset(name.strip() for name in value.split(","))
            if key == "skip" and equals:
                checks = cls(checks.skipped | names, checks.experimental, checks.error)
            elif key == "experimental" and equals:
                checks = cls(checks.skipped, checks.experimental | names, checks.error)
            elif key == "error" and value in (*_TRUE, *_FALSE):
                checks = cls(checks.skipped, checks.experimental, value in _TRUE)
            elif key == "error":
                raise TextError(
                    f"error={value} is neither true nor false",
                    near=value,
                    fix="write # check=error=true",
                )
            else:
                raise TextError(
                    f"unknown check option {key!r}",
                    near=key,
                    fix=did_you_mean(key, ("skip", "error", "experimental"))
                    or "write # check=skip=RULE,RULE;error=true",
                )
        return checks

    @classmethod
    def of(cls, directives: Mapping[str, str]) -> Checks:
        """What a file's `check` directive says, which has been read before."""
        return cls.parse(directives.get("check", ""))

    def wants(self, rule: str) -> bool:
        if rule in _EXPERIMENTAL and not self.experimental & {rule, "all"}:
            return False
        return not self.skipped & {rule, "all"}

    def joined(self, other: Checks) -> Checks:
        """These and *other*."""
        return Checks(
            self.skipped | other.skipped,
            self.experimental | other.experimental,
            self.error or other.error,
        )


def wanted(dockerfile: Dockerfile, warnings: Iterable[LintWarning]) -> tuple[LintWarning, ...]:
    """Those that neither the file nor a comment above their instruction skips, in order of their lines."""
    whole = Checks.of(dockerfile.directives)
    kept = [
        one
        for one in warnings
        if whole.joined(_above(dockerfile.line_checks, one.at.line)).wants(one.rule)
    ]
    return tuple(sorted(kept, key=lambda one: one.at.line))


def _above(line_checks: Mapping[int, str], line: int) -> Checks:
    try:
        return Checks.parse(line_checks.get(line, ""))
    except TextError:
        return Checks()  # a comment like any other


def page_of(rule: str) -> str:
    """Where Docker's documentation explains a rule: `JSONArgsRecommended` → `…/json-args-recommended/`."""
    words = ""
    for before, here, after in zip(" " + rule, rule, rule[1:] + " ", strict=False):
        begins = here.isupper() and (before.islower() or (before.isupper() and after.islower()))
        words += ("-" if begins else "") + here.lower()
    return f"{_PAGES}{words.strip('-')}/"
