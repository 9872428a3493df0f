"""The last builds of this installation: what each printed, and how it ended. `hako builds` reads it.

A build is `builds/logs/NUMBER.log`, locked by its builder for as long as it runs, and `NUMBER.json`, written when it
ends. One without the second and without a holder of the lock was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, Literal

import msgspec

from hakobune.errors import HakoError
from hakobune.progress import Progress
from hakobune.support.files import write_atomically

KEPT: Final = 100
State = Literal["running", "succeeded", "failed", "killed"]


class _Begun(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of a log. Times are seconds of the epoch."""

    image: str
    source: str
    began: float


class _Ended(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The document beside it."""

    ended: float
    digest: str = ""
    error: str = ""


class PastBuild(msgspec.Struct, frozen=True, kw_only=True):
    """One build, by its number."""

    number: int
    state: State
    began: float
    image: str
    source: str
    seconds: float | None = None  # None while it runs, and for one that was killed
    digest: str = ""
    error: str = ""


class BuildHistory:
    """The builds of one `HAKO_HOME`."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "builds" / "logs"

    @contextlib.contextmanager
    def recording(self, image: str, source: str, progress: Progress) -> Iterator[RecordingProgress]:
        """Keep what the build inside the block tells *progress*; a build that tells nothing leaves no trace."""
        recording = RecordingProgress(self, image, source, progress)
        try:
            yield recording
        except BaseException as error:
            what = error.what if isinstance(error, HakoError) else "interrupted"
            recording.end(error=what)
            raise
        else:
            recording.end()

    def builds(self) -> tuple[PastBuild, ...]:
        """Every build that is remembered, newest first."""
        found = (self.find(number) for number in sorted(self._numbers(), reverse=True))
        return tuple(build for build in found if build is not None)

    def find(self, number: int) -> PastBuild | None:
        """The build of that number; `None` if there is none, or it has been forgotten."""
        try:
            with open(self._log(number), "rb") as log:
                begun = msgspec.json.decode(log.readline(), type=_Begun)
                running = not _try_lock(log)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None
        try:
            ended = msgspec.json.decode(self._document(number).read_bytes(), type=_Ended)
        except (FileNotFoundError, msgspec.MsgspecError):
            ended = None
        return _describe(number, begun, ended, running=running)

    def last(self, image: str) -> PastBuild | None:
        """The newest build of *image*, named as it was for `recording`."""
        return next((build for build in self.builds() if build.image == image), None)

    def lines(self, number: int) -> tuple[str, ...]:
        """What the build printed so far.

        Raises:
            FileNotFoundError: there is no such build, or it has been forgotten.
        """
        text = self._log(number).read_text(errors="replace")
        return tuple(text.split("\n")[1:-1])

    def begin(self, image: str, source: str) -> tuple[int, IO[bytes]]:
        """The next number and its log, locked; builds older than the last `KEPT` are forgotten."""
        self._folder.mkdir(parents=True, exist_ok=True)
        numbers = self._numbers()
        number, log = self._create(max(numbers, default=0) + 1)
        fcntl.flock(log, fcntl.LOCK_EX)
        log.write(
            msgspec.json.encode(_Begun(image=image, source=source, began=time.time())) + b"\n"
        )
        log.flush()
        for old in numbers:
            if old <= number - KEPT:
                self._log(old).unlink(missing_ok=True)
                self._document(old).unlink(missing_ok=True)
        return number, log

    def end(self, number: int, *, digest: str, error: str) -> None:
        """Say how the build ended; *error* is empty for a good one."""
        ended = _Ended(ended=time.time(), digest=digest, error=error)
        write_atomically(self._document(number), msgspec.json.encode(ended), mode=0o600)

    def _numbers(self) -> tuple[int, ...]:
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return ()
        return tuple(int(n[:-4]) for n in names if n.endswith(".log") and n[:-4].isdecimal())

    def _log(self, number: int) -> Path:
        return self._folder / f"{number}.log"

    def _document(self, number: int) -> Path:
        return self._folder / f"{number}.json"

    def _create(self, number: int) -> tuple[int, IO[bytes]]:
        """A new log of that number, or the next that no other build has taken."""
        while True:
            try:
                return number, open(self._log(number), "xb", opener=_private)
            except FileExistsError:
                number += 1


class RecordingProgress:
    """Passes everything on, and writes it into a build's log; the log begins with the first thing that is told.

    A log that cannot be written (the disk is full) ends there; the build goes on.
    """

    def __init__(self, history: BuildHistory, image: str, source: str, onward: Progress) -> None:
        self._history = history
        self._image = image
        self._source = source
        self._onward = onward
        self._log: IO[bytes] | None = None
        self._number = 0
        self._broken = False
        self.digest = ""  # of the image, once there is one

    def phase(self, name: str, detail: str = "") -> None:
        self._write(f"===> {name} {detail}".rstrip())
        self._onward.phase(name, detail)

    def step(self, text: str) -> None:
        self._write(text)
        self._onward.step(text)

    def bytes(self, what: str, done: int, total: int | None) -> None:
        self._onward.bytes(what, done, total)

    def note(self, text: str, *, warning: bool = False) -> None:
        self._write(f"{'warning' if warning else 'note'}: {text}")
        self._onward.note(text, warning=warning)

    def output(self, line: str) -> None:
        self._write(line)
        self._onward.output(line)

    def end(self, *, error: str = "") -> None:
        """The build has ended; *error* says what failed."""
        if error:
            self._write(f"error: {error}")
        if self._log is not None:
            with contextlib.suppress(OSError), self._log:
                self._history.end(self._number, digest=self.digest, error=error)

    def _write(self, line: str) -> None:
        if self._broken:
            return
        try:
            if self._log is None:
                self._number, self._log = self._history.begin(self._image, self._source)
            self._log.write(line.encode("utf-8", "surrogateescape") + b"\n")
            self._log.flush()
        except OSError:
            self._broken = True


def _describe(number: int, begun: _Begun, ended: _Ended | None, *, running: bool) -> PastBuild:
    build = PastBuild(
        number=number,
        state="running" if running else "killed",
        began=begun.began,
        image=begun.image,
        source=begun.source,
    )
    if ended is None:
        return build
    return msgspec.structs.replace(
        build,
        state="failed" if ended.error else "succeeded",
        seconds=ended.ended - begun.began,
        digest=ended.digest,
        error=ended.error,
    )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _try_lock(log: IO[bytes]) -> bool:
    try:
        fcntl.flock(log, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
