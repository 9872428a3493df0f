"""What a build from a Dockerfile tells while it works: steps with their numbers, from several threads."""

from __future__ import annotations

from collections import deque
from threading import Lock

from msgspec import Struct, field

from hakobune.dockerfile.remote_url import without_credentials
from hakobune.progress import Progress

_KEPT_LINES = 20


class StepReport(Struct, eq=False):
    """One step: its banner has been told. Its output is cut into lines; each says whose it is.

    Attributes:
        last: the last lines of its output.
    """

    label: str
    _report: Report
    last: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT_LINES))
    _rest: bytes = b""

    def output(self, data: bytes) -> None:
        """What the step printed, in pieces as they come."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._tell(line)

    def finish(self) -> None:
        """No more output comes."""
        if self._rest:
            self._tell(self._rest)
            self._rest = b""

    def note(self, text: str) -> None:
        """Something that was decided: CACHED, or how long it took."""
        self._report.step(f"{self.label} {text}")

    def _tell(self, line: bytes) -> None:
        text = line.rpartition(b"\r")[2] if line.rstrip(b"\r").count(b"\r") else line.rstrip(b"\r")
        shown = text.decode("utf-8", "replace")
        self.last.append(shown)
        self._report.output(f"{self.label} {shown}")


class Report:
    """Numbers steps and passes on, one thread at a time."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lock = Lock()
        self._number = 0

    def begin(self, banner: str) -> StepReport:
        """A step begins: `#4 [build 2/5] RUN make`."""
        with self._lock:
            self._number += 1
            label = f"#{self._number}"
            self._progress.phase(f"{label} {without_credentials(banner)}")
        return StepReport(label, self)

    def step(self, text: str) -> None:
        with self._lock:
            self._progress.step(text)

    def note(self, text: str, *, warning: bool = False) -> None:
        with self._lock:
            self._progress.note(text, warning=warning)

    def output(self, line: str) -> None:
        with self._lock:
            self._progress.output(line)
