"""A person's terminal while a program in a container has it: raw mode, window sizes, and everything put back.

Also the socket on which an OCI runtime hands the container's own terminal over (runtime-spec, runc's
"docs/terminals.md": one descriptor by SCM_RIGHTS).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import struct
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hakobune.errors import HakoError

_HANDOVER_S = 10.0
_LONGEST_SOCKET = 100  # unix(7) has room for 108 bytes with the final NUL, and runc for no more


class NoTerminalError(HakoError):
    """A terminal was asked for where there is none."""


@dataclass(frozen=True, slots=True)
class WindowSize:
    """Rows and columns of characters."""

    rows: int
    columns: int


def window_size(fd: int) -> WindowSize | None:
    """The size of the terminal *fd*; `None` if it is none, or does not know."""
    try:
        answer = fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8))
    except OSError:
        return None
    rows, columns = struct.unpack("HHHH", answer)[:2]
    return WindowSize(rows, columns) if rows and columns else None


def set_window_size(fd: int, size: WindowSize) -> None:
    """Tell the terminal *fd* its size; the programs on it get SIGWINCH."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.columns, 0, 0))


@contextmanager
def raw_mode(fd: int) -> Iterator[None]:
    """Give every key to whoever reads *fd* while the block lasts; what is no terminal stays as it is."""
    if not os.isatty(fd):
        yield
        return
    before = termios.tcgetattr(fd)
    tty.setraw(fd, termios.TCSANOW)
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):  # it was hung up meanwhile
            termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextmanager
def following_size(ours: int, theirs: int) -> Iterator[None]:
    """Keep the terminal *theirs* as large as the terminal *ours* while the block lasts (main thread only)."""

    def copy(*_: object) -> None:
        if size := window_size(ours):
            set_window_size(theirs, size)

    before = signal.signal(signal.SIGWINCH, copy)
    try:
        copy()
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


class TerminalSocket:
    """Where the runtime connects to hand over the terminal that it made for a container. A context manager.

    Attributes:
        path: for the runtime; it is *wanted* unless that is too long.
    """

    def __init__(self, wanted: Path) -> None:
        self.path = wanted
        self._folder: str | None = None
        if len(os.fsencode(wanted)) > _LONGEST_SOCKET:
            self._folder = f"/tmp/hk-{os.urandom(8).hex()}"
            os.mkdir(self._folder, 0o700)
            self.path = Path(self._folder, "terminal")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._listener.bind(str(self.path))
        except OSError:
            self.close()
            raise
        self._listener.listen(1)

    def __enter__(self) -> TerminalSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Be there no more. Idempotent."""
        self._listener.close()
        self.path.unlink(missing_ok=True)
        if self._folder is not None:
            os.rmdir(self._folder)
            self._folder = None

    def receive(self, *, timeout_s: float = _HANDOVER_S) -> int:
        """The descriptor of our end of the terminal; the caller closes it.

        Raises:
            NoTerminalError: the runtime has not handed one over.
        """
        self._listener.settimeout(timeout_s)
        try:
            peer, _ = self._listener.accept()
            with peer:
                peer.settimeout(timeout_s)
                _, descriptors, _, _ = socket.recv_fds(peer, 256, 1)
        except OSError as error:
            raise NoTerminalError("the container got no terminal", why=str(error)) from error
        if not descriptors:
            raise NoTerminalError("the container got no terminal", why="none was handed over")
        os.set_inheritable(descriptors[0], False)
        return descriptors[0]
