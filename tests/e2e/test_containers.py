"""`hako container …` as somebody who knows docker uses it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hakobune.cli.serve import leftovers
from hakobune.oci.store import Store
from hakobune.settings import Settings
from tests.e2e.installation import Installation
from tests.supervised import fetch, wait_for

pytestmark = pytest.mark.needs_root


@pytest.fixture
def settings(each: Installation) -> Settings:
    return Settings.from_environment(each.env, uid=0)


def _run(
    each: Installation, *arguments: str, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["./hako", "container", "run", *arguments],
        env=each.env,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )


# In the foreground


def test_output_and_exit_code_are_the_containers(each: Installation) -> None:
    done = _run(each, "--rm", "small", "/bin/sh", "-c", "echo out; echo err >&2; exit 7")

    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)


def test_a_foreground_container_needs_no_supervisor_and_leaves_nothing(
    each: Installation, settings: Settings
) -> None:
    each.hako("serve", "--stop", check=False)

    done = _run(each, "small", "ls", "/sys/class/net")

    assert done.stdout.split() == ["eth0", "lo"]
    assert leftovers(settings) == ()


def test_much_output_comes_whole(each: Installation) -> None:
    done = _run(each, "small", "dd", "if=/dev/zero", "bs=64k", "count=64", "status=none")

    assert done.stdout == "\0" * (64 << 16)


def test_standard_input_is_given_with_i_only(each: Installation) -> None:
    assert _run(each, "-i", "small", "cat", stdin="hello\n").stdout == "hello\n"
    assert _run(each, "small", "cat", stdin="hello\n").stdout == ""


def test_output_can_be_opened_by_name_even_through_a_pipe(each: Installation) -> None:
    done = _run(each, "small", "/bin/sh", "-c", "echo named >/dev/stdout")

    assert done.stdout == "named\n"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("no-such-image",), 125, "there is no image no-such-image"),
        (("-u", "nobody-here", "small"), 125, "no user 'nobody-here'"),
        (("small", "/etc/passwd"), 126, "not executable"),
        (("small", "/nope"), 127, "no such program"),
        (("small", "nope"), 127, "no such program"),
    ],
)
def test_exit_codes_of_what_cannot_start_are_dockers(
    each: Installation, settings: Settings, arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = _run(each, *arguments)

    assert done.returncode == code
    assert words in done.stderr
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_killed_program_gives_128_and_the_signal(each: Installation) -> None:
    # the shell is the first process, which only signals from outside can kill: its child it is
    done = _run(each, "small", "/bin/sh", "-c", "sh -c 'kill -9 $$'; exit $?")

    assert done.returncode == 137


def test_too_little_memory_is_said(each: Installation) -> None:
    done = _run(
        each, "--memory", "16m", "small", "dd", "if=/dev/zero", "of=/tmp/x", "bs=32M", "count=1"
    )

    assert done.returncode == 137
    assert "more than its 16 MiB of memory" in done.stderr


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), "uid=1002(app) gid=1000(app) groups=1000(app),2000(extra)"),
        (("-u", "root"), "uid=0(root) gid=0(root) groups=0(root)"),
        (("-u", "7"), "uid=7 gid=0(root) groups=0(root)"),
        (("-u", "7:9"), "uid=7 gid=9 groups=9"),
        (("-u", "app:extra"), "uid=1002(app) gid=2000(extra) groups=2000(extra)"),
    ],
)
def test_users_are_found_in_the_image(
    each: Installation, options: tuple[str, ...], expected: str
) -> None:
    assert _run(each, *options, "small", "id").stdout.strip() == expected


def test_environment_comes_from_image_options_and_ourselves(each: Installation) -> None:
    done = subprocess.run(
        ["./hako", "container", "run", "-e", "A=1", "-e", "OURS", "-e", "UNSET", "--entrypoint", "env", "server"],
        env={**each.env, "OURS": "yes"},
        capture_output=True,
        text=True,
        timeout=60,
    )  # fmt: skip

    env = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert (env["A"], env["OURS"], env["PORT"], env["HOME"]) == ("1", "yes", "9000", "/root")
    assert "UNSET" not in env
    assert "HAKO_HOME" not in env


def test_the_working_directory_is_the_images_or_given(each: Installation) -> None:
    command = ("--entrypoint", "/bin/sh", "server", "-c", "echo $PWD")

    assert _run(each, *command).stdout == "/tmp\n"
    assert _run(each, "-w", "/etc", *command).stdout == "/etc\n"


def test_a_volume_is_written_with_its_own_ids_and_can_be_read_only(
    each: Installation, tmp_path: Path
) -> None:
    os.chown(tmp_path, 1002, 1000)
    script = "touch /data/f && stat -c %u /data/f; touch /ro/f || echo read-only"

    done = _run(
        each,
        "-v",
        f"{tmp_path}:/data",
        "-v",
        f"{tmp_path}:/ro:ro",
        "small",
        "/bin/sh",
        "-c",
        script,
    )

    assert done.stdout.split() == ["1002", "read-only"]
    assert (tmp_path / "f").stat().st_uid == 1002


@contextlib.contextmanager
def _started(each: Installation, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command that does not outlive the block."""
    process = each.start("container", "run", *arguments)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=20)


def test_a_signal_reaches_the_container(each: Installation) -> None:
    script = "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    with _started(each, "small", "/bin/sh", "-c", script) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"

        process.send_signal(signal.SIGTERM)

        rest, _ = process.communicate(timeout=20)
    assert (rest, process.returncode) == ("caught\n", 9)


