"""Listening sockets that the supervisor holds: whoever is killed, a connection waits and is answered."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hakobune.cli.serve import stop_all
from hakobune.runtime.container import ContainerError
from hakobune.runtime.program import restart_delay
from hakobune.runtime.supervisor_client import SupervisorClient
from tests.e2e.installation import free_ports
from tests.supervised import Supervised, is_alive, supervised, wait_for

pytestmark = pytest.mark.needs_root

# Answers with its pid, the number of its sockets, and the one that the connection came by.
PROGRAM = """
import os, selectors, socket
assert os.environ["LISTEN_PID"] == str(os.getpid())
chosen = selectors.DefaultSelector()
for n in range(int(os.environ["LISTEN_FDS"])):
    chosen.register(socket.socket(fileno=3 + n), selectors.EVENT_READ, n)
while True:
    for key, _ in chosen.select():
        peer, _ = key.fileobj.accept()
        peer.sendall(f"{os.getpid()} {len(chosen.get_map())} {key.data}".encode())
        peer.close()
"""
COMMAND = [sys.executable, "-I", "-c", PROGRAM]


@pytest.fixture
def world(root: Path) -> Iterator[Supervised]:
    with supervised(root) as world:
        yield world


@pytest.fixture(scope="module")
def port() -> int:
    return free_ports(2)


def say(port: int, host: str = "127.0.0.1") -> tuple[int, int, int]:
    """What the program answers to a connection: its pid, how many sockets it has, which of them this came by."""
    with socket.create_connection((host, port), timeout=10) as connection:
        pid, count, number = connection.recv(100).split()
    return int(pid), int(count), int(number)


def say_at(path: Path) -> tuple[int, int, int]:
    """The same for a unix socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        pid, count, number = connection.recv(100).split()
    return int(pid), int(count), int(number)


def kill_program(client: SupervisorClient) -> int:
    (program,) = client.programs()
    assert program.pid
    os.kill(program.pid, signal.SIGKILL)
    return program.pid


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_program_finds_its_sockets_in_the_order_in_which_they_were_asked_for(
    world: Supervised, port: int
) -> None:
    client = world.start()
    addresses = [f"127.0.0.1:{port}", f"[::1]:{port}", f"127.0.0.1:{port + 1}"]

    program = client.start_program("talker", COMMAND, listen=addresses)

    assert say(port) == (program.pid, 3, 0)
    assert say(port, "::1") == (program.pid, 3, 1)
    assert say(port + 1) == (program.pid, 3, 2)
    assert client.programs()[0].listen == tuple(addresses)


def test_connections_wait_while_a_program_is_started_again(world: Supervised, port: int) -> None:
    client = world.start()
    client.start_program("talker", COMMAND, listen=[f"127.0.0.1:{port}"])
    say(port)

    for _ in range(3):
        killed = kill_program(client)
        assert say(port)[0] != killed


def test_the_sockets_outlive_the_supervisor_and_the_next_one_holds_them(
    world: Supervised, port: int
) -> None:
    client = world.start()
    program = client.start_program("talker", COMMAND, listen=[f"127.0.0.1:{port}"])
    say(port)

    world.kill()
    assert say(port)[0] == program.pid
    client = world.start()

    killed = kill_program(client)
    assert say(port)[0] != killed


def test_an_upgrade_keeps_the_sockets(world: Supervised, port: int) -> None:
    client = world.start()
    client.start_program("talker", COMMAND, listen=[f"127.0.0.1:{port}"])
    say(port)
    started = client.hello()["started_at"]

    killed = kill_program(client)
    client.upgrade()
    assert say(port)[0] != killed
    client = world.connect()
    wait_for(lambda: client.hello()["started_at"] > started, "the new program answers")

    killed = kill_program(client)
    assert say(port)[0] != killed


def test_when_supervisor_and_program_are_both_dead_the_next_supervisor_opens_them_anew(
    world: Supervised, port: int
) -> None:
    client = world.start()
    client.start_program("talker", COMMAND, listen=[f"127.0.0.1:{port}"])
    killed = say(port)[0]
    world.kill()
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: not is_alive(killed) and not listens(port), "nobody listens")

    world.start()

    assert say(port)[0] != killed


def test_a_program_whose_address_was_taken_meanwhile_runs_when_it_is_free(
    world: Supervised, port: int
) -> None:
    client = world.start()
    client.start_program("talker", COMMAND, listen=[f"127.0.0.1:{port}"])
    killed = say(port)[0]
    world.kill()
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: not is_alive(killed) and not listens(port), "nobody listens")

    with socket.create_server(("127.0.0.1", port)):
        client = world.start()
        assert not client.programs()[0].running
        assert "cannot listen on" in Path(client.programs()[0].log_path).read_text()

    wait_for(lambda: client.programs()[0].running, "it is started when the address is free")
    assert say(port)[1:] == (1, 0)


