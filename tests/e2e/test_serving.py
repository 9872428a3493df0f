"""Services over the real supervisor and the real HAProxy: deploy, fail, sleep, wake, crash, restart."""

from __future__ import annotations

import asyncio
import http.client
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from hakobune.serving.document import read_document
from hakobune.serving.errors import (
    AbortedError,
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
)
from hakobune.serving.plan import IdleRules
from hakobune.serving.service import ConditionState, Service
from tests.e2e.load import Load, ask
from tests.serving_world import NEVER, PARENT, Serving, ServingWorld, serving_world

pytestmark = pytest.mark.needs_root

SHORT = IdleRules(freeze_after_s=0.5, stop_after_s=1.5)
FREEZE_ONLY = IdleRules(freeze_after_s=0.5, stop_after_s=3600)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingWorld]:
    folder = tmp_path_factory.mktemp("serving")
    with serving_world(folder) as world:
        yield world


Story = Callable[[Serving], Awaitable[None]]


def run(world: ServingWorld, story: Story, *, idle: IdleRules = NEVER, pending_s: int = 10) -> None:
    """Tell *story* to a controller of its own."""

    async def tell() -> None:
        async with world.controller(idle=idle, pending_s=pending_s) as serving:
            try:
                await story(serving)
            finally:
                for service in serving.controller.list_services(PARENT, 1000, "")[0]:
                    done = await serving.controller.delete_service(service.name)
                    await serving.controller.wait_operation(done.name, 30)

    asyncio.run(tell())


# Deploying


def test_a_service_answers_under_its_name_and_its_port(world: ServingWorld) -> None:
    async def story(s: Serving) -> None:
        operation = await s.deploy("shop")

        assert operation.done
        assert not operation.message
        service = s.service("shop")
        assert service.terminal_condition is not None
        assert service.terminal_condition.state is ConditionState.SUCCEEDED
        assert service.latest_ready_revision == f"{service.name}/revisions/shop-00001"
        assert (await s.ask("shop")).body.startswith(b"shop-00001 ")
        named, ported = service.urls
        assert named == f"http://shop.localhost:{s.settings.port}"
        port = int(ported.rpartition(":")[2])
        assert (await asyncio.to_thread(get, port)).startswith(b"shop-00001 ")

    run(world, story)


@pytest.mark.parametrize(
    ("host", "addresses"),
    [("127.0.0.2", ["127.0.0.2"]), ("[::]", ["::1", "127.0.0.1", "127.0.0.2"])],
)
def test_a_service_answers_on_the_addresses_that_were_chosen_and_on_no_other(
    tmp_path: Path, host: str, addresses: list[str]
) -> None:
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)

    async def story(s: Serving) -> None:
        await s.deploy("shop")
        for port in (s.settings.port, s.settings.first_service_port):
            for address in ("127.0.0.1", "127.0.0.2", "::1"):
                answer = await asyncio.to_thread(ask, port, "shop.localhost", address=address)
                assert answer.status == (200 if address in addresses else 0)

    with serving_world(tmp_path, host=host) as chosen:
        run(chosen, story)

    with socket.create_server((addresses[0], chosen.settings.port), family=family(addresses[0])):
        pass  # nobody holds it any more


def family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def test_another_template_takes_over_and_the_old_instance_ends(world: ServingWorld) -> None:
    async def story(s: Serving) -> None:
        await s.deploy("shop", env={"TEXT": "one"})
        await s.deploy("shop", env={"TEXT": "two"})

        assert (await s.ask("shop")).body.startswith(b"shop-00002 two")
        await s.until(lambda: s.states("shop") == ["ready"], "the old instance ends")

    run(world, story)


def test_the_same_template_again_changes_nothing(world: ServingWorld) -> None:
    async def story(s: Serving) -> None:
        await s.deploy("shop")
        before = s.service("shop")

        operation = await s.deploy("shop")

        assert operation.done
        assert s.service("shop") == before

    run(world, story)


def test_twenty_deploys_under_load_cut_no_request_and_keep_the_ingress(
    world: ServingWorld,
) -> None:
    async def story(s: Serving) -> None:
        await s.deploy("shop")
        pid = await s.controller.ingress_pid()

        with Load(s.settings.port, "shop.localhost", rate=50) as load:
            for number in range(20):
                operation = await s.deploy("shop", env={"TEXT": f"t{number}"})
                assert not operation.message
            await asyncio.sleep(0.3)

        assert load.failures() == []
        assert len(load.bodies()) > 20
        assert await s.controller.ingress_pid() == pid

    run(world, story)


ONE_AT_A_TIME = {"maxInstanceRequestConcurrency": 1, "scaling": {"maxInstanceCount": 1}}


