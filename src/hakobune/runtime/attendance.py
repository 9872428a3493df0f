"""A container's attendant as the supervisor sees it: the ends that the container gets, the process, and its end.

The attendant (`attendant`) outlives the supervisor; the next one finds it by pid and start time.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from hakobune.runtime.attach_protocol import SOCKET
from hakobune.runtime.container import ContainerError, ContainerSpec
from hakobune.runtime.launch import closed_pipe
from hakobune.runtime.loop import Callback, Loop
from hakobune.runtime.output import Output
from hakobune.runtime.process import open_process, read_stat
from hakobune.runtime.terminal import TerminalSocket

_MODULE = "hakobune.runtime.attendant"
_HANDOVER_S = 1.0  # the runtime has ended when we ask, so the terminal is there
_LAST_WORDS_S = 12.0  # longer than the attendant itself waits for anybody


class Preparation:
    """What is open while a container that shall be attended is made. Close it once the attendant has begun.

    Attributes:
        stdio: for the runtime, and through it for the container; closed with the rest.
        arguments: for the runtime, too.
    """

    def __init__(self, spec: ContainerSpec, folder: Path) -> None:
        self.stdio: dict[int, int] = {}
        self.arguments: tuple[str, ...] = ()
        self._spec = spec
        self._undo = ExitStack()
        self._console: TerminalSocket | None = None
        self._sources: dict[str, int] = {}
        self._sink: int | None = None
        try:
            self._listener = self._undo.enter_context(_listen(folder))
            if spec.terminal:
                self._open_console(folder)
            else:
                self._open_pipes()
        except BaseException:
            self.close()
            raise

    def begin(self, output: Output, *, until: int) -> subprocess.Popen[bytes]:
        """Start the attendant of the container that has been made; *until* is a pidfd of its first process.

        Raises:
            ContainerError, OSError: it cannot be started.
        """
        words, passed = self._words(output, until)
        if self._spec.owned:
            words.append("owned")
        return subprocess.Popen(
            [sys.executable, "-I", "-m", _MODULE, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=passed,
            start_new_session=True,
            cwd="/",
        )

    def close(self) -> None:
        """Give up all of our ends. Idempotent."""
        for fd in self.stdio.values():
            os.close(fd)
        self.stdio.clear()
        self._undo.close()

    def _open_console(self, folder: Path) -> None:
        self._console = self._undo.enter_context(TerminalSocket(folder / "console.sock"))
        self.arguments = ("--console-socket", str(self._console.path))
        self.stdio[0] = closed_pipe()
        for number in (1, 2):
            self.stdio[number] = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)

    def _open_pipes(self) -> None:
        for name, number in (("stdout", 1), ("stderr", 2)):
            self._sources[name], self.stdio[number] = os.pipe2(os.O_CLOEXEC)
            self._undo.callback(os.close, self._sources[name])
            os.fchmod(self.stdio[number], 0o666)  # programs open /dev/stdout by name, as any id
        if self._spec.interactive:
            self.stdio[0], self._sink = os.pipe2(os.O_CLOEXEC)
            self._undo.callback(os.close, self._sink)
        else:
            self.stdio[0] = closed_pipe()

    def _words(self, output: Output, until: int) -> tuple[list[str], list[int]]:
        """The attendant's arguments, and the descriptors that they name."""
        passed = [until, self._listener.fileno()]
        words = [str(fd) for fd in passed]
        if self._console is not None:
            terminal = self._console.receive(timeout_s=_HANDOVER_S)
            self._undo.callback(os.close, terminal)
            self._sources["stdout"] = terminal
            words.append(f"terminal={terminal}")
            self._sink = terminal if self._spec.interactive else None
        if self._sink is not None:
            words.append(f"sink={self._sink}")
            passed.append(self._sink)
        for stream, source in self._sources.items():
            log = output.open_for_attendant(stream)
            self._undo.callback(os.close, log)
            words.append(f"{stream}={source}:{log}")
            passed += [source, log]
        return words, passed


class Attendance:
    """A living attendant."""

    def __init__(self, loop: Loop, pidfd: int, pid: int, start_time: int) -> None:
        self._loop = loop
        self._pidfd = pidfd
        self.pid = pid
        self.start_time = start_time

    @classmethod
    def of_child(cls, loop: Loop, process: subprocess.Popen[bytes]) -> Attendance:
        """That of our own child.

        Raises:
            ContainerError: it has ended already.
        """
        loop.on_child_end(process.pid, partial(setattr, process, "returncode"))
        stat = read_stat(process.pid)
        found = None if stat is None else cls.find(loop, process.pid, stat.start_time)
        if found is None:
            raise ContainerError("the process that keeps a container's terminal has ended")
        return found

    @classmethod
    def find(cls, loop: Loop, pid: int, start_time: int) -> Attendance | None:
        """That very process, or `None` if it has ended."""
        pidfd = open_process(pid, start_time)
        return None if pidfd is None else cls(loop, pidfd, pid, start_time)

    def at_end(self, callback: Callback) -> None:
        """Call once: when it has passed everything on and ended, or has taken too long. It is closed then."""
        timer = self._loop.after(_LAST_WORDS_S, lambda: done())

        def done() -> None:
            timer.cancel()
            self.close()
            callback()

        self._loop.on_readable(self._pidfd, done)

    def close(self) -> None:
        """Watch it no more. Idempotent."""
        if self._pidfd >= 0:
            self._loop.forget(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1


def _listen(folder: Path) -> socket.socket:
    """The socket on which people attach."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    place = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        (folder / SOCKET).unlink(missing_ok=True)
        listener.bind(f"/proc/self/fd/{place}/{SOCKET}")  # a path of any length
        listener.listen(16)
    except BaseException:
        listener.close()
        raise
    finally:
        os.close(place)
    return listener
