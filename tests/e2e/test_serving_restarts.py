"""Controller, HAProxy, supervisor and instances are killed; what serves goes on serving."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hakobune.cli.client import Client
from hakobune.runtime.supervisor_client import SupervisorClient
from hakobune.serving.plan import IdleRules
from hakobune.settings import Settings
from tests.e2e.load import Answer, Load, ask
from tests.serving_world import PARENT, ServingWorld, serving_world

pytestmark = pytest.mark.needs_root

NAME = f"{PARENT}/services/shop"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ServingWorld]:
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    with serving_world(tmp_path) as world:
        yield world


def instance_pids(world: ServingWorld) -> set[int]:
    with SupervisorClient(world.settings.supervisor_socket) as client:
        return {s.pid for s in client.list() if s.pid is not None}


def program_pid(settings: Settings, name: str) -> int:
    with SupervisorClient(settings.supervisor_socket) as client:
        (pid,) = [p.pid for p in client.programs() if p.name == name]
        assert pid is not None
        return pid


# A controller that is started again


def test_a_new_controller_adopts_instances_and_the_ingress(world: ServingWorld) -> None:
    async def first() -> int:
        async with world.controller() as s:
            await s.deploy("shop")
            return await s.controller.ingress_pid()

    async def second() -> int:
        async with world.controller() as s:
            assert s.states("shop") == ["ready"]
            assert (await s.ask("shop")).body.startswith(b"shop-00001  most 1 served 2")
            return await s.controller.ingress_pid()

    ingress = asyncio.run(first())
    pids = instance_pids(world)
    answer = ask(world.settings.port, "shop.localhost")

    assert answer.body.startswith(b"shop-00001  most 1 served 1")  # nobody controls
    assert asyncio.run(second()) == ingress
    assert instance_pids(world) == pids


def test_a_frozen_instance_is_adopted_frozen_and_wakes(world: ServingWorld) -> None:
    async def first() -> None:
        async with world.controller(idle=IdleRules(freeze_after_s=0.3)) as s:
            await s.deploy("shop")
            await s.until(lambda: s.states("shop") == ["frozen"], "freezing")

    async def second() -> None:
        async with world.controller() as s:
            assert s.states("shop") == ["frozen"]
            assert (await s.ask("shop")).status == 200

    asyncio.run(first())
    asyncio.run(second())


def test_a_held_request_waits_for_the_next_controller(world: ServingWorld) -> None:
    async def first() -> None:
        async with world.controller(idle=IdleRules(freeze_after_s=0.2, stop_after_s=0.4)) as s:
            await s.deploy("shop")
            await s.until(lambda: s.states("shop") == [], "scale to zero")

    async def second(held: asyncio.Task[Answer] | None = None) -> Answer:
        held = asyncio.create_task(asyncio.to_thread(ask, world.settings.port, "shop.localhost"))
        await asyncio.sleep(0.5)
        assert not held.done()
        async with world.controller():
            return await held

    asyncio.run(first())
    answer = asyncio.run(second())

    assert answer.status == 200
    assert answer.seconds > 0.5


def test_what_a_killed_controller_had_begun_is_finished_by_the_next(world: ServingWorld) -> None:
    async def first() -> str:
        async with world.controller() as s:
            await s.deploy("shop")
            operation = await s.deploy("shop", env={"BOOT_MS": "1500"}, wait=False)
            await asyncio.sleep(0.3)
            return operation.name

    async def second(operation: str) -> None:
        async with world.controller() as s:
            done = await s.controller.wait_operation(operation, 20)
            assert done.done
            assert not done.message
            assert (await s.ask("shop")).body.startswith(b"shop-00002 ")
            await s.until(lambda: s.states("shop") == ["ready"], "only the new one is left")

    asyncio.run(second(asyncio.run(first())))


# The whole installation, as `hako serve` starts it


@contextlib.contextmanager
def served(world: ServingWorld) -> Iterator[Client]:
    """The API's own process under the supervisor."""
    settings = world.settings
    env = {
        **os.environ,
        "HAKO_HOME": str(settings.home),
        "HAKO_LISTEN": f"{settings.host}:{settings.port}",
        "HAKO_PORTS": f"{settings.first_service_port}-{settings.last_service_port}",
    }
    with SupervisorClient(settings.supervisor_socket) as client:
        client.start_program("controller", [sys.executable, "-m", "hakobune.api.app"], env=env)
    api = Client(settings.api_socket)
    deadline = time.monotonic() + 30
    while True:
        try:
            list(api.list(PARENT, "services"))
            break
        except Exception:
            assert time.monotonic() < deadline, "the API does not answer"
            time.sleep(0.1)
    yield api


