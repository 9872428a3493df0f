"""The standard streams of a process in a container that we stand before: pipes, or a terminal of its own.

Both are used alike: `inner` goes to the process by its numbers, `arguments` to the runtime; `using` wraps the time in
which the process lives, and yields what is called when it has been made.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from hakobune.runtime.detach_keys import DetachFilter
from hakobune.runtime.launch import closed_pipe
from hakobune.runtime.relay import Relay
from hakobune.runtime.terminal import (
    NoTerminalError,
    TerminalSocket,
    following_size,
    raw_mode,
)

Begin = Callable[[Relay], None]


class Streams(ABC):
    """What both kinds share. A context manager; `close_inner` before that, once the process has its ends."""

    arguments: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.inner: dict[int, int] = {}
        self._undo = ExitStack()

    def __enter__(self) -> Streams:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_inner()
        self._undo.close()

    def close_inner(self) -> None:
        for fd in self.inner.values():
            os.close(fd)
        self.inner.clear()

    def close_outer(self) -> None:
        """In a helper that was forked: let our ends go, so that the process sees when we close them."""
        self._undo.pop_all()

    @abstractmethod
    def using(self) -> AbstractContextManager[Begin]:
        """Be there for the process; the yielded function makes a relay carry its streams."""


class PlainStreams(Streams):
    """Pipes: a program may open /dev/stdout by name, and gets nothing of ours that it could do more with."""

    def __init__(self, stdin: int | None, stdout: int, stderr: int) -> None:
        super().__init__()
        self._outputs: dict[int, int] = {}
        self._input: tuple[int, int] | None = None
        self.inner[0] = closed_pipe() if stdin is None else self._stdin(stdin)
        for number, ours in ((1, stdout), (2, stderr)):
            source, self.inner[number] = os.pipe2(os.O_CLOEXEC)
            self._undo.callback(os.close, source)
            os.fchmod(self.inner[number], 0o666)
            self._outputs[source] = ours

    def _stdin(self, stdin: int) -> int:
        """A pipe or file is given as it is; our terminal is not, since one could type into it."""
        if not os.isatty(stdin):
            return os.dup(stdin)
        inner, sink = os.pipe2(os.O_CLOEXEC)
        self._input = (stdin, sink)
        self._undo.callback(self._end_input)
        return inner

    def _end_input(self) -> None:
        if self._input is not None:
            os.close(self._input[1])
            self._input = None

    def close_outer(self) -> None:
        self._undo.close()

    @contextmanager
    def using(self) -> Iterator[Begin]:
        yield self._begin

    def _begin(self, relay: Relay) -> None:
        for source, target in self._outputs.items():
            relay.add_output(source, target)
        if self._input is not None:
            relay.add_input(*self._input, at_end=self._end_input)


class TerminalStreams(Streams):
    """A terminal that the runtime makes in the container; ours is raw and of the same size meanwhile.

    Args:
        leave: called with the terminal when *keys* have been typed.

    Raises:
        NoTerminalError: *stdin* is to be given, and is no terminal.
    """

    def __init__(
        self,
        stdin: int | None,
        stdout: int,
        socket: Path,
        *,
        keys: bytes = b"",
        leave: Callable[[Relay, int], None] | None = None,
    ) -> None:
        super().__init__()
        self._filter = DetachFilter(keys)
        self._leave = leave
        if stdin is not None and not os.isatty(stdin):
            raise NoTerminalError(
                "the input is not a terminal",
                why="-t makes the program believe that somebody types",
                fix="leave -t away: -i alone passes pipes and files on",
            )
        self._stdin = stdin
        self._stdout = stdout
        self._socket = self._undo.enter_context(TerminalSocket(socket))
        self.arguments = ("--console-socket", str(self._socket.path))
        self.inner[0] = closed_pipe()
        self.inner[1] = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        self.inner[2] = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)

    @contextmanager
    def using(self) -> Iterator[Begin]:
        with ExitStack() as undo:

            def begin(relay: Relay) -> None:
                terminal = self._socket.receive()
                undo.callback(os.close, terminal)
                relay.add_output(terminal, self._stdout)
                shown = self._stdout if os.isatty(self._stdout) else self._stdin
                if shown is not None:
                    undo.enter_context(following_size(shown, terminal))
                if self._stdin is not None:
                    undo.enter_context(raw_mode(self._stdin))
                    sink = os.dup(terminal)
                    undo.callback(os.close, sink)

                    def passing(data: bytes) -> bytes:
                        passed = self._filter.feed(data)
                        if self._filter.found and self._leave is not None:
                            self._leave(relay, terminal)
                        return passed

                    relay.add_input(self._stdin, sink, at_end=lambda: None, passing=passing)

            yield begin