def test_what_is_queued_is_answered_when_another_revision_takes_over(world: ServingWorld) -> None:
    async def story(s: Serving) -> None:
        await s.deploy("shop", template=ONE_AT_A_TIME)
        queued = [asyncio.create_task(s.ask("shop", "/sleep/300")) for _ in range(10)]
        await asyncio.sleep(0.3)

        await s.deploy("shop", env={"TEXT": "t1"}, template=ONE_AT_A_TIME)

        answers = await asyncio.gather(*queued)
        assert [a.status for a in answers] == [200] * 10
        assert all(a.body.startswith(b"shop-00001 ") for a in answers)
        await s.until(lambda: s.states("shop") == ["ready"], "the old revision's end")

    run(world, story)


def test_a_revision_that_never_listens_leaves_the_old_one_serving(world: ServingWorld) -> None:
    async def story(s: Serving) -> None:
        await s.deploy("shop")

        operation = await s.deploy(
            "shop",
            env={"LISTEN": "127.0.0.1", "LISTEN_PORT": "5000"},
            container={
                "startupProbe": {"periodSeconds": 1, "failureThreshold": 1, "tcpSocket": {}}
            },
        )

        assert operation.status == "FAILED_PRECONDITION"
        first, seen, fix, log = operation.message.splitlines()[:4]
        assert first == "shop-00002 does not listen on $PORT (8080). shop-00001 keeps 100 %."
        assert "listens on 127.0.0.1:5000 only" in seen
        assert "--port 5000" in fix
        assert "starting shop-00002" in log
        assert (await s.ask("shop")).body.startswith(b"shop-00001 ")
        service = s.service("shop")
        assert service.terminal_condition is not None
        assert service.terminal_condition.state is ConditionState.FAILED
        assert service.latest_ready_revision.endswith("shop-00001")
        assert service.latest_created_revision.endswith("shop-00002")
        await s.until(lambda: s.states("shop") == ["ready"], "the failed instance is gone")

    run(world, story)


def test_a_revision_that_ends_at_once_says_how_and_what_it_said_last(world: ServingWorld) -> None:
    async def story(s: Serving) -> None:
        operation = await s.deploy("shop", env={"FAIL": "no database"})

        assert operation.message.startswith(
            "shop-00001 exited with code 3 before it was ready. Nothing serves yet."
        )
        assert "last: cannot start: no database" in operation.message
        answer = await s.ask("shop")
        assert answer.status == 404
        assert b"hako services describe" in answer.body

    run(world, story)


def test_a_probe_that_is_answered_badly_says_the_status(world: ServingWorld) -> None:
    async def story(s: Serving) -> None:
        probe = {"periodSeconds": 1, "failureThreshold": 1, "httpGet": {"path": "/health"}}

        operation = await s.deploy("shop", env={"HEALTH": "503"}, container={"startupProbe": probe})

        assert "did not pass its startup probe" in operation.message
        assert 'GET /health answered 503, "shop-00001' in operation.message

    run(world, story)


def test_an_image_for_another_cpu_is_refused_with_both_named(world: ServingWorld) -> None:
    async def story(s: Serving) -> None:
        with pytest.raises(FailedPreconditionError, match=r"linux/s390x.*linux/amd64"):
            await s.deploy("shop", container={"image": "app-s390x"})

    run(world, story)


def test_an_image_that_is_not_here_is_refused_with_its_field(world: ServingWorld) -> None:
    async def story(s: Serving) -> None:
        with pytest.raises(InvalidArgumentError) as caught:
            await s.deploy("shop", container={"image": "nowhere"})

        assert caught.value.field == "template.containers[0].image"

    run(world, story)


def test_too_little_memory_is_told_as_such(world: ServingWorld) -> None:
    async def story(s: Serving) -> None:
        await s.deploy("shop", container={"resources": {"limits": {"memory": "32Mi"}}})

        answer = await s.ask("shop", "/eat/100")

        assert answer.status == 500
        assert b"ran out of memory (limit 32Mi)" in answer.body
        events = await s.controller.list_events(f"{s.service('shop').name}/revisions/shop-00001")
        assert "OutOfMemory" in {event.reason for event in events}

    run(world, story)


# Traffic


def test_traffic_is_split_and_a_tag_has_its_own_host(world: ServingWorld) -> None:
    async def story(s: Serving) -> None:
        await s.deploy("shop")
        await s.deploy("shop", env={"TEXT": "two"})
        traffic = [
            {"revision": "shop-00001", "percent": 50},
            {"percent": 50},
            {"revision": "shop-00001", "tag": "old"},
        ]

        await change(s, "shop", {"traffic": traffic}, "traffic")

        bodies = [(await s.ask("shop")).body[:10] for _ in range(40)]
        assert set(bodies) == {b"shop-00001", b"shop-00002"}
        assert (await s.ask("old---shop")).body.startswith(b"shop-00001")
        tagged = s.service("shop").traffic_statuses[2]
        assert tagged.uri == f"http://old---shop.localhost:{s.settings.port}"

    run(world, story)


