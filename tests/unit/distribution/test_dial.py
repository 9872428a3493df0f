"""Which of a host's addresses a connection goes to, and how long that takes."""

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from hakobune.distribution.dial import Address, dial, take_turns

V4, V6 = socket.AF_INET, socket.AF_INET6


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@contextlib.contextmanager
def silent() -> Iterator[tuple[str, int]]:
    """An address that answers nobody: its queue is full."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.2", 0))
        full.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        time.sleep(0.05)
        yield full.getsockname()


def name_has(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        return [(V4, socket.SOCK_STREAM, 6, "", address) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def refusing() -> tuple[str, int]:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        return gone.getsockname()


def test_families_take_turns_beginning_with_the_first() -> None:
    def addresses(*pairs: tuple[socket.AddressFamily, str]) -> list[Address]:
        return [(family, (name, 1)) for family, name in pairs]

    found = addresses((V6, "a"), (V6, "b"), (V6, "c"), (V4, "d"))
    assert take_turns(found) == addresses((V6, "a"), (V4, "d"), (V6, "b"), (V6, "c"))
    assert take_turns([]) == []


def test_an_address_that_does_not_answer_costs_a_moment(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with silent() as dead:
        name_has(monkeypatch, dead, listener.getsockname())
        before = time.monotonic()
        with dial("registry.test", 443, 10.0) as sock:
            took = time.monotonic() - before
            assert sock.getpeername() == listener.getsockname()
            assert sock.gettimeout() == 10.0
    assert 0.2 < took < 5


def test_an_address_that_refuses_costs_nothing(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_has(monkeypatch, refusing(), listener.getsockname())
    before = time.monotonic()
    with dial("registry.test", 443, 10.0) as sock:
        assert sock.getpeername() == listener.getsockname()
    assert time.monotonic() - before < 0.2


def test_the_error_is_that_of_the_first_address(monkeypatch: pytest.MonkeyPatch) -> None:
    name_has(monkeypatch, refusing(), refusing())
    with pytest.raises(ConnectionRefusedError):
        dial("registry.test", 443, 10.0)


def test_nobody_is_waited_for_longer_than_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with silent() as dead, silent() as other:
        name_has(monkeypatch, dead, other)
        before = time.monotonic()
        with pytest.raises(TimeoutError):
            dial("registry.test", 443, 0.4)
    assert 0.3 < time.monotonic() - before < 3
