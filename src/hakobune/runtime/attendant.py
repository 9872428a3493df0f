"""A process that keeps the terminal and standard input of one container, and carries what people type and see.

Run as `python -I -m hakobune.runtime.attendant UNTIL LISTENER WORD …` over inherited descriptors: *UNTIL* is the pidfd
of the container's first process, a word is `stdout=SOURCE:LOG`, `stderr=SOURCE:LOG`, `terminal=FD`, `sink=FD` or `owned`.
It ends with the container and belongs to it, not to the supervisor: that one may be killed and replaced, and neither the
terminal nor who is attached to it notices. Output goes to the container's log and to everybody who is attached. Each
module that is imported here is paid for by every such container, so there are few.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import socket
import struct
import sys
import time

from hakobune.runtime.attach_protocol import Kind, frame, read_size, take_frames

OWNER_S = 10.0  # how long a container that belongs to a command waits for that command
STALLED_S = 30.0  # how long somebody who reads nothing may hold the container up
_TIOCSWINSZ = 0x5414
_BLOCK = 65536
_MOST_UNSENT = 1 << 20  # then the container waits, as it would for a terminal that is slow
_LAST_LOG_S = 5.0  # for the last words, after the container's end
_LAST_SEEN_S = 2.0
_GONE = select.POLLHUP | select.POLLERR


class Person:
    """A connection of somebody who is attached."""

    __slots__ = ("behind_since", "owns", "received", "socket", "unsent")

    def __init__(self, peer: socket.socket) -> None:
        self.socket = peer
        self.owns = False
        self.received = bytearray()
        self.unsent = bytearray()
        self.behind_since: float | None = None


class Source:
    """One stream of the container's, and the FIFO that leads to its log."""

    __slots__ = ("kind", "log", "unlogged")

    def __init__(self, kind: Kind, log: int) -> None:
        self.kind = kind
        self.log = log
        self.unlogged = bytearray()


