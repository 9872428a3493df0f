"""A container's output: two FIFOs that are never closed at the writing end, read line by line into a log file.

The container holds them open for reading and writing, so it never sees a broken pipe and nothing is lost
while no supervisor runs (pipe(7), fifo(7)).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from functools import partial
from pathlib import Path

from hakobune.runtime.logs import LineSplitter, LogFile, encode_record
from hakobune.runtime.loop import Loop

STREAMS = ("stdout", "stderr")
_PIPE_BYTES = 256 << 10
_READ_BYTES = 64 << 10


class Output:
    """Reads both streams of one container in *folder* into *log*."""

    def __init__(self, loop: Loop, folder: Path, id: str, log: LogFile) -> None:
        self._loop = loop
        self._folder = folder
        self._id = id
        self._log = log
        self._splitters = {stream: LineSplitter() for stream in STREAMS}
        self._fds = {stream: self._open(stream) for stream in STREAMS}
        for stream, fd in self._fds.items():
            loop.on_readable(fd, partial(self._read, stream))

    def open_for_container(self, stream: str) -> int:
        """A blocking descriptor for the container's first process; the caller closes it."""
        return os.open(self._folder / stream, os.O_RDWR | os.O_CLOEXEC)

    def open_for_attendant(self, stream: str) -> int:
        """The same, not blocking, for who writes in the container's stead; the caller closes it."""
        return os.open(self._folder / stream, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def finish(self) -> None:
        """Read what is left after the container's last process, and close."""
        for stream in STREAMS:
            while self._read(stream):
                pass
            self._write(stream, list(self._splitters[stream].finish()))
        self.close()
        for stream in STREAMS:
            (self._folder / stream).unlink(missing_ok=True)

    def pause(self) -> None:
        """Write what has been read so far, so that another process may go on reading."""
        for stream in STREAMS:
            rest = [(line, True) for line, _ in self._splitters[stream].finish()]
            self._write(stream, rest)

    def peek(self, stream: str) -> str:
        """What has been said on *stream* and not been read yet; it is gone from the log then."""
        try:
            return os.read(self._fds[stream], _READ_BYTES).decode(errors="replace")
        except BlockingIOError:
            return ""

    def close(self) -> None:
        for fd in self._fds.values():
            self._loop.forget(fd)
            os.close(fd)
        self._fds.clear()

    def _open(self, stream: str) -> int:
        path = self._folder / stream
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path)
            # Programs open /dev/stdout by name, as any id of the range; the folder keeps everybody else out.
            path.chmod(0o666)
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        return fd

    def _read(self, stream: str) -> bool:
        try:
            data = os.read(self._fds[stream], _READ_BYTES)
        except BlockingIOError:
            return False
        self._write(stream, list(self._splitters[stream].feed(data)))
        return bool(data)

    def _write(self, stream: str, lines: list[tuple[bytes, bool]]) -> None:
        if not lines:
            return
        now = time.time()
        self._log.append(
            b"".join(
                encode_record(now, self._id, stream, line, partial=partial)
                for line, partial in lines
            )
        )