def test_killing_the_command_ends_the_container(each: Installation) -> None:
    seconds = _unheard_of()
    with _started(
        each, "--cpus", "0.5", "small", "/bin/sh", "-c", f"echo ready; sleep {seconds}"
    ) as process:
        assert process.stdout
        process.stdout.readline()
        wait_for(lambda: _sleepers(seconds), "it sleeps")

        process.kill()

        wait_for(lambda: not _sleepers(seconds), "the container has ended", timeout_s=5)


def test_a_first_process_without_handlers_ends_at_the_third_interrupt(each: Installation) -> None:
    seconds = _unheard_of()
    with _started(each, "small", "/bin/sleep", seconds) as process:
        wait_for(lambda: _sleepers(seconds), "it sleeps")

        for _ in range(3):
            process.send_signal(signal.SIGINT)
            time.sleep(0.1)

        process.communicate(timeout=20)
    assert process.returncode == 137
    assert not _sleepers(seconds)


def test_control_c_at_a_terminal_is_the_containers_signal_once(each: Installation) -> None:
    ours, theirs = pty.openpty()
    script = "trap 'echo int; exit 3' INT; echo ready; while :; do sleep 0.05; done"
    process = subprocess.Popen(
        ["setsid", "--ctty", "./hako", "container", "run", "small", "/bin/sh", "-c", script],
        env=each.env,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"

    os.write(ours, b"\x03")

    rest, errors = process.communicate(timeout=20)
    os.close(ours)
    assert (rest, errors, process.returncode) == ("int\n", "", 3)


def _unheard_of() -> str:
    """A number of seconds that nobody else sleeps."""
    return str(10_000_000 + int.from_bytes(os.urandom(4), "big"))


def _sleepers(seconds: str) -> list[int]:
    """The living processes `sleep SECONDS`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[-2:-1] == [seconds.encode()] and words[0].endswith(b"sleep"):
                found.append(int(entry.name))
    return found


# Left running


def test_a_detached_container_is_listed_logged_stopped_and_removed(each: Installation) -> None:
    script = "trap 'echo bye; exit 4' TERM; echo hello; echo oops >&2; while :; do sleep 0.05; done"

    started = _run(each, "-d", "--name", "web1", "small", "/bin/sh", "-c", script)

    assert (started.stdout, started.returncode) == ("web1\n", 0)
    table = each.hako("container", "ls").stdout.splitlines()
    assert table[0].split() == ["CONTAINER", "IMAGE", "STATUS", "ADDRESS", "PORTS"]
    assert table[1].split()[:3] == ["web1", "small", "running"]
    wait_for(lambda: "hello" in each.hako("container", "logs", "web1").stdout, "it talks")
    logs = each.hako("container", "logs", "web1")
    assert (logs.stdout, logs.stderr) == ("hello\n", "oops\n")
    assert each.hako("container", "stop", "web1").stdout == "web1\n"
    assert "web1" not in each.hako("container", "ls").stdout
    assert "exited (4)" in each.hako("container", "ls", "-a").stdout
    assert each.hako("container", "logs", "web1").stdout == "hello\nbye\n"
    assert each.hako("container", "rm", "web1").stdout == "web1\n"
    assert json.loads(each.hako("container", "ls", "-a", "--format", "json").stdout) == []


def test_a_detached_server_answers_on_its_address(each: Installation) -> None:
    _run(each, "-d", "--name", "server1", "server")

    (status,) = json.loads(each.hako("container", "ls", "--format", "json").stdout)

    assert b"200 OK" in fetch(status["address"], 9000)
    each.hako("container", "rm", "-f", "server1")


def test_what_a_detached_container_cannot_execute_gives_127_and_leaves_nothing(
    each: Installation,
) -> None:
    done = _run(each, "-d", "--name", "bad", "small", "/nope")

    assert done.returncode == 127
    assert "bad" not in each.hako("container", "ls", "-a").stdout


def test_a_name_in_use_and_a_running_container_are_refused_in_words(each: Installation) -> None:
    _run(each, "-d", "--name", "taken", "small", "/bin/sleep", "100")

    again = _run(each, "-d", "--name", "taken", "small", "/bin/sleep", "100")
    removal = each.hako("container", "rm", "taken", check=False)

    assert again.returncode == 125
    assert "there is one already" in again.stderr
    assert removal.returncode == 1
    assert "it is running" in removal.stderr
    each.hako("container", "rm", "-f", "taken")


def test_rm_makes_a_detached_container_go_when_it_ends(each: Installation) -> None:
    _run(each, "-d", "--rm", "--name", "brief", "small", "/bin/sh", "-c", "exit 0")

    wait_for(lambda: "brief" not in each.hako("container", "ls", "-a").stdout, "it is gone")


def test_following_the_log_ends_with_the_container(each: Installation) -> None:
    script = "for i in 1 2 3; do echo $i; sleep 0.2; done"
    _run(each, "-d", "--name", "counter", "small", "/bin/sh", "-c", script)

    followed = each.hako("container", "logs", "-f", "counter", timeout_s=30)

    assert followed.stdout.split() == ["1", "2", "3"]
    each.hako("container", "rm", "counter")


def test_the_image_of_a_container_is_not_collected(each: Installation) -> None:
    _run(each, "-d", "--name", "keeper", "small", "/bin/sleep", "100")
    with Store(each.home) as store:
        kept = store.root("containers", "keeper")

    each.hako("container", "rm", "-f", "keeper")

    with Store(each.home) as store:
        assert kept
        assert store.root("containers", "keeper") is None


@pytest.mark.parametrize(
    "arguments",
    [("-v", "/nowhere-at-all:/x", "small"), ("--memory", "lots", "small"), ("--cpus", "0", "small"), ("--name", "NO!", "small")],
)  # fmt: skip
def test_bad_options_are_usage_errors(each: Installation, arguments: tuple[str, ...]) -> None:
    done = _run(each, *arguments)

    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
