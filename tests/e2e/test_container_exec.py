"""Terminals and further programs in running containers, with each OCI runtime."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.containers import container, detached, foreground, names
from tests.e2e.installation import HAKO, Installation
from tests.e2e.typist import typing
from tests.supervised import wait_for

pytestmark = pytest.mark.needs_root


# Terminals


def test_a_terminal_is_real_and_ours_is_put_back(each: Installation) -> None:
    with typing([HAKO, "container", "run", "-it", "small"], each.env) as person:
        person.expect("$ ")
        assert person.settings() != person.before

        person.type("tty; stty size; echo $TERM\n")

        person.expect("/dev/pts/0")
        person.expect("24 80")
        person.expect("xterm")
        person.type("exit 6\n")
        assert person.wait() == 6
        assert person.settings() == person.before


def test_the_window_s_size_is_followed(each: Installation) -> None:
    with typing([HAKO, "container", "run", "-it", "small"], each.env) as person:
        person.type("trap 'stty size' WINCH\n")
        person.type("echo trap is'' set\n")
        person.expect("trap is set")

        person.resize(30, 111)
        person.process.send_signal(signal.SIGWINCH)

        person.type("\n")
        person.expect("30 111")


def test_control_c_reaches_the_program_in_front_and_not_the_command(each: Installation) -> None:
    with typing([HAKO, "container", "run", "-it", "small"], each.env) as person:
        seconds = _unheard_of()
        person.expect("$ ")
        person.type(f"sleep {seconds}\n")
        person.expect(f"sleep {seconds}")
        wait_for(lambda: _lives(seconds), "it sleeps")

        person.type("\x03")
        person.expect("$ ")
        person.type("echo still'' here; exit\n")

        person.expect("still here")
        person.wait()


def test_the_terminal_is_put_back_when_the_container_is_killed(each: Installation) -> None:
    command = [HAKO, "container", "run", "-it", "--name", "typed", "small"]
    with typing(command, each.env) as person:
        person.expect("$ ")

        container(each, "kill", "typed")

        assert person.wait() == 137
        assert person.settings() == person.before


def test_a_terminal_needs_one_that_somebody_types_at(each: Installation) -> None:
    done = container(each, "run", "-it", "small", stdin="exit\n")

    assert done.returncode == 125
    assert "the input is not a terminal" in done.stderr


def test_a_terminal_without_input_shows_the_output(each: Installation) -> None:
    done = container(each, "run", "-t", "small", "/bin/sh", "-c", "echo out; echo err >&2; tty")

    assert done.stdout == "out\nerr\n/dev/pts/0\n"  # universal newlines: a terminal has \r\n


def test_what_is_typed_goes_through_a_pipe_without_a_terminal(each: Installation) -> None:
    with typing([HAKO, "container", "run", "-i", "small", "cat"], each.env) as person:
        person.type("hello\n")
        person.expect("hello\r\nhello\r\n")

        person.type("\x04")

        assert person.wait() == 0


def test_input_and_output_do_not_wait_for_each_other(each: Installation) -> None:
    done = container(each, "run", "-i", "small", "cat", stdin="x" * (4 << 20))

    assert len(done.stdout) == 4 << 20


# exec


@pytest.fixture(scope="module", params=["command", "supervisor"])
def running(request: pytest.FixtureRequest, each: Installation) -> Iterator[str]:
    """The name of a container that runs, of both owners."""
    name = f"owned-by-{request.param}"
    arguments = ("-e", "OF=container", "-w", "/tmp", "small", "/bin/sleep", "1000")
    owner = foreground if request.param == "command" else detached
    with owner(each, name, *arguments):
        yield name


def test_another_program_runs_in_a_running_container(each: Installation, running: str) -> None:
    script = "echo out; echo err >&2; echo $OF $PWD $MORE; cat /proc/1/comm; exit 9"

    done = container(each, "exec", "-e", "MORE=yes", running, "/bin/sh", "-c", script)

    assert done.stdout == "out\ncontainer /tmp yes\nsleep\n"
    assert (done.stderr, done.returncode) == ("err\n", 9)


def test_it_has_no_more_rights_than_the_first_program(each: Installation, running: str) -> None:
    fields = ("CapBnd", "CapEff", "NoNewPrivs", "Seccomp", "Uid")
    done = container(each, "exec", running, "cat", "/proc/1/status", "/proc/self/status")

    lines = [line.split() for line in done.stdout.splitlines()]
    for field in fields:
        (first, second) = [words[1:] for words in lines if words[0] == f"{field}:"]
        assert first == second, field
    assert ["NoNewPrivs:", "1"] in lines
    assert ["Seccomp:", "2"] in lines


def test_its_memory_counts_as_the_container_s(each: Installation) -> None:
    with detached(each, "limited", "-m", "32m", "small", "/bin/sleep", "1000"):
        done = container(
            each, "exec", "limited", "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"
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
    each: Installation, running: str, options: tuple[str, ...], expected: str
) -> None:
    assert container(each, "exec", *options, running, "id").stdout.strip() == expected


def test_its_directory_and_input_are_given(each: Installation, running: str) -> None:
    script = ("/bin/sh", "-c", "echo $PWD; cat")

    assert (
        container(each, "exec", "-i", "-w", "/etc", running, *script, stdin="in").stdout
        == "/etc\nin"
    )
    assert container(each, "exec", running, *script, stdin="in").stdout == "/tmp\n"


def test_it_gets_a_terminal(each: Installation, running: str) -> None:
    command = [HAKO, "container", "exec", "-it", running, "/bin/sh"]
    with typing(command, each.env) as person:
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
    each: Installation, running: str, program: str, code: int, words: str
) -> None:
    done = container(each, "exec", running, program)

    assert done.returncode == code
    assert words in done.stderr


def test_a_signal_reaches_it(each: Installation, running: str) -> None:
    script = "trap 'echo caught; exit 8' TERM; echo ready; while :; do sleep 0.05; done"
    process = each.start("container", "exec", running, "/bin/sh", "-c", script)
    try:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=20)
    finally:
        process.kill()
        process.communicate(timeout=20)

    assert (rest, process.returncode) == ("caught\n", 8)


def test_it_ends_with_the_command_that_asked(each: Installation, running: str) -> None:
    seconds = _unheard_of()
    process = each.start("container", "exec", running, "sleep", seconds)
    try:
        wait_for(lambda: _lives(seconds), "it sleeps")
    finally:
        process.kill()
        process.communicate(timeout=20)

    wait_for(lambda: not _lives(seconds), "it has ended")
    assert running in names(each)


def test_it_ends_with_the_container(each: Installation) -> None:
    with detached(each, "host", "small", "/bin/sleep", "1000"):
        process = each.start("container", "exec", "host", "sleep", "1000")
        try:
            wait_for(lambda: len(_processes(each, "host")) == 2, "both sleep")
            container(each, "kill", "host")
            process.communicate(timeout=20)
        finally:
            process.kill()
            process.communicate(timeout=20)

    assert process.returncode == 137


def test_left_behind_it_writes_to_the_log(each: Installation) -> None:
    with detached(each, "host", "small", "/bin/sleep", "1000"):
        done = container(each, "exec", "-d", "host", "/bin/sh", "-c", "echo said later")

        assert (done.stdout, done.returncode) == ("", 0)
        wait_for(lambda: "said later" in container(each, "logs", "host").stdout, "it is in the log")
        assert container(each, "exec", "-d", "host", "/nope").returncode == 127


def test_a_container_that_does_not_run_is_refused_in_words(each: Installation) -> None:
    with detached(each, "brief", "small", "/bin/sh", "-c", "exit 0"):
        wait_for(lambda: "brief" not in names(each), "it has ended")
        ended = container(each, "exec", "brief", "id")
        unknown = container(each, "exec", "nobody-of-this-name", "id")

    assert ended.returncode == 125
    assert "it is stopped" in ended.stderr
    assert "hako container start brief" in ended.stderr
    assert "there is no container 'nobody-of-this-name'" in unknown.stderr


def _unheard_of() -> str:
    """A number of seconds that nobody else sleeps."""
    return str(20_000_000 + int.from_bytes(os.urandom(4), "big"))


def _lives(seconds: str) -> bool:
    needle = f"\0{seconds}\0".encode()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes() if entry.name.isdecimal() else b""
            if words.startswith(b"sleep\0") and words.endswith(needle):
                return True
    return False


def _processes(each: Installation, name: str) -> list[str]:
    done = container(each, "exec", name, "/bin/sh", "-c", "cat /proc/[0-9]*/comm")
    return [line for line in done.stdout.splitlines() if line == "sleep"]
