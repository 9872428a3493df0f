"""The one base of every error a person reads, and the exit codes.

Rooms subclass `HakoError` where somebody catches the subclass. The lifecycle's own codes (20-29 detect,
51 build, …) are the platform specification's (CNB platform.md "Outputs"); a test keeps all of them unique.
"""

from __future__ import annotations

from typing import ClassVar


class HakoError(Exception):
    """What failed, why (as known here) and what to do about it.

    Args:
        what: the failure, with the thing named; one line, no final full stop needed.
        why: the cause as it is known where the error is raised.
        fix: an act the reader can perform, or nothing at all.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        lines = [self.what]
        if self.why:
            lines.append(f"  why: {self.why}")
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)


class UsageError(HakoError):
    """The command line, or a value given on it, cannot be understood."""

    exit_code = 2
