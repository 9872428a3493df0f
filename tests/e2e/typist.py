"""A person at a terminal, for tests: starts a command on a pseudo-terminal, types, and reads what is shown."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType


class Typist:
    """*command* on a terminal of its own; ended, however the test ends."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self.shown = b""
        self._ours, theirs = pty.openpty()
        self.before = termios.tcgetattr(theirs)
        self._theirs = os.dup(theirs)
        self.resize(24, 80)
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command], env=env, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)

    def __enter__(self) -> Typist:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)
        os.close(self._ours)
        os.close(self._theirs)

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def settings(self) -> list[object]:
        """The terminal's modes now."""
        return termios.tcgetattr(self._theirs)

    def expect(self, text: str, *, timeout_s: float = 20.0) -> None:
        """Read until *text* has been shown since the last `expect`."""
        deadline = time.monotonic() + timeout_s
        wanted = text.encode()
        while wanted not in self.shown:
            if not self._read(deadline):
                raise AssertionError(f"{text!r} was not shown, but {self.shown!r}")
        self.shown = self.shown.partition(wanted)[2]

    def wait(self, *, timeout_s: float = 20.0) -> int:
        """Read to the end; the exit code."""
        deadline = time.monotonic() + timeout_s
        while self.process.poll() is None and time.monotonic() < deadline:
            self._read(time.monotonic() + 0.05)
        return self.process.wait(max(0.1, deadline - time.monotonic()))

    def _read(self, deadline: float) -> bool:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self._ours], [], [], left)[0]:
            return False
        self.shown += os.read(self._ours, 65536)
        return True


@contextlib.contextmanager
def typing(command: Sequence[str], env: Mapping[str, str]) -> Iterator[Typist]:
    with Typist(command, env) as typist:
        yield typist