def test_rolling_back_is_a_traffic_change_and_wakes_the_old_revision(world: ServingWorld) -> None:
    async def story(s: Serving) -> None:
        await s.deploy("shop", env={"TEXT": "one"})
        await s.deploy("shop", env={"TEXT": "two"})
        await s.until(lambda: s.states("shop") == ["ready"], "the old instance ends")

        await change(
            s, "shop", {"traffic": [{"revision": "shop-00001", "percent": 100}]}, "traffic"
        )

        assert (await s.ask("shop")).body.startswith(b"shop-00001 one")

    run(world, story)


def test_traffic_to_a_revision_that_does_not_exist_is_refused(world: ServingWorld) -> None:
    async def story(s: Serving) -> None:
        await s.deploy("shop")

        with pytest.raises(InvalidArgumentError, match="there is no revision 'shop-9'"):
            await change(
                s, "shop", {"traffic": [{"revision": "shop-9", "percent": 100}]}, "traffic"
            )

    run(world, story)


def test_a_stale_etag_aborts(world: ServingWorld) -> None:
    async def story(s: Serving) -> None:
        await s.deploy("shop")

        with pytest.raises(AbortedError):
            await change(s, "shop", {"description": "x", "etag": '"old"'}, "description")

    run(world, story)


def test_a_name_is_taken_until_the_service_is_deleted(world: ServingWorld) -> None:
    async def story(s: Serving) -> None:
        await s.deploy("shop")
        body = read_document({"template": {"containers": [{"image": "app"}]}}, Service)
        with pytest.raises(AlreadyExistsError):
            await s.controller.create_service(PARENT, "shop", body)

        deleting = await s.controller.delete_service(f"{PARENT}/services/shop")
        await s.controller.wait_operation(deleting.name, 30)

        answer = await s.ask("shop")
        assert answer.status == 404
        assert b"no service is called shop.localhost" in answer.body
        with pytest.raises(NotFoundError):
            s.service("shop")
        operation = await s.controller.create_service(PARENT, "shop", body)
        assert (await s.controller.wait_operation(operation.name, 30)).done
        assert (await s.ask("shop")).status == 200

    run(world, story)


def test_validate_only_changes_nothing(world: ServingWorld) -> None:
    async def story(s: Serving) -> None:
        body = read_document({"template": {"containers": [{"image": "app"}]}}, Service)

        operation = await s.controller.create_service(PARENT, "shop", body, validate_only=True)

        assert operation.done
        with pytest.raises(NotFoundError):
            s.service("shop")

    run(world, story)


# Sleeping and waking


def test_an_idle_instance_freezes_and_then_ends_and_a_request_wakes_either(
    world: ServingWorld,
) -> None:
    async def story(s: Serving) -> None:
        await s.deploy("shop")
        await s.until(lambda: s.states("shop") == ["frozen"], "freezing")

        answer = await s.ask("shop")
        assert answer.body.startswith(b"shop-00001  most 1 served 1")
        await s.until(lambda: s.states("shop") == [], "scale to zero")
        answer = await s.ask("shop")
        assert answer.body.startswith(b"shop-00001  most 1 served 1")

    run(world, story, idle=SHORT)


def test_a_minimum_of_instances_stays(world: ServingWorld) -> None:
    async def story(s: Serving) -> None:
        await s.deploy("shop", template={"scaling": {"minInstanceCount": 2}})
        await asyncio.sleep(2.5)

        assert s.states("shop") == ["frozen", "frozen"]

    run(world, story, idle=SHORT)


def test_a_service_with_cpu_always_is_not_frozen(world: ServingWorld) -> None:
    async def story(s: Serving) -> None:
        await s.deploy("shop", container={"resources": {"limits": {"cpu": "1"}}})
        await asyncio.sleep(1.2)

        assert s.states("shop") == ["ready"]

    run(world, story, idle=FREEZE_ONLY)


@pytest.mark.parametrize("start", ["cold", "frozen"])
def test_a_burst_of_200_is_answered_within_the_concurrency(world: ServingWorld, start: str) -> None:
    async def story(s: Serving) -> None:
        await s.deploy(
            "shop",
            template={
                "maxInstanceRequestConcurrency": 10,
                "scaling": {"maxInstanceCount": 20},
            },
        )
        wanted = ["frozen"] if start == "frozen" else []
        await s.until(lambda: s.states("shop") == wanted, start)

        answers = await s.burst("shop", 200, "/sleep/100")

        assert [a for a in answers if a.status != 200] == []
        assert max(int(a.body.split()[2]) for a in answers) <= 10

    run(world, story, idle=FREEZE_ONLY if start == "frozen" else SHORT)


