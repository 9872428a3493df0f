"""Terminals, published ports, networks and the verbs on running containers, as somebody who knows docker uses them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.installation import HAKO, Installation, free_ports
from tests.e2e.small_installation import small_installation
from tests.e2e.typist import typing
from tests.supervised import fetch, wait_for

pytestmark = pytest.mark.needs_root


@pytest.fixture(scope="module", params=["crun", "runc"])
def here(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    with small_installation(
        tmp_path_factory.mktemp("small"), HAKO_RUNTIME=request.param
    ) as installation:
        yield installation


def _hako(
    here: Installation, *arguments: str, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [HAKO, "container", *arguments],
        env=here.env,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )


@contextlib.contextmanager
def _foreground(here: Installation, name: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A container that a command runs, once it is known."""
    process = here.start("container", "run", "--name", name, *arguments)
    try:
        wait_for(lambda: name in _names(here) or process.poll() is not None, "it runs")
        yield process
    finally:
        process.kill()
        process.communicate(timeout=20)


@contextlib.contextmanager
def _detached(here: Installation, name: str, *arguments: str) -> Iterator[None]:
    started = _hako(here, "run", "-d", "--name", name, *arguments)
    assert started.returncode == 0, started.stderr
    try:
        yield
    finally:
        _hako(here, "rm", "-f", name)


def _names(here: Installation) -> list[str]:
    listing = json.loads(_hako(here, "ls", "--format", "json").stdout)
    return [status["id"] for status in listing]


def _inspect(here: Installation, name: str) -> dict[str, object]:
    (document,) = json.loads(_hako(here, "inspect", name).stdout)
    found: dict[str, object] = document
    return found


# Terminals


def test_a_terminal_is_real_and_ours_is_put_back(here: Installation) -> None:
    with typing([HAKO, "container", "run", "-it", "small"], here.env) as person:
        person.expect("$ ")
        assert person.settings() != person.before

        person.type("tty; stty size; echo $TERM\n")

        person.expect("/dev/pts/0")
        person.expect("24 80")
        person.expect("xterm")
        person.type("exit 6\n")
        assert person.wait() == 6
        assert person.settings() == person.before


def test_the_window_s_size_is_followed(here: Installation) -> None:
    with typing([HAKO, "container", "run", "-it", "small"], here.env) as person:
        person.type("trap 'stty size' WINCH\n")
        person.type("echo trap is'' set\n")
        person.expect("trap is set")

        person.resize(30, 111)
        person.process.send_signal(signal.SIGWINCH)

        person.type("\n")
        person.expect("30 111")


def test_control_c_reaches_the_program_in_front_and_not_the_command(here: Installation) -> None:
    with typing([HAKO, "container", "run", "-it", "small"], here.env) as person:
        person.expect("$ ")
        person.type("sleep 1000\n")
        person.expect("sleep 1000")

        person.type("\x03")
        person.expect("$ ")
        person.type("echo still'' here; exit\n")

        person.expect("still here")
        person.wait()


def test_the_terminal_is_put_back_when_the_container_is_killed(here: Installation) -> None:
    command = [HAKO, "container", "run", "-it", "--name", "typed", "small"]
    with typing(command, here.env) as person:
        person.expect("$ ")

        _hako(here, "kill", "typed")

        assert person.wait() == 137
        assert person.settings() == person.before


def test_a_terminal_needs_one_that_somebody_types_at(here: Installation) -> None:
    done = _hako(here, "run", "-it", "small", stdin="exit\n")

    assert done.returncode == 125
    assert "the input is not a terminal" in done.stderr


def test_a_terminal_without_input_shows_the_output(here: Installation) -> None:
    done = _hako(here, "run", "-t", "small", "/bin/sh", "-c", "echo out; echo err >&2; tty")

    assert done.stdout == "out\nerr\n/dev/pts/0\n"  # universal newlines: a terminal has \r\n


