"""What the buildpack says: steps with reasons, warnings, and errors with what, why and fix."""

from __future__ import annotations

import sys


class BuildpackError(Exception):
    """The build cannot go on; *seen* is the telling line of somebody else's output or file."""

    def __init__(self, what: str, *, seen: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.seen = seen
        self.fix = fix

    def __str__(self) -> str:
        lines = [f"error: {self.what}"]
        if self.seen:
            lines.append(f"  seen: {self.seen}")
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)


def say(text: str) -> None:
    """One line for the person who waits."""
    print(text, flush=True)


def warn(text: str) -> None:
    """One line that deserves attention; the build goes on."""
    print(f"warning: {text}", file=sys.stderr, flush=True)
