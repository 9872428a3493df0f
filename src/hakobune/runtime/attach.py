"""A person's command in front of a container that has an attendant: keys and window sizes in, output out, and leaving it.

Frames of `attach_protocol` on the container's socket. One thread and poll(2); signals arrive over a pipe.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from hakobune.runtime.attach_protocol import SOCKET, Kind, frame, size_frame, take_frames
from hakobune.runtime.container import ContainerError
from hakobune.runtime.container_end import ContainerEnd
from hakobune.runtime.detach_keys import DetachFilter
from hakobune.runtime.forwarded import FORWARDED, PATIENCE
from hakobune.runtime.relay import HungUpError, write_all
from hakobune.runtime.terminal import NoTerminalError, raw_mode, window_size

_BLOCK = 65536
_READY_S = 20.0


class Left(Enum):
    """How a session ended."""

    ENDED = "ended"
    """The container has ended, or the process that keeps its terminal."""
    DETACHED = "detached"
    """The person typed the keys; the container runs on."""
    HUNG_UP = "hung up"
    """The person's terminal or patience has gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """What of the command's the container is shown on.

    Args:
        stdin: what is typed; `None` is nothing.
        terminal: the container's streams are a terminal; ours is raw meanwhile.
        keys: what leaves the container when it is typed; only at a terminal.
        signals: our signals are the container's.
        owner: the container ends with the session, unless it is left by the keys.
    """

    stdin: int | None
    stdout: int
    stderr: int
    terminal: bool
    keys: bytes
    signals: bool
    owner: bool = False


class Session:
    """One connection to the attendant of the container in *folder*. A context manager.

    Raises:
        NoTerminalError: somebody shall type, and there is no terminal.
        ContainerError: nobody attends the container (any more).
    """

    def __init__(self, folder: Path, front: Front) -> None:
        if front.terminal and front.stdin is not None and not os.isatty(front.stdin):
            raise NoTerminalError(
                "the input is not a terminal",
                why="the container has a terminal, and believes that somebody types",
                fix="attach from a terminal, or give no input (--no-stdin, or without -i)",
            )
        self._id = folder.name
        self._front = front
        self._socket = _connect(folder)
        self._received = bytearray()
        self._unsent = bytearray()
        self._filter = DetachFilter(front.keys if front.terminal else b"")
        self._asked: list[int] = []
        self._is_ready = False
        self._left: Left | None = None
        self._typing = front.stdin is not None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def prepare(self, *, redraw: bool) -> None:
        """Return when the attendant has heard of us and of our window: from now on all output comes here.

        Args:
            redraw: programs that draw the screen are made to draw it again.
        """
        if self._front.owner:
            self._send(frame(Kind.OWN))
        self._tell_size(redraw=redraw)
        self._send(frame(Kind.READY))
        deadline = time.monotonic() + _READY_S
        while not self._is_ready and self._left is None:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._socket], [], [], left)[0]:
                raise ContainerError(
                    f"cannot attach to the container {self._id!r}",
                    why="the process that keeps its terminal does not answer",
                    fix=f"hako container exec -it {self._id} sh starts another program in it",
                )
            self._hear()

    def carry(self, end: ContainerEnd, let_go: Callable[[], bool]) -> Left:
        """Carry until the end.

        Args:
            end: of this container, kept asked for meanwhile.
            let_go: called when the keys were typed; says whether the container may be left.
        """
        with ExitStack() as undo:
            wake = undo.enter_context(_signals(self._handled()))
            if self._front.stdin is not None and self._front.terminal:
                undo.enter_context(raw_mode(self._front.stdin))
            while self._left is None:
                self._round(wake, end)
                if self._filter.found and self._left is None:
                    if let_go():
                        self._send(frame(Kind.LET_GO))
                        self._left = Left.DETACHED
                    else:
                        self._filter.found = False
            return self._left

    def _round(self, wake: int, end: ContainerEnd) -> None:
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        poll.register(self._socket, select.POLLIN | (select.POLLOUT if self._unsent else 0))
        if self._typing and self._front.stdin is not None and len(self._unsent) < _BLOCK:
            poll.register(self._front.stdin, select.POLLIN)
        for connection in end.waiting:
            poll.register(connection, select.POLLIN)
        patience_s = end.patience_s
        ready = dict(poll.poll(None if patience_s is None else patience_s * 1000 + 1))
        # Asked for in any case: a signal that came before a key may be in the pipe only after poll(2) has looked.
        with contextlib.suppress(BlockingIOError):
            for number in os.read(wake, 4096):
                self._on_signal(number)
        if patience_s is not None or any(c.fileno() in ready for c in end.waiting):
            end.look()
        if ready.get(self._socket.fileno(), 0) & ~select.POLLOUT:
            self._hear()
        self._flush()
        if self._front.stdin in ready and self._left is None:
            self._type(self._front.stdin)

    def _hear(self) -> None:
        """Show what has come."""
        try:
            data = self._socket.recv(_BLOCK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._left = Left.ENDED
            return
        self._received += data
        try:
            for kind, content in take_frames(self._received):
                self._show(kind, content)
        except ValueError:  # an attendant of another version
            self._left = Left.ENDED
        except HungUpError:
            self._left = Left.HUNG_UP

    def _show(self, kind: Kind, content: bytes) -> None:
        if kind is Kind.READY:
            self._is_ready = True
        else:
            to = self._front.stderr if kind is Kind.STDERR else self._front.stdout
            write_all(to, content)

    def _type(self, stdin: int | None) -> None:
        assert stdin is not None
        try:
            data = os.read(stdin, _BLOCK)
        except BlockingIOError:
            return
        except OSError:  # our terminal was hung up
            data = b""
        if data:
            if passed := self._filter.feed(data):
                self._send(frame(Kind.INPUT, passed))
        elif self._front.terminal:
            self._left = Left.HUNG_UP
        else:
            self._typing = False  # the program's input stays open for whoever comes next

    def _on_signal(self, number: int) -> None:
        if number not in self._handled():
            return
        if number == signal.SIGWINCH:
            self._tell_size(redraw=False)
        elif self._front.owner and number in (signal.SIGINT, signal.SIGTERM):
            self._asked.append(number)
            if len(self._asked) >= PATIENCE:
                self._left = Left.HUNG_UP
        if number != signal.SIGWINCH:
            self._send(frame(Kind.SIGNAL, bytes([number])))

    def _tell_size(self, *, redraw: bool) -> None:
        if not self._front.terminal:
            return
        ours = self._front.stdout if os.isatty(self._front.stdout) else self._front.stdin
        size = None if ours is None else window_size(ours)
        if size is None:
            return
        if redraw:  # the same size again would tell the programs nothing
            self._send(size_frame(size.rows + 1, size.columns))
        self._send(size_frame(size.rows, size.columns))

    def _send(self, data: bytes) -> None:
        self._unsent += data
        self._flush()

    def _flush(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:  # what it said last is still to be read
            self._unsent.clear()

    def _handled(self) -> tuple[int, ...]:
        """The signals that are ours while we carry."""
        sizes = (signal.SIGWINCH,) if self._front.terminal else ()
        return (*sizes, *(FORWARDED if self._front.signals else ()))


def _connect(folder: Path) -> socket.socket:
    try:
        place = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _unattended(folder.name, error) from error
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        peer.connect(f"/proc/self/fd/{place}/{SOCKET}")  # a path of any length
    except OSError as error:
        peer.close()
        raise _unattended(folder.name, error) from error
    finally:
        os.close(place)
    peer.setblocking(False)
    return peer


def _unattended(id: str, error: OSError) -> ContainerError:
    what = f"cannot attach to the container {id!r}"
    if isinstance(error, PermissionError):
        return ContainerError(
            what, why="its terminal is root's", fix=f"sudo hako container attach {id}"
        )
    return ContainerError(
        what,
        why="the process that kept its terminal or its input has ended",
        fix=f"hako container stop {id}, then hako container start -a {id}",
    )


@contextmanager
def _signals(numbers: tuple[int, ...]) -> Iterator[int]:
    """Yields a pipe in which every signal that comes is a byte, its number; *numbers* do nothing else meanwhile."""
    wake, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    woken_before = signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    try:
        yield wake
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(woken_before)
        os.close(wake)
        os.close(waker)