def deploy(api: Client, text: str) -> dict[str, object]:
    body = {
        "template": {"containers": [{"image": "app", "env": [{"name": "TEXT", "value": text}]}]}
    }
    current = api.find(NAME)
    if current:
        return api.update(NAME, body, mask="template")
    return api.create(PARENT, "services", "shop", body)


def test_killing_the_controller_again_and_again_fails_no_request(world: ServingWorld) -> None:
    with served(world) as api:
        api.wait(deploy(api, "t0"))

        with Load(world.settings.port, "shop.localhost", rate=50) as load:
            for number in range(1, 4):
                with contextlib.suppress(Exception):  # the answer may die with the controller
                    deploy(api, f"t{number}")
                os.kill(program_pid(world.settings, "controller"), signal.SIGKILL)
                wait_for_api(api)
                wait_settled(api)
            time.sleep(0.5)

        assert load.failures() == []
        assert len(load.answers) > 100


def test_killing_haproxy_again_and_again_fails_no_request_that_is_repeated(
    world: ServingWorld,
) -> None:
    with served(world) as api:
        api.wait(deploy(api, "t0"))

        with RepeatingLoad(world.settings.port, "shop.localhost", rate=50) as load:
            for number in range(1, 4):
                operation = deploy(api, f"t{number}")
                os.kill(program_pid(world.settings, "haproxy"), signal.SIGKILL)
                api.wait(operation)
                time.sleep(1)

        assert load.failures() == []
        assert b"shop-00004 t3" in {body[:13] for body in load.bodies()}


def test_haproxy_alone_comes_back_serving(world: ServingWorld) -> None:
    with served(world) as api:
        api.wait(deploy(api, "t0"))
        time.sleep(0.3)
        with SupervisorClient(world.settings.supervisor_socket) as client:
            client.stop_program("controller")

        for host, port in (("127.0.0.1", 0), ("::1", 0), ("127.0.0.1", 1), ("::1", 1)):
            os.kill(program_pid(world.settings, "haproxy"), signal.SIGKILL)

            # Nobody has to repeat anything: the connection waits in the supervisor's socket.
            answer = ask(world.settings.port + port, "shop.localhost", address=host)
            assert answer.body.startswith(b"shop-00001 t0")


def test_killing_an_instance_fails_no_request_that_may_be_repeated(world: ServingWorld) -> None:
    with served(world) as api:
        api.wait(deploy(api, "t0"))

        with Load(world.settings.port, "shop.localhost", rate=50) as load:
            for _ in range(3):
                time.sleep(0.5)
                for pid in instance_pids(world):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                time.sleep(3)

        assert load.failures() == []


def test_killing_the_supervisor_fails_no_request_and_nothing_restarts(world: ServingWorld) -> None:
    with served(world) as api:
        api.wait(deploy(api, "t0"))
        pids = instance_pids(world)
        haproxy = program_pid(world.settings, "haproxy")

        with Load(world.settings.port, "shop.localhost", rate=50) as load:
            time.sleep(0.5)
            world.supervised.kill()
            time.sleep(0.5)
            world.supervised.start()
            time.sleep(1)

        assert load.failures() == []
        assert instance_pids(world) == pids
        assert program_pid(world.settings, "haproxy") == haproxy


def wait_for_api(api: Client) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(Exception):
            api.get(NAME)
            return
        time.sleep(0.05)
    raise AssertionError("the API does not come back")


def wait_settled(api: Client) -> None:
    deadline = time.monotonic() + 30
    while api.get(NAME).get("reconciling"):
        assert time.monotonic() < deadline, "the deploy does not end"
        time.sleep(0.05)


class RepeatingLoad(Load):
    """Repeats a GET whose connection was refused or cut, as HTTP clients do."""

    def _ask(self) -> None:
        self.answers.append(ask_again(self.port, self.host, self.path))


def ask_again(port: int, host: str, path: str = "/", *, patience_s: float = 10) -> Answer:
    """A GET, repeated while no answer comes at all."""
    deadline = time.monotonic() + patience_s
    while True:
        answer = ask(port, host, path)
        if answer.status or time.monotonic() > deadline:
            return answer
        time.sleep(0.05)
