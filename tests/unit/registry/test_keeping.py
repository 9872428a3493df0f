"""What the keeper does beside collecting: policies when they are due, verification, what is known late, room."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import socketserver
import threading
import time
from collections.abc import Awaitable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from hakobune.registry.built_at import note_built
from hakobune.registry.cleaning import evict
from hakobune.registry.errors import RegistryError
from hakobune.registry.keeper import Duty, clean_due, keep_duties, refetch
from hakobune.registry.manifest import OCI_MANIFEST, digest_of
from hakobune.registry.quota import check_room, read_quota, set_quota
from hakobune.registry.repository import Mode, RemoteConfig, Repository
from hakobune.registry.scrub import Scrubber, check_rows
from hakobune.registry.sweep import sweep_folders
from tests.registry_world import ACTOR, CONFIG, World, image_body, in_world

DAY_S = 24 * 3600
OLD = {"old": {"id": "old", "action": "DELETE", "condition": {"olderThan": "60s"}}}


async def with_policies(world: World, policies: dict[str, object]) -> Repository:
    changed = replace(world.repository, cleanup_policies=policies)
    return await world.metadata.update_repository(changed, ACTOR)


def test_policies_are_applied_daily_and_when_they_change(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await world.push_image("web", "v1")
        world.clock.pass_s(61)
        assert await clean_due(world.metadata) == 0  # no policy, never due
        await with_policies(world, OLD)

        first = await clean_due(world.metadata)
        await world.push_image("web", "v2")
        world.clock.pass_s(DAY_S - 1)
        early = await clean_due(world.metadata)
        world.clock.pass_s(2)
        second = await clean_due(world.metadata)

        assert (first, early, second) == (1, 0, 1)

    in_world(tmp_path, test)


def test_a_policy_that_cannot_be_read_stops_no_other_repository(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await with_policies(world, {"bad": {"action": "?"}})
        other = await world.new_repository("z", cleanup_policies=OLD)
        await world.push_image("web", "v1", repository=other)
        world.clock.pass_s(61)

        assert await clean_due(world.metadata) == 1
        assert await clean_due(world.metadata) == 0

    in_world(tmp_path, test)


def test_what_was_tagged_or_pushed_since_the_decision_stays(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        pushed = await world.push_image("web", "v1")
        found = await world.metadata.find_version(world.repository, "web", pushed.digest)
        assert found is not None
        await world.metadata.put_tag(world.repository, "web", "v2", pushed.digest, ACTOR)

        with pytest.raises(RegistryError):
            await world.metadata.delete_manifest(
                world.repository,
                "web",
                pushed.digest,
                "cleanup",
                as_of=(found.pushed_at, found.tags),
            )

        assert await world.metadata.find_manifest(world.repository, "web", "v1")

    in_world(tmp_path, test)


def test_a_remote_repository_beyond_its_cap_loses_what_was_used_longest_ago(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        config = RemoteConfig(upstream="DOCKER_HUB", size_cap_bytes=5000)
        hub = await world.new_repository("hub", mode=Mode.REMOTE, remote=config)
        digests = []
        for number in range(4):
            layer = bytes([number]) * 2000
            digests.append((await world.push_image("web", layers=[layer], repository=hub)).digest)
            world.clock.pass_s(60)
        world.metadata.note_pull(hub, "web", digests[0])
        await world.metadata.flush_pulls()

        evicted = await evict(world.metadata, hub)

        left = [v.digest for v in await world.metadata.list_versions(hub)]
        assert evicted == 2
        assert sorted(left) == sorted([digests[0], digests[3]])
        assert await evict(world.metadata, hub) == 0  # although their blobs are still there
        assert await evict(world.metadata, world.repository) == 0

    in_world(tmp_path, test)


def test_the_time_of_the_build_is_read_from_the_configuration(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        configs = {
            b'{"created": "2024-05-01T10:00:00.5Z"}': 1714557600500000,
            b'{"created": null}': 0,
            b'{"created": "yesterday"}': 0,
            b"not json": 0,
        }
        for config, number in zip(configs, range(9), strict=False):
            await world.push_blob(config)
            descriptor = {"mediaType": CONFIG, "digest": digest_of(config), "size": len(config)}
            body = json.dumps({"schemaVersion": 2, "config": descriptor, "layers": []})
            await world.put(f"image{number}", body.encode(), "v1")

        assert await note_built(world.metadata, world.storage) == 4
        assert await note_built(world.metadata, world.storage) == 0
        versions = await world.metadata.list_versions(world.repository)
        assert [v.built_at for v in versions] == list(configs.values())

    in_world(tmp_path, test)


def test_what_is_wrong_with_the_rows_is_found(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        pushed = await world.push_image("web", "v1", layers=[b"gone"])
        await world.push_image("web", "v2", layers=[b"there"])
        assert await check_rows(world.metadata) == ()
        world.path_of(digest_of(b"gone")).unlink()
        await Scrubber(world.metadata, world.storage, bytes_a_second=0).run(period_s=0)

        [missing] = await check_rows(world.metadata)

        async def damage(transaction: object) -> None:
            await transaction.execute(  # type: ignore[attr-defined]  # a Transaction
                "UPDATE manifest SET body = $1 WHERE digest = $2", b"{}", pushed.digest
            )

        await world.sql.transact(damage)
        damaged, _ = await check_rows(world.metadata)
        assert missing.digest == digest_of(b"gone")
        assert pushed.digest in missing.what
        assert damaged.digest == pushed.digest

    in_world(tmp_path, test)


def test_verified_blobs_are_not_read_again_before_their_time(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await world.push_image("web", "v1")
        scrubber = Scrubber(world.metadata, world.storage, bytes_a_second=0)
        world.clock.pass_s(8 * DAY_S)

        first = await scrubber.run()
        second = await scrubber.run()
        world.clock.pass_s(7 * DAY_S)
        third = await scrubber.run()

        assert (first.blobs, second.blobs, third.blobs) == (2, 0, 2)

    in_world(tmp_path, test)


def test_a_blob_of_another_length_is_found_without_reading_it(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        blob = await world.push_blob(b"data")
        path = world.path_of(blob)
        path.chmod(0o644)
        os.truncate(path, 2)

        done = await Scrubber(world.metadata, world.storage, bytes_a_second=0).run(period_s=0)

        assert [p.what for p in done.problems] == ["it has 2 bytes instead of 4"]

    in_world(tmp_path, test)


def test_caches_are_told_of_what_makes_them_untrue_and_of_nothing_else(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        metadata, repository = world.metadata, world.repository
        value = metadata.generation.value

        async def told(work: Awaitable[object]) -> bool:
            before = value()
            await work
            return value() != before

        pushed = await world.push_image("web", "v1")
        body = image_body([b"layer"])
        untyped = body.replace(f'"mediaType": "{OCI_MANIFEST}", '.encode(), b"", 1)
        quiet = [
            await told(world.push_blob(b"new")),
            await told(world.put("web", body, "v1")),
            await told(world.put("web", body + b" ")),
            await told(world.put("web", untyped)),
            await told(metadata.find_blob(repository, digest_of(b"new"))),
        ]
        loud = [
            await told(world.put("web", body, "v2")),
            await told(world.put("web", body + b" ", "v2")),
            await told(world.put("web", untyped, media_type="application/x")),
            await told(metadata.delete_tag(repository, "web", "v2", ACTOR)),
            await told(metadata.delete_manifest(repository, "web", pushed.digest, ACTOR)),
            await told(metadata.unlink_blob(repository, "web", digest_of(b"new"), ACTOR)),
            await told(metadata.update_repository(repository, ACTOR)),
            await told(metadata.delete_repository(repository, ACTOR)),
        ]

        assert quiet == [False] * 5
        assert loud == [True] * 8

    in_world(tmp_path, test)


def test_a_quota_is_set_and_read(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        assert await read_quota(world.sql, "projects/p") is None
        await set_quota(world.sql, "projects/p", 5, at=1, actor=ACTOR)
        await set_quota(world.sql, "projects/p", 7, at=2, actor=ACTOR)
        assert await read_quota(world.sql, "projects/p") == 7

    in_world(tmp_path, test)


def test_nothing_is_begun_that_leaves_too_little_room(tmp_path: Path) -> None:
    found = os.statvfs(tmp_path)
    free = found.f_bavail * found.f_frsize

    check_room(tmp_path, 0)
    with pytest.raises(RegistryError, match="are kept free") as caught:
        check_room(tmp_path, free)

    assert (caught.value.code, caught.value.status) == ("INSUFFICIENT_STORAGE", 507)
    assert b"freeBytes" in caught.value.body()


def test_forgotten_files_go_and_those_that_are_held_stay(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        held = world.storage.partial / "sha256-held"
        for path in (world.storage.incoming / "x", world.storage.partial / "sha256-x", held):
            path.write_bytes(b"x")
        trash = world.storage.trash / "t"
        trash.write_bytes(b"x")
        sweep_folders(world.storage, time.time())
        still = len(list(world.storage.incoming.iterdir()))
        with held.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            sweep_folders(world.storage, time.time() + 2 * DAY_S)

        assert still == 1
        assert not trash.exists()
        assert list(world.storage.incoming.iterdir()) == []
        assert list(world.storage.partial.iterdir()) == [held]

    in_world(tmp_path, test)


def test_a_duty_that_fails_is_done_again_and_stops_no_other() -> None:
    async def test() -> None:
        done: list[str] = []
        stop = asyncio.Event()

        async def fail() -> None:
            done.append("fail")
            raise ValueError("no")

        async def work() -> None:
            done.append("work")
            if done.count("work") > 3:
                stop.set()

        await asyncio.wait_for(
            keep_duties((Duty("fail", 0.001, fail), Duty("work", 0.005, work)), stop), 10
        )

        assert done.count("fail") > 1

    asyncio.run(test())


def test_a_damaged_blob_is_asked_for_at_a_worker_so_that_it_comes_again(tmp_path: Path) -> None:
    asked: list[str] = []

    class Worker(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"data")

        def log_message(self, *_: object) -> None: ...

        def address_string(self) -> str:
            return ""

    path = tmp_path / "s"
    server = socketserver.ThreadingUnixStreamServer(str(path), Worker)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()

    async def test(world: World) -> None:
        hub = await world.new_repository(
            "hub", mode=Mode.REMOTE, remote=RemoteConfig(upstream="DOCKER_HUB")
        )
        body = image_body([b"data"])
        await world.metadata.put_manifest(
            hub, "library/web", [], body, OCI_MANIFEST, ACTOR, children_must_exist=False
        )
        blob = digest_of(b"data")

        still_gone = await refetch(world.metadata, path, hub, blob)
        await world.push_blob(b"data", hub)
        there = await refetch(world.metadata, path, hub, blob)
        nowhere = await refetch(world.metadata, tmp_path / "none", hub, blob)
        unnamed = await refetch(world.metadata, path, hub, digest_of(b"x"))

        assert (still_gone, there, nowhere, unnamed) == (False, True, False, False)
        assert asked == [f"/v2/p/hub/library/web/blobs/{blob}"] * 2

    try:
        in_world(tmp_path, test)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
