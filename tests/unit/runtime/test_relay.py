"""Streams of a container and ours: each direction by itself, to the end."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from hakobune.runtime.relay import HungUpError, Relay, write_all
from hakobune.runtime.terminal import raw_mode


class Pipes:
    """Pipes of a test; what is still open is closed at its end."""

    def __init__(self) -> None:
        self._open: list[int] = []

    def pipe(self) -> tuple[int, int]:
        ends = os.pipe2(os.O_CLOEXEC)
        self._open += ends
        return ends

    def close(self, fd: int) -> None:
        self._open.remove(fd)
        os.close(fd)

    def close_all(self) -> None:
        for fd in self._open:
            os.close(fd)


@pytest.fixture
def pipes() -> Iterator[Pipes]:
    pipes = Pipes()
    yield pipes
    pipes.close_all()


def _read_all(fd: int) -> bytes:
    return b"".join(iter(lambda: os.read(fd, 65536), b""))


def test_lines_are_heard_whole_and_output_is_copied_to_the_end(pipes: Pipes) -> None:
    reports, report = pipes.pipe()
    source, theirs = pipes.pipe()
    ours, target = pipes.pipe()
    heard: list[bytes] = []
    relay = Relay(reports, heard.append)
    relay.add_output(source, target)
    os.write(report, b"one\ntw")
    os.write(report, b"o\n")
    os.write(theirs, b"output")
    pipes.close(report)  # the last report has been made, and output is left in the pipe

    relay.copy()

    assert heard == [b"one", b"two"]
    assert os.read(ours, 100) == b"output"


def test_it_does_not_wait_for_a_child_that_keeps_the_output_open(pipes: Pipes) -> None:
    reports, report = pipes.pipe()
    source, _theirs = pipes.pipe()
    _ours, target = pipes.pipe()
    relay = Relay(reports, lambda _: None)
    relay.add_output(source, target)
    pipes.close(report)

    relay.copy()  # returns although nobody has closed the pipe


def test_output_goes_on_while_the_container_does_not_read_its_input(pipes: Pipes) -> None:
    reports, report = pipes.pipe()
    source, theirs = pipes.pipe()
    ours, target = pipes.pipe()
    read_by_container, sink = pipes.pipe()
    typed, keyboard = pipes.pipe()
    ended: list[bool] = []
    relay = Relay(reports, lambda _: None)
    relay.add_output(source, target)
    relay.add_input(typed, sink, at_end=lambda: ended.append(True))
    copier = threading.Thread(target=relay.copy)
    copier.start()
    try:
        typist = threading.Thread(target=write_all, args=(keyboard, b"k" * (1 << 20)))
        typist.start()
        os.write(theirs, b"still here")
        assert os.read(ours, 100) == b"still here"
        received = bytearray()
        while len(received) < 1 << 20:
            received += os.read(read_by_container, 65536)
        typist.join(10)
        assert received == b"k" * (1 << 20)
    finally:
        pipes.close(report)
        copier.join(10)
    assert not copier.is_alive()


def test_the_end_of_input_is_told_once(pipes: Pipes) -> None:
    reports, report = pipes.pipe()
    typed, keyboard = pipes.pipe()
    _inner, sink = pipes.pipe()
    ended: list[bool] = []

    def end() -> None:
        ended.append(True)
        pipes.close(report)

    relay = Relay(reports, lambda _: None)
    relay.add_input(typed, sink, at_end=end)
    os.write(keyboard, b"last words")
    pipes.close(keyboard)

    relay.copy()

    assert ended == [True]


def test_input_that_nobody_reads_ends(pipes: Pipes) -> None:
    reports, report = pipes.pipe()
    typed, keyboard = pipes.pipe()
    inner, sink = pipes.pipe()
    pipes.close(inner)

    relay = Relay(reports, lambda _: None)
    relay.add_input(typed, sink, at_end=lambda: pipes.close(report))
    os.write(keyboard, b"x")

    relay.copy()


def test_writing_to_nobody_is_no_error(pipes: Pipes) -> None:
    reader, writer = pipes.pipe()
    pipes.close(reader)

    write_all(writer, b"x")


def test_writing_to_a_terminal_that_has_gone_is_told() -> None:
    keeper, terminal = os.openpty()
    os.close(keeper)

    try:
        with pytest.raises(HungUpError, match="the terminal was hung up"):
            write_all(terminal, b"x")
    finally:
        os.close(terminal)


def test_a_terminal_that_has_gone_meanwhile_needs_no_putting_back() -> None:
    keeper, terminal = os.openpty()

    try:
        with raw_mode(terminal):
            os.close(keeper)
    finally:
        os.close(terminal)


def test_what_is_typed_passes_a_filter_which_may_end_the_copying(pipes: Pipes) -> None:
    reports, _report = pipes.pipe()
    source, typing = pipes.pipe()
    theirs, sink = pipes.pipe()
    relay = Relay(reports, lambda _: None)

    def passing(data: bytes) -> bytes:
        if b"q" in data:
            relay.stop()
        return data.replace(b"q", b"")

    relay.add_input(source, sink, at_end=lambda: None, passing=passing)
    os.write(typing, b"abq")

    relay.copy()

    assert os.read(theirs, 10) == b"ab"
