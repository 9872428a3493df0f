"""The process that keeps a container's terminal, in a thread and over pipes."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from hakobune.runtime.attach_protocol import Kind, frame, take_frames
from hakobune.runtime.attendant import Attendant, Source


class World:
    """A program that only sleeps, and an attendant that believes it is a container."""

    def __init__(self, folder: Path, *, owned: bool = False) -> None:
        self.program = subprocess.Popen(["sleep", "100"])
        self.until = os.pidfd_open(self.program.pid)
        self.source, self.output = os.pipe2(os.O_CLOEXEC)
        self.input, self.sink = os.pipe2(os.O_CLOEXEC)
        self.log = folder / "stdout"
        os.mkfifo(self.log)
        self.logged = os.open(self.log, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.path = folder / "a.sock"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.path))
        listener.listen()
        self._listener = listener
        attendant = Attendant(
            self.until,
            listener,
            {self.source: Source(Kind.STDOUT, self.logged)},
            sink=self.sink,
            terminal=None,
            owned=owned,
        )
        self.thread = threading.Thread(target=attendant.run)
        self.thread.start()

    def connect(self, *words: bytes) -> socket.socket:
        """Somebody of whom the attendant has heard."""
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(10)
        peer.connect(str(self.path))
        peer.sendall(b"".join(words) + frame(Kind.READY))
        assert frames(peer, 1) == [(Kind.READY, b"")]
        return peer

    def end(self) -> None:
        self.program.kill()
        self.program.wait(10)
        self.thread.join(10)
        assert not self.thread.is_alive()

    def close(self) -> None:
        self.end()
        self._listener.close()
        for fd in (self.until, self.source, self.output, self.input, self.sink, self.logged):
            with contextlib.suppress(OSError):
                os.close(fd)


@contextlib.contextmanager
def world(folder: Path, *, owned: bool = False) -> Iterator[World]:
    made = World(folder, owned=owned)
    try:
        yield made
    finally:
        made.close()


def frames(peer: socket.socket, count: int) -> list[tuple[Kind, bytes]]:
    received = bytearray()
    found: list[tuple[Kind, bytes]] = []
    while len(found) < count:
        data = peer.recv(65536)
        if not data:
            break
        received += data
        found += list(take_frames(received))
    return found


def test_output_goes_to_the_log_and_to_everybody_who_is_attached(tmp_path: Path) -> None:
    with world(tmp_path) as it, it.connect() as one, it.connect() as two:
        os.write(it.output, b"hello\n")

        assert frames(one, 1) == [(Kind.STDOUT, b"hello\n")]
        assert frames(two, 1) == [(Kind.STDOUT, b"hello\n")]
        assert os.read(it.logged, 100) == b"hello\n"


def test_what_is_typed_goes_in(tmp_path: Path) -> None:
    with world(tmp_path) as it, it.connect() as peer:
        peer.sendall(frame(Kind.INPUT, b"ls\n"))

        assert os.read(it.input, 100) == b"ls\n"


def test_who_talks_nonsense_is_parted_with_and_nobody_else(tmp_path: Path) -> None:
    with world(tmp_path) as it, it.connect() as good, it.connect() as bad:
        bad.sendall(b"GET / HTTP/1.0\r\n\r\n")

        assert bad.recv(100) == b""
        os.write(it.output, b"on\n")
        assert frames(good, 1) == [(Kind.STDOUT, b"on\n")]


def test_the_last_words_are_logged_and_seen_before_it_ends(tmp_path: Path) -> None:
    with world(tmp_path) as it, it.connect() as peer:
        os.write(it.output, b"bye\n")
        it.end()

        assert frames(peer, 1) == [(Kind.STDOUT, b"bye\n")]
        assert os.read(it.logged, 100) == b"bye\n"


def test_it_ends_with_its_owner_unless_that_has_let_it_go(tmp_path: Path) -> None:
    for words, ends in (((frame(Kind.OWN),), True), ((frame(Kind.OWN), frame(Kind.LET_GO)), False)):
        folder = tmp_path / str(ends)
        folder.mkdir()
        with world(folder, owned=True) as it:
            it.connect(*words).close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                it.program.wait(5 if ends else 0.2)

            assert (it.program.poll() is not None) == ends


def test_who_only_looks_on_does_not_end_it(tmp_path: Path) -> None:
    with world(tmp_path) as it:
        it.connect().close()
        it.connect().close()

        assert it.program.poll() is None


def test_a_slow_reader_is_waited_for_and_gets_all(tmp_path: Path) -> None:
    with world(tmp_path) as it, it.connect() as peer:
        data = os.urandom(1 << 16) * 48
        writer = threading.Thread(target=_write_all, args=(it.output, data))
        drain = threading.Thread(target=_drain, args=(it.logged, len(data)))
        writer.start()
        drain.start()
        time.sleep(0.05)
        came = bytearray()
        received = bytearray()
        while len(came) < len(data):
            received += peer.recv(65536)
            for _, content in take_frames(received):
                came += content
        writer.join()
        drain.join()

    assert bytes(came) == data


def test_it_sleeps_when_nothing_happens_even_after_the_output_has_ended(tmp_path: Path) -> None:
    with world(tmp_path) as it, it.connect() as peer:
        os.close(it.output)
        it.connect().close()
        before = time.process_time()
        time.sleep(0.2)
        spent = time.process_time() - before
        it.output = os.open(os.devnull, os.O_WRONLY)
        peer.sendall(frame(Kind.READY))

        assert frames(peer, 1) == [(Kind.READY, b"")]
        assert spent < 0.1


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _drain(fd: int, size: int) -> None:
    while size > 0:
        try:
            size -= len(os.read(fd, 65536))
        except BlockingIOError:
            time.sleep(0.001)