def test_what_is_typed_goes_through_a_pipe_without_a_terminal(here: Installation) -> None:
    with typing([HAKO, "container", "run", "-i", "small", "cat"], here.env) as person:
        person.type("hello\n")
        person.expect("hello\r\nhello\r\n")

        person.type("\x04")

        assert person.wait() == 0


def test_input_and_output_do_not_wait_for_each_other(here: Installation) -> None:
    done = _hako(here, "run", "-i", "small", "cat", stdin="x" * (4 << 20))

    assert len(done.stdout) == 4 << 20


def test_nobody_types_into_what_is_left_running(here: Installation) -> None:
    for option in ("-di", "-dt"):
        done = _hako(here, "run", option, "small")

        assert done.returncode == 2
        assert "does not go with -d" in done.stderr


# exec


@pytest.fixture(scope="module", params=["command", "supervisor"])
def running(request: pytest.FixtureRequest, here: Installation) -> Iterator[str]:
    """The name of a container that runs, of both owners."""
    name = f"owned-by-{request.param}"
    arguments = ("-e", "OF=container", "-w", "/tmp", "small", "/bin/sleep", "1000")
    owner = _foreground if request.param == "command" else _detached
    with owner(here, name, *arguments):
        yield name


def test_another_program_runs_in_a_running_container(here: Installation, running: str) -> None:
    script = "echo out; echo err >&2; echo $OF $PWD $MORE; cat /proc/1/comm; exit 9"

    done = _hako(here, "exec", "-e", "MORE=yes", running, "/bin/sh", "-c", script)

    assert done.stdout == "out\ncontainer /tmp yes\nsleep\n"
    assert (done.stderr, done.returncode) == ("err\n", 9)


def test_it_has_no_more_rights_than_the_first_program(here: Installation, running: str) -> None:
    fields = ("CapBnd", "CapEff", "NoNewPrivs", "Seccomp", "Uid")
    done = _hako(here, "exec", running, "cat", "/proc/1/status", "/proc/self/status")

    lines = [line.split() for line in done.stdout.splitlines()]
    for field in fields:
        (first, second) = [words[1:] for words in lines if words[0] == f"{field}:"]
        assert first == second, field
    assert ["NoNewPrivs:", "1"] in lines
    assert ["Seccomp:", "2"] in lines


def test_its_memory_counts_as_the_container_s(here: Installation) -> None:
    with _detached(here, "limited", "-m", "32m", "small", "/bin/sleep", "1000"):
        done = _hako(
            here, "exec", "limited", "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"
        )

    assert done.returncode == 137


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("-u", "root"), "uid=0(root) gid=0(root) groups=0(root)"),
        (("-u", "app:extra"), "uid=1002(app) gid=2000(extra) groups=2000(extra)"),
        (("-u", "7"), "uid=7 gid=0(root) groups=0(root)"),
    ],
)
def test_its_user_is_found_in_the_container(
    here: Installation, running: str, options: tuple[str, ...], expected: str
) -> None:
    assert _hako(here, "exec", *options, running, "id").stdout.strip() == expected


def test_its_directory_and_input_are_given(here: Installation, running: str) -> None:
    script = ("/bin/sh", "-c", "echo $PWD; cat")

    assert (
        _hako(here, "exec", "-i", "-w", "/etc", running, *script, stdin="in").stdout == "/etc\nin"
    )
    assert _hako(here, "exec", running, *script, stdin="in").stdout == "/tmp\n"


def test_it_gets_a_terminal(here: Installation, running: str) -> None:
    command = [HAKO, "container", "exec", "-it", running, "/bin/sh"]
    with typing(command, here.env) as person:
        person.expect("$ ")
        person.type("stty size; tty\n")
        person.expect("24 80")
        person.expect("/dev/pts/")
        person.type("exit 3\n")

        assert person.wait() == 3
        assert person.settings() == person.before