def test_an_address_that_another_program_has_is_refused_and_changes_nothing(
    world: Supervised, port: int
) -> None:
    client = world.start()
    first = client.start_program("talker", COMMAND, listen=[f"127.0.0.1:{port}"])
    both = [f"127.0.0.1:{port}", f"127.0.0.1:{port + 1}"]

    with (
        socket.create_server(("127.0.0.1", port + 1)),
        pytest.raises(ContainerError, match="cannot listen on") as refusal,
    ):
        client.start_program("talker", COMMAND, listen=both)

    assert refusal.value.kind == "in_use"
    assert say(port) == (first.pid, 1, 0)
    client.start_program("talker", COMMAND, listen=both)
    wait_for(lambda: client.programs()[0].pid not in (None, first.pid), "it is replaced")
    assert say(port + 1)[1:] == (2, 1)


def test_a_unix_socket_is_held_like_any_other_and_goes_when_its_program_is_stopped(
    world: Supervised, port: int
) -> None:
    client = world.start()
    path = world.settings.run / "talker.sock"
    program = client.start_program("talker", COMMAND, listen=[f"127.0.0.1:{port}", str(path)])
    assert say_at(path) == (program.pid, 2, 1)

    world.kill()
    client = world.start()
    killed = kill_program(client)

    assert say_at(path)[0] != killed
    client.stop_program("talker")
    assert not path.exists()


def test_a_socket_file_that_a_dead_program_has_left_is_replaced(
    world: Supervised, port: int
) -> None:
    client = world.start()
    path = world.settings.run / "talker.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))

    program = client.start_program("talker", COMMAND, listen=[str(path)])

    assert say_at(path) == (program.pid, 1, 0)
    with pytest.raises(ContainerError, match="cannot listen on"):
        client.start_program("other", COMMAND, listen=[str(path)])


def test_a_program_that_is_started_lazily_runs_from_the_first_connection_on(
    world: Supervised, port: int
) -> None:
    client = world.start()
    both = [f"127.0.0.1:{port}", f"127.0.0.1:{port + 1}"]

    assert not client.start_program("talker", COMMAND, listen=both, lazily=True).running
    assert not client.start_program("talker", COMMAND, listen=both, lazily=True).running
    pid, *rest = say(port + 1)

    assert rest == [2, 1]
    program = client.start_program("talker", COMMAND, listen=both, lazily=True)
    assert (program.pid, program.restarts) == (pid, 0)
    killed = kill_program(client)
    wait_for(lambda: client.programs()[0].pid not in (None, killed), "it is kept running now")


def test_a_program_that_nobody_has_asked_yet_can_be_stopped_and_replaced(
    world: Supervised, port: int
) -> None:
    client = world.start()
    both = [f"127.0.0.1:{port}", f"127.0.0.1:{port + 1}"]
    client.start_program("talker", COMMAND, listen=both[:1], lazily=True)

    client.start_program("talker", COMMAND, listen=both[1:], lazily=True)

    assert not listens(port)
    assert say(port + 1)[1:] == (1, 0)
    client.stop_program("talker")
    client.start_program("talker", COMMAND, listen=both, lazily=True)
    client.stop_program("talker")
    assert not listens(port)
    assert not client.programs()


def test_what_is_stopped_listens_no_more(world: Supervised, port: int) -> None:
    client = world.start()
    both = [f"127.0.0.1:{port}", f"127.0.0.1:{port + 1}"]
    client.start_program("talker", COMMAND, listen=both[:1])
    client.start_program("other", COMMAND, listen=both[1:])
    say(port)
    say(port + 1)

    client.stop_program("talker")
    assert not listens(port)
    stop_all(world.settings)
    assert not listens(port + 1)


def test_a_program_that_is_asked_for_before_its_restart_is_due_runs_once(
    world: Supervised, tmp_path: Path
) -> None:
    client = world.start()
    good = tmp_path / "good"
    script = f"echo $$; test -e {good} || exit 1; exec sleep 1000"
    client.start_program("flapping", ["/bin/sh", "-c", script])
    wait_for(lambda: client.programs()[0].restarts >= 4, "its next restart is far")
    wait_for(lambda: not client.programs()[0].running, "it has ended again")
    good.touch()

    program = client.start_program("flapping", ["/bin/sh", "-c", script])
    time.sleep(restart_delay(6) + 0.2)

    pids = [int(pid) for pid in Path(program.log_path).read_text().split()]
    assert [pid for pid in pids if is_alive(pid)] == [program.pid]
