"""Published ports, networks and the verbs on containers, as somebody who knows docker uses them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.containers import container, detached, foreground, inspect, names
from tests.e2e.installation import Installation, free_ports
from tests.e2e.small_installation import small_installation
from tests.supervised import fetch as fetch_once
from tests.supervised import wait_for

pytestmark = pytest.mark.needs_root


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with small_installation(tmp_path_factory.mktemp("small")) as installation:
        yield installation


# Ports


def fetch(address: str, port: int) -> bytes:
    """The answer behind a published port, which resets connections until the program listens."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return fetch_once(address, port)
        except ConnectionResetError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def test_a_published_port_is_open_on_loopback_only(here: Installation) -> None:
    port = free_ports(1)
    with detached(here, "web", "-p", f"{port}:9000", "server"):
        assert b"200 OK" in fetch("127.0.0.1", port)
        assert b"200 OK" in _fetch6(port)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((_own_address(), port), timeout=5)
        assert f"127.0.0.1:{port}->9000/tcp" in container(here, "ls").stdout
        assert container(here, "port", "web").stdout == f"9000/tcp -> 127.0.0.1:{port}\n"

    wait_for(lambda: not _is_open(port), "the port is free again")


def test_an_address_opens_it_there(here: Installation) -> None:
    port = free_ports(1)
    with detached(here, "web", "-p", f"0.0.0.0:{port}:9000", "server"):
        assert b"200 OK" in fetch(_own_address(), port)


def test_any_port_and_what_the_image_exposes(here: Installation) -> None:
    with detached(here, "web", "-P", "server"):
        (line,) = container(here, "port", "web").stdout.splitlines()
        inside, _, outside = line.partition(" -> ")

        assert inside == "9000/tcp"
        assert b"200 OK" in fetch("127.0.0.1", int(outside.rpartition(":")[2]))


def test_a_port_of_a_foreground_container_is_free_however_its_command_ends(
    here: Installation,
) -> None:
    port = free_ports(1)
    with foreground(here, "front", "-p", f"{port}:9000", "server") as process:
        assert b"200 OK" in fetch("127.0.0.1", port)

        process.kill()

        wait_for(lambda: not _is_open(port), "the port is free again")


def test_a_port_outlives_a_killed_supervisor_and_ends_with_the_container(
    here: Installation,
) -> None:
    port = free_ports(1)
    with detached(here, "web", "-p", f"{port}:9000", "server"):
        supervisor = _supervisor_pid(here)
        os.kill(supervisor, signal.SIGKILL)
        wait_for(lambda: not Path(f"/proc/{supervisor}/exe").exists(), "it is gone")

        assert b"200 OK" in fetch("127.0.0.1", port)

        container(here, "start", "web")  # brings a supervisor back; the container runs anyway
        assert b"200 OK" in fetch("127.0.0.1", port)
        container(here, "stop", "-t", "1", "web")
        wait_for(lambda: not _is_open(port), "the port is free again")