@pytest.mark.parametrize(
    ("program", "code", "words"),
    [("/nope", 127, "no such program"), ("/etc/passwd", 126, "not executable")],
)
def test_what_cannot_be_executed_is_said_with_docker_s_code(
    here: Installation, running: str, program: str, code: int, words: str
) -> None:
    done = _hako(here, "exec", running, program)

    assert done.returncode == code
    assert words in done.stderr


def test_a_signal_reaches_it(here: Installation, running: str) -> None:
    script = "trap 'echo caught; exit 8' TERM; echo ready; while :; do sleep 0.05; done"
    process = here.start("container", "exec", running, "/bin/sh", "-c", script)
    try:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=20)
    finally:
        process.kill()
        process.communicate(timeout=20)

    assert (rest, process.returncode) == ("caught\n", 8)


def test_it_ends_with_the_command_that_asked(here: Installation, running: str) -> None:
    seconds = str(20_000_000 + int.from_bytes(os.urandom(4), "big"))
    process = here.start("container", "exec", running, "sleep", seconds)
    try:
        wait_for(lambda: _lives(seconds), "it sleeps")
    finally:
        process.kill()
        process.communicate(timeout=20)

    wait_for(lambda: not _lives(seconds), "it has ended")
    assert running in _names(here)


def test_it_ends_with_the_container(here: Installation) -> None:
    with _detached(here, "host", "small", "/bin/sleep", "1000"):
        process = here.start("container", "exec", "host", "sleep", "1000")
        try:
            wait_for(lambda: len(_processes(here, "host")) == 2, "both sleep")
            _hako(here, "kill", "host")
            process.communicate(timeout=20)
        finally:
            process.kill()
            process.communicate(timeout=20)

    assert process.returncode == 137


def test_left_behind_it_writes_to_the_log(here: Installation) -> None:
    with _detached(here, "host", "small", "/bin/sleep", "1000"):
        done = _hako(here, "exec", "-d", "host", "/bin/sh", "-c", "echo said later")

        assert (done.stdout, done.returncode) == ("", 0)
        wait_for(lambda: "said later" in _hako(here, "logs", "host").stdout, "it is in the log")
        assert _hako(here, "exec", "-d", "host", "/nope").returncode == 127


def test_a_container_that_does_not_run_is_refused_in_words(here: Installation) -> None:
    with _detached(here, "brief", "small", "/bin/sh", "-c", "exit 0"):
        wait_for(lambda: "brief" not in _names(here), "it has ended")
        ended = _hako(here, "exec", "brief", "id")
        unknown = _hako(here, "exec", "nobody-of-this-name", "id")

    assert ended.returncode == 125
    assert "it is stopped" in ended.stderr
    assert "hako container start brief" in ended.stderr
    assert "there is no container 'nobody-of-this-name'" in unknown.stderr


def _lives(seconds: str) -> bool:
    needle = f"\0{seconds}\0".encode()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes() if entry.name.isdecimal() else b""
            if words.startswith(b"sleep\0") and words.endswith(needle):
                return True
    return False


def _processes(here: Installation, name: str) -> list[str]:
    done = _hako(here, "exec", name, "/bin/sh", "-c", "cat /proc/[0-9]*/comm")
    return [line for line in done.stdout.splitlines() if line == "sleep"]


# Ports


def test_a_published_port_is_open_on_loopback_only(here: Installation) -> None:
    port = free_ports(1)
    with _detached(here, "web", "-p", f"{port}:9000", "server"):
        assert b"200 OK" in fetch("127.0.0.1", port)
        assert b"200 OK" in _fetch6(port)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((_own_address(), port), timeout=5)
        assert f"127.0.0.1:{port}->9000/tcp" in _hako(here, "ls").stdout
        assert _hako(here, "port", "web").stdout == f"9000/tcp -> 127.0.0.1:{port}\n"

    wait_for(lambda: not _is_open(port), "the port is free again")


