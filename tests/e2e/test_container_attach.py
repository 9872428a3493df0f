"""Leaving a container's terminal and coming back to it, as somebody who knows docker does."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hakobune.runtime.supervisor_client import SupervisorClient
from tests.e2e.containers import container, detached, inspect, names
from tests.e2e.installation import HAKO, Installation
from tests.e2e.small_installation import small_installation
from tests.e2e.typist import typing
from tests.supervised import wait_for

pytestmark = pytest.mark.needs_root

LEAVE = "\x10\x11"
_KEPT = ("typed", "ended", "typist")  # containers of several tests


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with small_installation(tmp_path_factory.mktemp("small")) as installation:
        yield installation
        container(installation, "rm", "-f", *_KEPT)  # a shell takes its time to be stopped


# Leaving and coming back


def test_who_types_the_keys_leaves_and_finds_what_runs_on(each: Installation) -> None:
    with typing([HAKO, "container", "run", "-it", "--name", "left", "small"], each.env) as person:
        person.expect("$ ")
        person.type("word=kept\n")
        person.expect("$ ")
        person.type(LEAVE)
        assert person.wait() == 0
        assert person.settings() == person.before
    assert "left" in names(each)

    with typing([HAKO, "container", "attach", "left"], each.env) as person:
        person.type("echo it is $word; stty size\n")
        person.expect("it is kept")
        person.expect("24 80")
        person.type("exit 7\n")
        assert person.wait() == 7
        assert person.settings() == person.before

    assert "exited (7)" in container(each, "ls", "-a").stdout
    assert "it is kept" in container(each, "logs", "left").stdout
    assert container(each, "rm", "left").returncode == 0


def test_left_running_it_can_be_started_again_before_a_person(each: Installation) -> None:
    with detached(each, "again", "-it", "small"):
        with typing([HAKO, "container", "attach", "again"], each.env) as person:
            person.type("echo here >/tmp/file; exit 3\n")
            assert person.wait() == 3

        with typing([HAKO, "container", "start", "-ai", "again"], each.env) as person:
            person.expect("$ ")
            person.type("cat /tmp/file\n")
            person.expect("here\r\n")
            person.type(LEAVE)
            assert person.wait() == 0
        assert "again" in names(each)


def test_unless_it_is_left_a_typed_at_container_ends_with_its_command_and_is_forgotten(
    here: Installation,
) -> None:
    script = ("/bin/sh", "-c", "echo up; exec sleep 1000")
    command = [HAKO, "container", "run", "-it", "--name", "mine", "small", *script]
    with typing(command, here.env) as person:
        person.expect("up")
        person.process.kill()
        wait_for(lambda: "mine" not in container(here, "ls", "-a").stdout, "it is forgotten")
    with typing(command, here.env) as person:
        person.expect("up")
        for _ in range(3):
            person.process.send_signal(signal.SIGTERM)
            time.sleep(0.05)
        assert person.wait() == 137
    wait_for(lambda: "mine" not in container(here, "ls", "-a").stdout, "it is forgotten")


def test_the_keys_are_chosen_and_with_others_the_usual_ones_are_typed(here: Installation) -> None:
    with detached(here, "keys", "-it", "small"):
        command = [HAKO, "container", "attach", "--detach-keys", "ctrl-x,q", "keys"]
        with typing(command, here.env) as person:
            person.type("cat\n")
            person.type(LEAVE + "\n")
            person.expect("^P")
            person.type("\x18q")
            assert person.wait() == 0
            person.expect("left running: hako container attach keys")


def test_forgotten_at_the_end_is_what_was_run_with_rm_also_when_it_was_left(
    here: Installation,
) -> None:
    with typing(
        [HAKO, "container", "run", "-it", "--rm", "--name", "brief", "small"], here.env
    ) as p:
        p.expect("$ ")
        p.type(LEAVE)
        assert p.wait() == 0
    with typing([HAKO, "container", "attach", "brief"], here.env) as p:
        p.type("exit 4\n")
        assert p.wait() == 4

    assert "brief" not in container(here, "ls", "-a").stdout


def test_two_see_the_same_and_the_window_of_either_is_followed(here: Installation) -> None:
    with detached(here, "both", "-it", "small"):
        command = [HAKO, "container", "attach", "both"]
        with typing(command, here.env) as one, typing(command, here.env) as two:
            for person in (one, two):
                person.type("\n")
                person.expect("$ ")
            one.type("echo shown'' twice\n")
            one.expect("shown twice")
            two.expect("shown twice")
            two.resize(30, 111)
            two.process.send_signal(signal.SIGWINCH)
            two.type("stty size\n")
            one.expect("30 111")


def test_leaving_a_program_of_exec_lets_it_run_on(each: Installation) -> None:
    script = "echo ready; sleep 0.5; echo unseen; echo done >/tmp/done; sleep 1000"
    with detached(each, "host", "small", "/bin/sleep", "1000"):
        command = [HAKO, "container", "exec", "-it", "host", "/bin/sh", "-c", script]
        with typing(command, each.env) as person:
            person.expect("ready")
            person.type(LEAVE)
            assert person.wait() == 0
            assert person.settings() == person.before
        wait_for(
            lambda: container(each, "exec", "host", "cat", "/tmp/done").stdout == "done\n",
            "it ran on",
        )


# Without a terminal


def _attach(here: Installation, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [HAKO, "container", "attach", *arguments],
        env=here.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    )


def _say(process: subprocess.Popen[str], text: str) -> str:
    """Type a line; the line that comes back."""
    assert process.stdin
    assert process.stdout
    process.stdin.write(text + "\n")
    return process.stdout.readline()


def test_input_and_output_go_through_pipes_and_the_supervisor_may_be_killed_and_replaced(
    here: Installation,
) -> None:
    with detached(here, "cat", "-i", "small", "cat"):
        process = _attach(here, "cat")
        try:
            assert _say(process, "one") == "one\n"
            supervisor = _supervisor(here)
            os.kill(supervisor, signal.SIGKILL)
            wait_for(lambda: not Path(f"/proc/{supervisor}/exe").exists(), "it is gone")
            assert _say(process, "without") == "without\n"
            container(here, "start", "cat")  # brings a supervisor back; the container runs anyway
            assert _say(process, "with") == "with\n"
            with SupervisorClient(here.home / "run" / "supervisor.sock") as client:
                client.upgrade()
            assert _say(process, "upgraded") == "upgraded\n"
            container(here, "kill", "cat")
            rest, errors = process.communicate(timeout=20)
        finally:
            process.kill()
            process.communicate(timeout=20)

        assert (rest, errors, process.returncode) == ("", "", 137)
        assert container(here, "logs", "cat").stdout == "one\nwithout\nwith\nupgraded\n"


def test_who_looks_on_types_nothing_and_may_go(here: Installation) -> None:
    with detached(here, "cat", "-i", "small", "cat"):
        looker = _attach(here, "--no-stdin", "cat")
        typer = _attach(here, "cat")
        try:
            assert looker.stdin
            assert looker.stdout
            looker.stdin.write("ignored\n")
            while not select.select([looker.stdout], [], [], 0.1)[0]:  # it may not be there yet
                assert _say(typer, "typed") == "typed\n"
            assert looker.stdout.readline() == "typed\n"
            looker.kill()
            assert _say(typer, "on") == "on\n"
        finally:
            for process in (looker, typer):
                process.kill()
                process.communicate(timeout=20)
        assert "cat" in names(here)


def test_one_without_input_is_shown_and_gets_our_signals_unless_they_are_ours(
    here: Installation,
) -> None:
    script = "trap 'echo bye; exit 6' TERM; while :; do echo tick; sleep 0.05; done"
    with detached(here, "ticker", "small", "/bin/sh", "-c", script):
        own = _attach(here, "--sig-proxy=false", "ticker")
        passing = _attach(here, "ticker")
        try:
            for process in (own, passing):
                assert process.stdout
                assert process.stdout.readline() == "tick\n"
            own.terminate()
            assert own.wait(20) == -signal.SIGTERM
            assert "ticker" in names(here)
            passing.terminate()
            rest, _ = passing.communicate(timeout=20)
        finally:
            for process in (own, passing):
                process.kill()
                process.communicate(timeout=20)

        assert rest.endswith("tick\nbye\n")
        assert passing.returncode == 6


def test_all_of_it_is_shown_to_who_starts_it(here: Installation) -> None:
    with detached(here, "brief", "small", "/bin/sh", "-c", "echo out; echo err >&2; exit 5"):
        wait_for(lambda: "brief" not in names(here), "it has ended")

        done = container(here, "start", "-a", "brief")

    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 5)


# What it costs


def test_an_attendant_is_small_and_sleeps(here: Installation) -> None:
    with detached(here, "idle", "-it", "small"):
        (attendant,) = _attendants(here)
        time.sleep(0.2)
        before = _ticks(attendant)
        time.sleep(0.5)

        assert _ticks(attendant) == before
        assert _private_kb(attendant) < 8 << 10  # 4 MB measured
    wait_for(lambda: not _attendants(here), "it has ended with the container")


def _attendants(here: Installation) -> list[Path]:
    found = []
    for pid in here.pids():
        process = Path(f"/proc/{pid}")
        with contextlib.suppress(FileNotFoundError):
            if b"hakobune.runtime.attendant" in (process / "cmdline").read_bytes():
                found.append(process)
    return found


def _ticks(process: Path) -> int:
    fields = (process / "stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def _private_kb(process: Path) -> int:
    lines = (process / "smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def _supervisor(here: Installation) -> int:
    with SupervisorClient(here.home / "run" / "supervisor.sock") as client:
        pid: int = client.hello()["pid"]
        return pid


def test_without_the_process_that_keeps_its_terminal_a_container_runs_on_and_attach_says_why(
    here: Installation,
) -> None:
    with detached(here, "alone", "-it", "small", "/bin/sleep", "1000"):
        (attendant,) = _attendants(here)
        os.kill(int(attendant.name), signal.SIGKILL)
        wait_for(lambda: not _attendants(here), "it is gone")

        done = container(here, "attach", "--no-stdin", "alone")

        assert done.returncode == 1
        assert "the process that kept its terminal or its input has ended" in done.stderr
        assert "alone" in names(here)


# What cannot be


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("attach", "nobody"), 1, "there is no container 'nobody'"),
        (("attach", "--detach-keys", "ctrl-1", "typed"), 2, "'ctrl-1' is no key"),
        (("attach", "typed"), 1, "the input is not a terminal"),
        (("attach", "ended"), 1, "it has stopped (exit code 3)"),
        (("attach",), 2, "CONTAINER"),
        (("start", "-a", "typed", "ended"), 2, "-a and -i go with one container"),
        (("start", "-ai", "typist"), 125, "the input is not a terminal"),
        (("start", "-a", "nobody"), 125, "there is no container 'nobody'"),
        (("run", "-it", "small"), 125, "the input is not a terminal"),
        (("run", "-d", "--detach-keys", "nonsense", "small"), 2, "is no key"),
        (("exec", "-t", "--detach-keys", "ctrl-?", "typed", "id"), 2, "is no key"),
    ],
)
def test_what_cannot_be_is_said_in_words(
    here: Installation, arguments: tuple[str, ...], code: int, words: str
) -> None:
    _have_three(here)

    done = container(here, *arguments, stdin="")

    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "error: " in done.stderr


def _have_three(here: Installation) -> None:
    if "typed" not in names(here):
        container(here, "run", "-dit", "--name", "typed", "small")
        container(here, "run", "-d", "--name", "ended", "small", "/bin/sh", "-c", "exit 3")
        container(here, "run", "-dit", "--name", "typist", "small", "/bin/sh", "-c", "exit 3")
        wait_for(lambda: not {"ended", "typist"} & set(names(here)), "they have ended")


def test_a_container_of_a_command_is_shown_there(here: Installation) -> None:
    process = here.start("container", "run", "--name", "front", "small", "/bin/sleep", "1000")
    try:
        wait_for(lambda: "front" in names(here), "it runs")
        done = container(here, "attach", "front")
    finally:
        process.kill()
        process.communicate(timeout=20)

    assert done.returncode == 1
    assert "belongs to the command that runs it in the foreground" in done.stderr


def test_what_is_known_of_it_says_how_it_is_attended(here: Installation) -> None:
    with detached(here, "known", "-i", "small", "cat"):
        spec = inspect(here, "known")["spec"]

    assert isinstance(spec, dict)
    assert spec["interactive"] is True
    assert "terminal" not in spec


def test_when_everything_is_ended_those_who_are_attached_are_told_and_nothing_is_left(
    here: Installation,
) -> None:
    container(here, "rm", "-f", *_KEPT)
    script = ("/bin/sh", "-c", "trap 'exit 8' TERM; echo up; while :; do sleep 0.05; done")
    with typing([HAKO, "container", "run", "-it", "small", *script], here.env) as person:
        person.expect("up")

        here.hako("serve", "--stop")

        assert person.wait() == 8
    assert not here.lasting_pids()