class Attendant:
    """Of the container whose first process is *until*, a pidfd.

    Args:
        sources: where its output is read; a terminal is read and written.
        sink: where its input goes, if it has any.
        terminal: its terminal, if it has one.
        owned: it is killed unless a command says in time that it is its own.
    """

    def __init__(
        self,
        until: int,
        listener: socket.socket,
        sources: dict[int, Source],
        *,
        sink: int | None,
        terminal: int | None,
        owned: bool,
    ) -> None:
        self._until = until
        self._listener = listener
        self._sources = sources
        self._logs = tuple(sources.values())
        self._sink = sink
        self._terminal = terminal
        self._typed = bytearray()
        self._people: dict[int, Person] = {}
        self._owner_by = time.monotonic() + OWNER_S if owned else None
        for fd in (*sources, *(() if sink is None else (sink,))):
            os.set_blocking(fd, False)
        listener.setblocking(False)

    def run(self) -> None:
        """Carry until the container has ended and its last words have been passed on."""
        while self._round():
            pass
        for fd in tuple(self._sources):
            while self._read(fd):
                if self._is_behind():
                    self._flush(time.monotonic() + _LAST_LOG_S)
        self._flush(time.monotonic() + _LAST_LOG_S, logs_only=True)
        self._flush(time.monotonic() + _LAST_SEEN_S)
        for person in self._people.values():
            person.socket.close()

    def _round(self) -> bool:
        """Wait for something and do it; says whether the container still lives."""
        ready = self._wait()
        # Who connected before the program began sees all of it: people first, output afterwards.
        if self._listener.fileno() in ready:
            self._greet()
        for fd, event in ready.items():
            if event & select.POLLOUT or (event & _GONE and fd == self._sink):
                self._write(fd)
            if event & (select.POLLIN | _GONE):
                if fd in self._people:
                    self._hear(self._people[fd])
                elif fd in self._sources:
                    self._read(fd)
        now = time.monotonic()
        if self._owner_by is not None and now > self._owner_by:
            self._owner_by = None
            self._signal(signal.SIGKILL)
        self._part_with_stalled(now)
        return self._until not in ready

    def _wait(self) -> dict[int, int]:
        poll = select.poll()
        for fd, events in self._interests().items():
            poll.register(fd, events)
        return dict(poll.poll(self._patience_ms()))

    def _interests(self) -> dict[int, int]:
        interests = {self._until: select.POLLIN, self._listener.fileno(): select.POLLIN}
        if not self._is_behind():  # an ended stream is reported for ever, so it is not asked about
            interests.update(dict.fromkeys(self._sources, select.POLLIN))
        for source in self._logs:
            if source.unlogged:
                interests[source.log] = select.POLLOUT
        for fd, person in self._people.items():
            reads = select.POLLIN if len(self._typed) < _BLOCK else 0
            interests[fd] = reads | (select.POLLOUT if person.unsent else 0)
        if self._typed and self._sink is not None:
            interests[self._sink] = interests.get(self._sink, 0) | select.POLLOUT
        return interests

    def _patience_ms(self) -> float | None:
        """Until when something has to be done though nothing happens; `None` is for ever."""
        deadlines = [] if self._owner_by is None else [self._owner_by]
        for person in self._people.values():
            if person.behind_since is not None:
                deadlines.append(person.behind_since + STALLED_S)
        if not deadlines:
            return None
        return max(0.0, min(deadlines) - time.monotonic()) * 1000 + 1

    def _is_behind(self) -> bool:
        return any(len(source.unlogged) > _MOST_UNSENT for source in self._logs) or any(
            len(person.unsent) > _MOST_UNSENT for person in self._people.values()
        )

    def _flush(self, deadline: float, *, logs_only: bool = False) -> None:
        """Write what is unwritten, as long as somebody takes it."""
        while (left := deadline - time.monotonic()) > 0:
            writing = [source.log for source in self._logs if source.unlogged]
            if not logs_only:
                writing += [fd for fd, person in self._people.items() if person.unsent]
            if not writing:
                return
            for fd in select.select([], writing, [], left)[1]:
                self._write(fd)

    def _read(self, fd: int) -> bool:
        """Pass a block on; says whether there was one."""
        try:
            data = os.read(fd, _BLOCK)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.EIO:  # a terminal that no program has open any more
                raise
            data = b""
        source = self._sources[fd]
        if not data:
            del self._sources[fd]
            return False
        source.unlogged += data
        self._write(source.log)
        for person in tuple(self._people.values()):
            person.unsent += frame(source.kind, data)
            self._send(person)
        return True

    def _write(self, fd: int) -> None:
        if fd in self._people:
            self._send(self._people[fd])
            return
        buffers = [source.unlogged for source in self._logs if source.log == fd]
        if fd == self._sink:
            buffers.append(self._typed)
        for buffer in buffers:
            try:
                while buffer:
                    del buffer[: os.write(fd, buffer[:_BLOCK])]
            except BlockingIOError:
                pass
            except OSError:  # the program has closed its input
                buffer.clear()

    def _signal(self, number: int) -> None:
        try:
            signal.pidfd_send_signal(self._until, number)
        except ProcessLookupError:
            pass

    def _greet(self) -> None:
        try:
            while True:
                peer, _ = self._listener.accept()
                peer.setblocking(False)
                self._people[peer.fileno()] = Person(peer)
        except OSError:  # nobody is left who waits, or no descriptor is
            pass

    def _hear(self, person: Person) -> None:
        try:
            data = person.socket.recv(_BLOCK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        person.received += data
        try:
            for kind, content in take_frames(person.received):
                self._obey(person, kind, content)
        except ValueError:
            data = b""
        if not data:
            self._part(person)

    def _obey(self, person: Person, kind: Kind, data: bytes) -> None:
        if kind is Kind.INPUT and self._sink is not None:
            self._typed += data
            self._write(self._sink)
        elif kind is Kind.SIZE and self._terminal is not None:
            self._resize(*read_size(data))
        elif kind is Kind.SIGNAL and len(data) == 1 and 0 < data[0] < signal.NSIG:
            self._signal(data[0])
        elif kind is Kind.READY:
            person.unsent += frame(Kind.READY)
            self._send(person)
        elif kind is Kind.OWN:
            person.owns, self._owner_by = True, None
        elif kind is Kind.LET_GO:
            person.owns = False

    def _resize(self, rows: int, columns: int) -> None:
        assert self._terminal is not None
        size = struct.pack("HHHH", rows, columns, 0, 0)
        try:
            fcntl.ioctl(self._terminal, _TIOCSWINSZ, size)
        except OSError:
            pass

    def _send(self, person: Person) -> None:
        try:
            while person.unsent:
                del person.unsent[: person.socket.send(person.unsent[:_BLOCK])]
                person.behind_since = None
        except BlockingIOError:
            if person.behind_since is None:
                person.behind_since = time.monotonic()
        except OSError:
            self._part(person)

    def _part_with_stalled(self, now: float) -> None:
        """A container must not wait for ever for somebody who only looks on."""
        for person in tuple(self._people.values()):
            if person.behind_since is not None and now > person.behind_since + STALLED_S:
                if person.owns or len(person.unsent) < _MOST_UNSENT:
                    person.behind_since = now
                else:
                    self._part(person)

    def _part(self, person: Person) -> None:
        if self._people.pop(person.socket.fileno(), None) is None:
            return
        person.socket.close()
        if person.owns:
            self._signal(signal.SIGKILL)


def main(argv: list[str]) -> int:
    """Attend what the words describe."""
    sources: dict[int, Source] = {}
    numbers: dict[str, int] = {}
    for word in argv[2:]:
        name, _, value = word.partition("=")
        if name in ("stdout", "stderr"):
            source, log = value.split(":")
            sources[int(source)] = Source(Kind[name.upper()], int(log))
        else:
            numbers[name] = int(value or 1)
    attendant = Attendant(
        int(argv[0]),
        socket.socket(fileno=int(argv[1])),
        sources,
        sink=numbers.get("sink"),
        terminal=numbers.get("terminal"),
        owned="owned" in numbers,
    )
    attendant.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