def test_an_address_opens_it_there(here: Installation) -> None:
    port = free_ports(1)
    with _detached(here, "web", "-p", f"0.0.0.0:{port}:9000", "server"):
        assert b"200 OK" in fetch(_own_address(), port)


def test_any_port_and_what_the_image_exposes(here: Installation) -> None:
    with _detached(here, "web", "-P", "server"):
        (line,) = _hako(here, "port", "web").stdout.splitlines()
        inside, _, outside = line.partition(" -> ")

        assert inside == "9000/tcp"
        assert b"200 OK" in fetch("127.0.0.1", int(outside.rpartition(":")[2]))


def test_a_port_of_a_foreground_container_is_free_however_its_command_ends(
    here: Installation,
) -> None:
    port = free_ports(1)
    with _foreground(here, "front", "-p", f"{port}:9000", "server") as process:
        assert b"200 OK" in fetch("127.0.0.1", port)

        process.kill()

        wait_for(lambda: not _is_open(port), "the port is free again")


def test_a_port_outlives_a_killed_supervisor_and_ends_with_the_container(
    here: Installation,
) -> None:
    port = free_ports(1)
    with _detached(here, "web", "-p", f"{port}:9000", "server"):
        supervisor = _supervisor_pid(here)
        os.kill(supervisor, signal.SIGKILL)
        wait_for(lambda: not Path(f"/proc/{supervisor}/exe").exists(), "it is gone")

        assert b"200 OK" in fetch("127.0.0.1", port)

        _hako(here, "start", "web")  # brings a supervisor back; the container runs anyway
        assert b"200 OK" in fetch("127.0.0.1", port)
        _hako(here, "stop", "-t", "1", "web")
        wait_for(lambda: not _is_open(port), "the port is free again")


