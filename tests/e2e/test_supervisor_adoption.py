"""A supervisor that is killed, replaced or rebooted away: what it ran goes on, nothing is lost, nobody else is adopted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hakobune.cli.serve import leftovers, stop_all
from hakobune.runtime.container import Phase
from hakobune.runtime.event import EventKind
from hakobune.runtime.supervisor_client import SupervisorClient
from tests.supervised import Supervised, fetch, is_alive, supervised, wait_for

pytestmark = pytest.mark.needs_root


@pytest.fixture
def world(root: Path) -> Iterator[Supervised]:
    with supervised(root) as world:
        yield world


def test_containers_and_programs_outlive_a_killed_supervisor_and_are_adopted(
    world: Supervised,
) -> None:
    client = world.start()
    client.create(world.spec("web", "/srv"))
    before = client.start("web")
    waiting = client.create(world.spec("later", "/srv"))
    program = client.start_program("prog", ["sleep", "1000"])
    assert before.address

    world.kill()
    answer_without = fetch(before.address)
    client = world.start()

    assert b"200 OK" in answer_without
    after = {status.id: status for status in client.list()}
    assert after["web"] == before
    assert after["later"] == waiting
    assert client.programs()[0].pid == program.pid
    assert b"200 OK" in fetch(before.address)
    client.start("later")
    assert waiting.address
    assert b"200 OK" in fetch(waiting.address)
    assert client.stop("web").exit_code in (0, None)


def test_nothing_that_is_printed_meanwhile_is_lost(world: Supervised) -> None:
    client = world.start()
    script = "i=0; while [ $i -lt 60 ]; do echo line $i; i=$((i+1)); sleep 0.02; done; sleep 100"
    client.create(world.spec("talker", "/bin/sh", "-c", script))
    status = client.start("talker")
    wait_for(lambda: len(world.records(status)) > 5, "it talks")

    world.kill()
    time.sleep(0.3)
    client = world.start()

    wait_for(lambda: len(world.records(status)) >= 60, "all lines have come")
    assert [record.text for record in world.records(status)] == [f"line {n}" for n in range(60)]


def test_the_exit_code_of_an_adopted_container_is_known(world: Supervised) -> None:
    client = world.start()
    client.create(
        world.spec("seven", "/bin/sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.05; done")
    )
    client.start("seven")

    world.kill()
    client = world.start()
    time.sleep(0.2)
    stopped = client.stop("seven")

    assert stopped.phase is Phase.STOPPED
    assert stopped.exit_code == 7


def test_a_container_that_ended_while_nobody_watched_is_found_stopped(
    world: Supervised,
) -> None:
    client = world.start()
    client.create(world.spec("gone", "/bin/sh", "-c", "echo last words; sleep 100"))
    status = client.start("gone")
    wait_for(lambda: world.records(status), "it talks")
    assert status.pid

    world.kill()
    os.kill(status.pid, signal.SIGKILL)
    wait_for(lambda: not is_alive(status.pid or 0), "it is gone")
    client = world.start()

    found = client.wait("gone", timeout_s=5)
    assert (found.phase, found.pid) == (Phase.STOPPED, None)
    assert found.exit_code in (137, None)  # whoever reaped it first may have been faster
    assert [record.text for record in world.records(found)] == ["last words"]
    client.create(world.spec("next", "/bin/sleep", "1"))


def test_a_reused_pid_is_not_adopted(world: Supervised) -> None:
    client = world.start()
    client.create(world.spec("old", "/bin/sleep", "1000"))
    status = client.start("old")
    world.kill()
    assert status.pid
    os.kill(status.pid, signal.SIGKILL)
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        state = world.settings.home / "containers/old/state.json"
        record = json.loads(state.read_text())
        record["status"]["pid"] = stranger.pid  # as if the kernel had given the number again
        state.write_text(json.dumps(record))

        client = world.start()

        assert client.get("old").phase is Phase.STOPPED
        client.remove("old", force=True)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_reboot_leaves_stopped_containers_and_no_programs(world: Supervised) -> None:
    client = world.start()
    client.create(world.spec("web", "/srv"))
    client.start("web")
    stop_all(world.settings)
    state = world.settings.home / "containers/web/state.json"
    record = json.loads(state.read_text())
    record["status"].update(phase="running", pid=1, start_time=1, exit_code=None)
    record["boot_id"] = "another"
    state.write_text(json.dumps(record))
    shutil.rmtree(world.settings.run)

    client = world.start()

    assert client.get("web").phase is Phase.STOPPED
    assert client.programs() == ()
    client.remove("web")
    client.create(world.spec("web", "/srv"))
    address = client.start("web").address
    assert address
    assert b"200 OK" in fetch(address)


def test_a_creation_that_was_cut_off_is_undone(world: Supervised) -> None:
    client = world.start()
    world.kill()
    half = world.settings.home / "containers/half"
    half.mkdir()
    (half / "spec.json").write_text(json.dumps(world.spec("half", "/srv").to_json()))

    client = world.start()

    assert client.list() == ()
    assert not half.exists()
    client.create(world.spec("half", "/srv"))


@pytest.mark.parametrize("delay_s", [0.0, 0.004, 0.008, 0.012, 0.02])
def test_a_supervisor_killed_in_the_middle_of_a_creation_leaves_no_process(
    world: Supervised, delay_s: float
) -> None:
    client = world.start()
    child = os.fork()
    if child == 0:
        try:
            client = SupervisorClient(world.settings.supervisor_socket)
            client.create(world.spec("torn", "/bin/sleep", "7654"))
        finally:
            os._exit(0)
    time.sleep(delay_s + 0.003)
    world.kill()
    os.waitpid(child, 0)

    client = world.start()

    living = [status for status in client.list() if status.pid]
    assert all(is_alive(status.pid or 0) for status in living)
    for status in client.list():
        client.remove(status.id, force=True)
    wait_for(lambda: not _running("7654"), "no process is left")


def _running(word: str) -> bool:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[:2] == [b"/bin/sleep", word.encode()]:
                return True
    return False


def test_an_upgrade_keeps_pid_children_and_output(world: Supervised) -> None:
    client = world.start()
    script = "i=0; while [ $i -lt 60 ]; do echo line $i; i=$((i+1)); sleep 0.02; done; exit 6"
    client.create(world.spec("talker", "/bin/sh", "-c", script))
    status = client.start("talker")
    program = client.start_program("prog", ["sleep", "1000"])
    pid = client.hello()["pid"]
    started = client.hello()["started_at"]

    client.upgrade()
    client = world.connect()
    wait_for(lambda: client.hello()["started_at"] > started, "the new program answers")

    assert client.hello()["pid"] == pid
    assert client.get("talker").pid == status.pid
    assert client.programs()[0].pid == program.pid
    assert client.wait("talker", timeout_s=10).exit_code == 6
    texts = [(record.text, record.partial) for record in world.records(status)]
    assert texts == [(f"line {n}", False) for n in range(60)]
    stop_all(world.settings)
    assert leftovers(world.settings) == ()


def test_what_a_killed_supervisor_left_is_ended_without_another(world: Supervised) -> None:
    client = world.start()
    status = client.create(world.spec("web", "/srv"))
    client.start("web")
    program = client.start_program("prog", ["sleep", "1000"])
    world.kill()
    assert leftovers(world.settings)

    assert stop_all(world.settings)

    assert leftovers(world.settings) == ()
    assert not is_alive(status.pid or 0)
    assert not is_alive(program.pid or 0)


def test_a_program_that_died_with_the_supervisor_is_started_again(world: Supervised) -> None:
    client = world.start()
    program = client.start_program("prog", ["sleep", "1000"])
    world.kill()
    assert program.pid
    os.kill(program.pid, signal.SIGKILL)

    client = world.start()

    wait_for(lambda: client.programs()[0].pid not in (None, program.pid), "it runs again")


def test_a_subscriber_hears_of_an_adopted_containers_end(world: Supervised) -> None:
    client = world.start()
    client.create(world.spec("web", "/srv"))
    client.start("web")
    world.kill()
    client = world.start()
    events = client.events()

    client.kill("web", signal.SIGKILL)

    event = next(event for event in events if event.kind is EventKind.EXITED)
    assert (event.subject, event.signal) == ("web", 9)