def test_a_port_in_use_is_refused_with_its_owner_before_anything_starts(here: Installation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        front = container(here, "run", "-p", f"{port}:80", "small", "id")
        back = container(here, "run", "-d", "--name", "late", "-p", f"{port}:80", "small")

    for done in (front, back):
        assert done.returncode == 125
        assert f"(pid {os.getpid()}) has port {port}" in done.stderr
    assert "late" not in container(here, "ls", "-a").stdout


def test_much_goes_through_a_port_whole_and_both_ends_are_told_of_the_end(
    here: Installation,
) -> None:
    port = free_ports(1)
    data = os.urandom(8 << 20)
    with foreground(here, "echo", "-i", "-p", f"{port}:7000", "small", "/bin/sleep", "1000"):
        with _echo_server(here, "echo", 7000):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                sender = threading.Thread(target=_send, args=(connection, data))
                sender.start()
                received = b"".join(iter(lambda: connection.recv(1 << 20), b""))
                sender.join()

    assert received == data


def _send(connection: socket.socket, data: bytes) -> None:
    connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def _echo_server(here: Installation, name: str, port: int) -> Iterator[None]:
    """A listener of ours inside the container's network namespace that sends everything back."""
    pid = inspect(here, name)["status"]["pid"]  # type: ignore[index] # a JSON object
    code = (
        "import socket,sys\n"
        f"s=socket.create_server(('0.0.0.0',{port}));print('ready',flush=True)\n"
        "c,_=s.accept()\n"
        "while d:=c.recv(65536): c.sendall(d)\n"
        "c.close()\n"
    )
    server = subprocess.Popen(
        ["nsenter", "-t", str(pid), "-n", "python3", "-c", code], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout
        assert server.stdout.readline() == "ready\n"
        yield
    finally:
        server.kill()
        server.communicate(timeout=10)


def test_datagrams_find_there_and_back(here: Installation) -> None:
    port = free_ports(1)
    code = (
        "import socket\n"
        "s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.bind(('0.0.0.0',5353));print('ready',flush=True)\n"
        "while True:\n d,a=s.recvfrom(4096);s.sendto(d.upper(),a)\n"
    )
    with foreground(here, "dns", "-p", f"{port}:5353/udp", "small", "/bin/sleep", "1000"):
        pid = inspect(here, "dns")["status"]["pid"]  # type: ignore[index] # a JSON object
        server = subprocess.Popen(
            ["nsenter", "-t", str(pid), "-n", "python3", "-c", code],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stdout
            server.stdout.readline()
            for number in range(3):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                    client.settimeout(10)
                    client.sendto(f"ask {number}".encode(), ("127.0.0.1", port))
                    assert client.recv(100) == f"ASK {number}".encode()
        finally:
            server.kill()
            server.communicate(timeout=10)


def _fetch6(port: int) -> bytes:
    if not Path("/proc/sys/net/ipv6").exists():
        return b"200 OK"  # this machine has no IPv6 at all
    return fetch("::1", port)


def _own_address() -> str:
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        address: str = probe.getsockname()[0]
        return address


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _supervisor_pid(here: Installation) -> int:
    from hakobune.runtime.supervisor_client import SupervisorClient

    with SupervisorClient(here.home / "run" / "supervisor.sock") as client:
        pid: int = client.hello()["pid"]
        return pid


# Networks


def test_the_host_s_network_is_seen_and_used(here: Installation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        before = set(os.listdir("/sys/class/net"))  # others come and go
        done = container(here, "run", "--network", "host", "small", "ls", "/sys/class/net")
        lasting = before & set(os.listdir("/sys/class/net"))
        port = f":{listener.getsockname()[1]:04X} "
        table = container(here, "run", "--network=host", "small", "cat", "/proc/net/tcp").stdout

    assert lasting <= set(done.stdout.split())
    assert lasting > {"lo"}
    assert port in table


def test_another_container_s_network_is_shared_and_ended_with(here: Installation) -> None:
    with detached(here, "owner", "server"):
        interfaces = container(
            here, "run", "--network", "container:owner", "small", "cat", "/proc/net/tcp"
        )
        assert ":2328 " in interfaces.stdout  # port 9000
        with foreground(
            here, "guest", "--network", "container:owner", "small", "/bin/sleep", "1000"
        ) as guest:
            container(here, "kill", "owner")

            guest.communicate(timeout=20)

    assert guest.returncode == 137


@pytest.mark.parametrize(
    "options",
    [
        ("--network", "bridge2"),
        ("--network", "container:"),
        ("--network", "none", "-p", "80"),
        ("--network", "host", "-p", "80"),
        ("-d", "--network", "container:x"),
        ("-p", "nonsense"),
    ],
)
def test_networks_that_cannot_be_are_usage_errors(
    here: Installation, options: tuple[str, ...]
) -> None:
    done = container(here, "run", *options, "small")

    assert done.returncode == 2
    assert done.stderr.startswith("error: ")


# Verbs


def test_a_stopped_container_starts_again_with_what_it_wrote(here: Installation) -> None:
    script = "cat /tmp/count 2>/dev/null; echo run >>/tmp/count; rm -f x; sleep 1000"
    with detached(here, "again", "small", "/bin/sh", "-c", script):
        wait_for(lambda: container(here, "exec", "again", "cat", "/tmp/count").stdout, "it wrote")
        container(here, "stop", "-t", "0", "again")

        started = container(here, "start", "again")

        assert (started.stdout, started.returncode) == ("again\n", 0)
        wait_for(
            lambda: container(here, "exec", "again", "cat", "/tmp/count").stdout == "run\nrun\n",
            "it found what it wrote",
        )
        assert "run\n" in container(here, "logs", "again").stdout


def test_a_start_that_fails_leaves_the_container_as_it_was(here: Installation) -> None:
    port = free_ports(1)
    with detached(here, "again", "-p", f"{port}:9000", "server"):
        container(here, "stop", "-t", "0", "again")
        wait_for(lambda: not _is_open(port), "the port is free")
        with socket.create_server(("127.0.0.1", port)):
            refused = container(here, "start", "again")
        assert refused.returncode == 1
        assert f"port {port}" in refused.stderr
        assert "exited" in container(here, "ls", "-a").stdout

        assert container(here, "start", "again").returncode == 0

        assert b"200 OK" in fetch("127.0.0.1", port)


def test_a_signal_is_sent_by_name_or_number(here: Installation) -> None:
    script = (
        "trap 'echo hup' HUP; trap 'echo usr; exit 5' USR1; echo up; while :; do sleep 0.05; done"
    )
    with detached(here, "listener", "small", "/bin/sh", "-c", script):
        wait_for(lambda: "up" in container(here, "logs", "listener").stdout, "it is up")
        container(here, "kill", "-s", "HUP", "listener")
        wait_for(lambda: "hup" in container(here, "logs", "listener").stdout, "it heard")

        container(here, "kill", "-s", str(int(signal.SIGUSR1)), "listener")

        wait_for(lambda: "exited (5)" in container(here, "ls", "-a").stdout, "it has ended")
    assert container(here, "kill", "-s", "NOSUCH", "any").returncode == 2


def test_a_foreground_container_is_listed_inspected_and_stopped(here: Installation) -> None:
    with foreground(here, "front", "small", "/bin/sleep", "1000") as process:
        assert "front" in container(here, "ls").stdout
        document = inspect(here, "front")
        assert (document["image"], document["owner"]) == ("small", "command")

        assert container(here, "stop", "-t", "0.2", "front").stdout == "front\n"

        process.communicate(timeout=20)
        assert process.returncode == 137
        assert "front" not in names(here)


def test_a_foreground_container_has_no_log_and_is_removed_by_force_only(
    here: Installation,
) -> None:
    with foreground(here, "front", "small", "/bin/sleep", "1000") as process:
        logs = container(here, "logs", "front")
        kept = container(here, "rm", "front")
        removed = container(here, "rm", "-f", "front")

        process.communicate(timeout=20)

    assert "run it with -d" in logs.stderr
    assert "it is running" in kept.stderr
    assert (removed.stdout, process.returncode) == ("front\n", 137)


def test_a_name_belongs_to_one_container_whoever_owns_it(here: Installation) -> None:
    with foreground(here, "one", "small", "/bin/sleep", "1000"):
        again = container(here, "run", "--name", "one", "small", "id")
        behind = container(here, "run", "-d", "--name", "one", "small", "id")
    with detached(here, "one", "small", "/bin/sleep", "1000"):
        front = container(here, "run", "--name", "one", "small", "id")
        assert "one" in names(here)

    for done in (again, behind, front):
        assert done.returncode == 125
        assert "there is one already" in done.stderr


def test_what_is_known_of_a_container_is_one_document(here: Installation) -> None:
    with detached(here, "known", "-e", "A=b", "-m", "64m", "server"):
        document = inspect(here, "known")

    spec, status = document["spec"], document["status"]
    assert isinstance(spec, dict)
    assert isinstance(status, dict)
    assert document["owner"] == "supervisor"
    assert spec["env"]["A"] == "b"
    assert spec["limits"]["memory_bytes"] == 64 << 20
    assert status["phase"] == "running"


def test_the_processes_of_a_container_are_shown(here: Installation) -> None:
    script = "sleep 1000 & exec sleep 999"
    with detached(here, "busy", "small", "/bin/sh", "-c", script):
        container(here, "exec", "-d", "busy", "sleep", "998")
        every = container(here, "top", "busy").stdout
        chosen = container(here, "top", "busy", "-o", "pid,args").stdout
        container(here, "stop", "-t", "0", "busy")
        stopped = container(here, "top", "busy")

    for shown in (every, chosen):
        lines = shown.splitlines()
        assert "PID" in lines[0].split()
        assert sorted(line.split()[-1] for line in lines[1:]) == ["1000", "998", "999"]
    assert stopped.returncode == 1
    assert "has no processes" in stopped.stderr