def test_a_port_in_use_is_refused_with_its_owner_before_anything_starts(here: Installation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        front = _hako(here, "run", "-p", f"{port}:80", "small", "id")
        back = _hako(here, "run", "-d", "--name", "late", "-p", f"{port}:80", "small")

    for done in (front, back):
        assert done.returncode == 125
        assert f"(pid {os.getpid()}) has port {port}" in done.stderr
    assert "late" not in _hako(here, "ls", "-a").stdout


def test_much_goes_through_a_port_whole_and_both_ends_are_told_of_the_end(
    here: Installation,
) -> None:
    port = free_ports(1)
    data = os.urandom(8 << 20)
    with _foreground(here, "echo", "-i", "-p", f"{port}:7000", "small", "/bin/sleep", "1000"):
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
    pid = _inspect(here, name)["status"]["pid"]  # type: ignore[index] # a JSON object
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
    with _foreground(here, "dns", "-p", f"{port}:5353/udp", "small", "/bin/sleep", "1000"):
        pid = _inspect(here, "dns")["status"]["pid"]  # type: ignore[index] # a JSON object
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
        done = _hako(here, "run", "--network", "host", "small", "ls", "/sys/class/net")
        lasting = before & set(os.listdir("/sys/class/net"))
        port = f":{listener.getsockname()[1]:04X} "
        table = _hako(here, "run", "--network=host", "small", "cat", "/proc/net/tcp").stdout

    assert lasting <= set(done.stdout.split())
    assert lasting > {"lo"}
    assert port in table


def test_another_container_s_network_is_shared_and_ended_with(here: Installation) -> None:
    with _detached(here, "owner", "server"):
        interfaces = _hako(
            here, "run", "--network", "container:owner", "small", "cat", "/proc/net/tcp"
        )
        assert ":2328 " in interfaces.stdout  # port 9000
        with _foreground(
            here, "guest", "--network", "container:owner", "small", "/bin/sleep", "1000"
        ) as guest:
            _hako(here, "kill", "owner")

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
    done = _hako(here, "run", *options, "small")

    assert done.returncode == 2
    assert done.stderr.startswith("error: ")


# Verbs


def test_a_stopped_container_starts_again_with_what_it_wrote(here: Installation) -> None:
    script = "cat /tmp/count 2>/dev/null; echo run >>/tmp/count; rm -f x; sleep 1000"
    with _detached(here, "again", "small", "/bin/sh", "-c", script):
        wait_for(lambda: _hako(here, "exec", "again", "cat", "/tmp/count").stdout, "it wrote")
        _hako(here, "stop", "-t", "0", "again")

        started = _hako(here, "start", "again")

        assert (started.stdout, started.returncode) == ("again\n", 0)
        wait_for(
            lambda: _hako(here, "exec", "again", "cat", "/tmp/count").stdout == "run\nrun\n",
            "it found what it wrote",
        )
        assert "run\n" in _hako(here, "logs", "again").stdout


def test_a_start_that_fails_leaves_the_container_as_it_was(here: Installation) -> None:
    port = free_ports(1)
    with _detached(here, "again", "-p", f"{port}:9000", "server"):
        _hako(here, "stop", "-t", "0", "again")
        wait_for(lambda: not _is_open(port), "the port is free")
        with socket.create_server(("127.0.0.1", port)):
            refused = _hako(here, "start", "again")
        assert refused.returncode == 1
        assert f"port {port}" in refused.stderr
        assert "exited" in _hako(here, "ls", "-a").stdout

        assert _hako(here, "start", "again").returncode == 0

        assert b"200 OK" in fetch("127.0.0.1", port)


def test_a_signal_is_sent_by_name_or_number(here: Installation, running: str) -> None:
    script = (
        "trap 'echo hup' HUP; trap 'echo usr; exit 5' USR1; echo up; while :; do sleep 0.05; done"
    )
    with _detached(here, "listener", "small", "/bin/sh", "-c", script):
        wait_for(lambda: "up" in _hako(here, "logs", "listener").stdout, "it is up")
        _hako(here, "kill", "-s", "HUP", "listener")
        wait_for(lambda: "hup" in _hako(here, "logs", "listener").stdout, "it heard")

        _hako(here, "kill", "-s", str(int(signal.SIGUSR1)), "listener")

        wait_for(lambda: "exited (5)" in _hako(here, "ls", "-a").stdout, "it has ended")
    assert _hako(here, "kill", "-s", "NOSUCH", running).returncode == 2


def test_a_foreground_container_is_listed_inspected_and_stopped(here: Installation) -> None:
    with _foreground(here, "front", "small", "/bin/sleep", "1000") as process:
        assert "front" in _hako(here, "ls").stdout
        document = _inspect(here, "front")
        assert (document["image"], document["owner"]) == ("small", "command")

        assert _hako(here, "stop", "-t", "0.2", "front").stdout == "front\n"

        process.communicate(timeout=20)
        assert process.returncode == 137
        assert "front" not in _names(here)


def test_a_name_belongs_to_one_container_whoever_owns_it(here: Installation) -> None:
    with _foreground(here, "one", "small", "/bin/sleep", "1000"):
        again = _hako(here, "run", "--name", "one", "small", "id")
        detached = _hako(here, "run", "-d", "--name", "one", "small", "id")
    with _detached(here, "one", "small", "/bin/sleep", "1000"):
        front = _hako(here, "run", "--name", "one", "small", "id")
        assert "one" in _names(here)

    for done in (again, detached, front):
        assert done.returncode == 125
        assert "there is one already" in done.stderr


def test_what_is_known_of_a_container_is_one_document(here: Installation) -> None:
    with _detached(here, "known", "-e", "A=b", "-m", "64m", "server"):
        document = _inspect(here, "known")

    spec, status = document["spec"], document["status"]
    assert isinstance(spec, dict)
    assert isinstance(status, dict)
    assert document["owner"] == "supervisor"
    assert spec["env"]["A"] == "b"
    assert spec["limits"]["memory_bytes"] == 64 << 20
    assert status["phase"] == "running"
