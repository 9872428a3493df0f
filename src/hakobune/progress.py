"""Progress as values: what a long piece of work tells the person who waits for it.

Logging is for operators and goes through `logging`; progress is for the person waiting. The command line
draws it, the controller stores it, tests record it (`RecordedProgress`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


class Progress(Protocol):
    """Receives what happens, in order, from one thread at a time."""

    def phase(self, name: str, detail: str = "") -> None:
        """A phase of the work begins; the one before it has ended."""

    def step(self, text: str) -> None:
        """Something was done or decided inside the phase, with its reason."""

    def bytes(self, what: str, done: int, total: int | None) -> None:
        """`done` of `total` bytes of *what* are through; `None` means the total is not known."""

    def note(self, text: str, *, warning: bool = False) -> None:
        """Something the reader should know; it belongs to no step."""

    def output(self, line: str) -> None:
        """One line that a foreign program printed, without its newline. Data, shown as it is."""


class SilentProgress:
    """Tells nobody."""

    def phase(self, name: str, detail: str = "") -> None: ...
    def step(self, text: str) -> None: ...
    def bytes(self, what: str, done: int, total: int | None) -> None: ...
    def note(self, text: str, *, warning: bool = False) -> None: ...
    def output(self, line: str) -> None: ...


@dataclass(slots=True)
class RecordedProgress:
    """Keeps every event as `(kind, text)`, in order."""

    events: list[tuple[str, str]] = field(default_factory=list)

    def phase(self, name: str, detail: str = "") -> None:
        self.events.append(("phase", f"{name} {detail}".rstrip()))

    def step(self, text: str) -> None:
        self.events.append(("step", text))

    def bytes(self, what: str, done: int, total: int | None) -> None:
        self.events.append(("bytes", f"{what} {done}/{total}"))

    def note(self, text: str, *, warning: bool = False) -> None:
        self.events.append(("warning" if warning else "note", text))

    def output(self, line: str) -> None:
        self.events.append(("output", line))

    def texts(self, kind: str) -> tuple[str, ...]:
        """The texts of one kind of event, in order."""
        return tuple(text for k, text in self.events if k == kind)