# Status codes


def test_404_for_a_host_that_no_service_has(world: ServingWorld) -> None:
    async def story(s: Serving) -> None:
        answer = await s.ask("nobody")

        assert answer.status == 404
        assert b"no service is called nobody.localhost here" in answer.body

    run(world, story)


def test_504_when_the_service_does_not_answer_in_time(world: ServingWorld) -> None:
    async def story(s: Serving) -> None:
        await s.deploy("shop", template={"timeout": "1s"})

        answer = await s.ask("shop", "/sleep/3000")

        assert answer.status == 504
        assert 0.9 < answer.seconds < 2

    run(world, story)


def test_504_when_the_start_takes_longer_than_the_request_may(world: ServingWorld) -> None:
    async def story(s: Serving) -> None:
        await s.deploy("shop", env={"BOOT_MS": "2500"}, template={"timeout": "1s"})
        await s.until(lambda: s.states("shop") == [], "scale to zero")

        assert (await s.ask("shop")).status == 504

    run(world, story, idle=SHORT)


def test_429_when_every_instance_is_busy_for_too_long(world: ServingWorld) -> None:
    async def story(s: Serving) -> None:
        await s.deploy("shop", template=ONE_AT_A_TIME)
        busy = asyncio.create_task(s.ask("shop", "/sleep/20000"))
        await asyncio.sleep(0.3)

        answer = await s.ask("shop")

        busy.cancel()
        assert answer.status == 429

    # The limit is part of HAProxy's start, which the module's world shares: ten seconds.
    run(world, story)


def test_503_when_the_instance_breaks_off_a_request_that_must_not_be_repeated(
    world: ServingWorld,
) -> None:
    async def story(s: Serving) -> None:
        await s.deploy("shop")

        status, body = await asyncio.to_thread(post, s.settings.port, "shop.localhost", "/die")

        assert (status, body) == (503, b"the instance broke off before it answered\n")
        assert (await s.ask("shop")).status == 200

    run(world, story)


def test_503_when_every_attempt_kills_the_instance(world: ServingWorld) -> None:
    async def story(s: Serving) -> None:
        await s.deploy("shop")

        answer = await s.ask("shop", "/die")

        assert answer.status == 503
        assert b"shop-00001 exited with code 3, " in answer.body

    run(world, story)


def test_an_apps_own_502_and_503_pass_as_they_are(world: ServingWorld) -> None:
    async def story(s: Serving) -> None:
        for status in (502, 503):
            await s.deploy("shop", env={"HEALTH": str(status)})
            answer = await s.ask("shop", "/health")
            assert (answer.status, answer.body[:5]) == (status, b"shop-")

    run(world, story)


# What the app is told


def test_the_app_learns_who_asked_and_which_trace_it_belongs_to(world: ServingWorld) -> None:
    async def story(s: Serving) -> None:
        await s.deploy("shop")

        head = (await s.ask("shop", "/head")).body.decode().lower()

        assert "x-forwarded-for: 127.0.0.1" in head
        assert "x-forwarded-proto: http\r\n" in head
        assert "host: shop.localhost\r\n" in head
        trace = head.partition("traceparent: 00-")[2][:32]
        assert f"x-cloud-trace-context: {trace}/" in head

    run(world, story)


def test_logs_survive_the_instance_and_are_followed(world: ServingWorld) -> None:
    async def story(s: Serving) -> None:
        await s.deploy("shop")
        await s.deploy("shop", env={"TEXT": "two"})
        await s.until(lambda: s.states("shop") == ["ready"], "the old instance ends")
        name = s.service("shop").name

        texts = [r["text"] async for r in s.controller.read_logs(name)]
        only = [r["text"] async for r in s.controller.read_logs(name, revision="shop-00002")]
        followed = []
        async with asyncio.timeout(10):
            async for record in s.controller.read_logs(name, lines=1, follow=True):
                followed.append(record["text"])
                if len(followed) == 1:
                    await s.deploy("shop", env={"TEXT": "three"})
                if record["text"] == "starting shop-00003":
                    break

        assert texts[:2] == ["starting shop-00001", "starting shop-00002"]
        assert "ended by SIGTERM" in texts
        assert only == ["starting shop-00002"]

    run(world, story)


# Helpers


async def change(s: Serving, name: str, body: dict[str, object], mask: str) -> None:
    operation = await s.controller.update_service(
        f"{PARENT}/services/{name}", read_document(body, Service), mask.split(",")
    )
    done = await s.controller.wait_operation(operation.name, 30)
    assert done.done
    assert not done.message


def get(port: int, path: str = "/") -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def post(port: int, host: str, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", path, body=b"x", headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
