"""Supervisor, controller, build and HAProxy killed with -9 in the middle of a deploy under load, several times, and a reboot."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hakobune.runtime.supervisor_client import SupervisorClient
from hakobune.settings import Settings
from tests.e2e.installation import Installation, wait_until
from tests.e2e.load import Load, ask
from tests.e2e.test_deploy import write_page

pytestmark = pytest.mark.needs_root

ROUNDS = 3


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A Flask app that is served already."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "requirements.txt").write_text("flask\ngunicorn\n")
    write_page(folder, "0")
    return folder


def supervisor_pid(installation: Installation) -> int:
    with SupervisorClient(installation.home / "run" / "supervisor.sock") as supervisor:
        return int(supervisor.hello()["pid"])


def program_pid(installation: Installation, name: str) -> int:
    with SupervisorClient(installation.home / "run" / "supervisor.sock") as supervisor:
        found = next(p for p in supervisor.programs() if p.name == name)
        assert found.pid is not None
        return found.pid


def build_pid(installation: Installation) -> int:
    """The command that builds: the one whose command line says deploy."""
    for pid in installation.pids():
        with contextlib.suppress(OSError):
            if b"\0deploy\0" in (Path("/proc") / str(pid) / "cmdline").read_bytes():
                return pid
    raise AssertionError("no deploy runs")


VICTIMS: dict[str, tuple[Callable[[Installation], int], float]] = {
    "supervisor": (supervisor_pid, 0),
    "controller": (lambda i: program_pid(i, "controller"), 0),
    "build": (build_pid, 0),
    # HAProxy is the path of a request: what it had accepted is cut, and a client repeats such a GET. Nobody is refused.
    "haproxy": (lambda i: program_pid(i, "haproxy"), 10),
}


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_kill_in_the_middle_of_a_deploy_fails_no_request(
    installation: Installation, shop: Path, victim: str
):
    find, patience_s = VICTIMS[victim]
    installation.deploy(shop)
    chance = random.Random(victim)

    with Load(installation.port, "shop.localhost", rate=50, patience_s=patience_s) as load:
        for number in range(1, ROUNDS + 1):
            write_page(shop, str(number))
            deploy = installation.start("deploy", "--source", str(shop))
            time.sleep(chance.uniform(0.05, 0.6))
            with contextlib.suppress(AssertionError, StopIteration):
                os.kill(find(installation), signal.SIGKILL)
            deploy.communicate(timeout=120)
            # The deploy has ended or is cleanly repeated.
            installation.hako("deploy", "--source", str(shop), timeout_s=120)
            assert ask(installation.port, "shop.localhost").body == str(number).encode()

    assert load.failures() == []
    assert load.refused == 0
    assert load.bodies() <= {str(number).encode() for number in range(ROUNDS + 1)}


def test_after_a_reboot_everything_serves_again(installation: Installation, shop: Path):
    installation.deploy(shop)
    wait_until(lambda: not kill_processes(installation), what="the end of every process")
    kill_containers(installation)
    shutil.rmtree(installation.home / "run")

    installation.hako("serve")

    answer = ask(installation.port, "shop.localhost")
    assert (answer.status, answer.body) == (200, b"0")


def kill_processes(installation: Installation) -> set[int]:
    """Kill what there is, also what a supervisor has just started again; those that were found."""
    found = installation.pids()
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return found


def kill_containers(installation: Installation) -> None:
    for state in (installation.home / "containers").glob("*/state.json"):
        document = json.loads(state.read_text())
        if pid := document.get("pid") or document.get("status", {}).get("pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_a_reused_pid_is_not_adopted(installation: Installation, shop: Path):
    installation.deploy(shop)
    supervisor = supervisor_pid(installation)
    os.kill(supervisor, signal.SIGKILL)
    kill_containers(installation)
    wait_until(lambda: supervisor not in installation.pids(), what="the supervisor's end")
    for state in (installation.home / "containers").glob("*/state.json"):
        text = state.read_text()
        document = json.loads(text)
        place = document if "pid" in document else document["status"]
        place["pid"] = os.getpid()  # somebody else has the number now; the start time differs
        state.write_text(json.dumps(document))

    installation.hako("serve")

    answer = ask(installation.port, "shop.localhost")
    assert (answer.status, answer.body) == (200, b"0")
    assert Path(f"/proc/{os.getpid()}").exists()


def test_stopping_leaves_no_process_no_bridge_and_no_cgroup(installation: Installation, shop: Path):
    installation.deploy(shop)

    done = installation.hako("serve", "--stop")

    assert "everything has ended" in done.stderr + done.stdout
    assert installation.pids() == set()
    for port in (installation.port, installation.port + 1):
        with socket.create_server(("127.0.0.1", port)):
            pass  # nobody holds it any more
    name = Settings.from_environment(installation.env, uid=0).installation
    assert not [i for i in os.listdir("/sys/class/net") if i.startswith(name)]
    assert not list(Path("/sys/fs/cgroup").glob(f"*/{name}*"))
