"""What executables of buildpacks print: passed on line by line, and searched for the line that says why."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from hakobune.progress import Progress

LONGEST_LINE = 64 << 10


class Lines(msgspec.Struct):
    """Passes output on line by line, and keeps the end of it for an error."""

    progress: Progress
    kept: list[str] = msgspec.field(default_factory=list)
    rest: bytes = b""

    def feed(self, chunk: bytes) -> None:
        *lines, self.rest = (self.rest + chunk).split(b"\n")
        for line in lines:
            self._tell(line)
        if len(self.rest) > LONGEST_LINE:
            self.end()

    def end(self) -> None:
        if self.rest:
            self._tell(self.rest)
        self.rest = b""

    def _tell(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip("\r")
        self.progress.output(text)
        self.kept.append(text)
        if len(self.kept) > 500:
            del self.kept[:250]


_TELLING = re.compile(
    r"\b(error|fatal|failed|failure|cannot|could not|not found|no such|exception|denied|undefined)\b",
    re.IGNORECASE,
)


def telling_line(lines: Sequence[str]) -> str:
    """The line that most likely says why a program failed: the last one that speaks of an error, or the last one."""
    said = [line.strip() for line in lines if line.strip()]
    for line in reversed(said):
        if _TELLING.search(line):
            return line
    return said[-1] if said else ""


def last_lines(lines: Sequence[str], count: int) -> tuple[str, ...]:
    """The last *count* lines that are not empty."""
    return tuple(line.strip() for line in lines if line.strip())[-count:]
