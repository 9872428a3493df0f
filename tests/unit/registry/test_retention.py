"""What is forgotten of the past, and what is not."""

from __future__ import annotations

from pathlib import Path

from hakobune.registry.retention import Forgotten, forget
from hakobune.state.audit import oldest_act, read_audit
from tests.registry_world import ACTOR, World, in_world

DAY_S = 24 * 3600.0


async def history(world: World, tag: str = "") -> list[tuple[str, str]]:
    changes = await world.metadata.tag_history(world.repository, "web", tag)
    return [(change.name, change.digest) for change in changes]


def test_acts_that_are_older_than_they_are_kept_go(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        for _ in range(700):  # some batches
            await world.metadata.audit(ACTOR, "test.old", "projects/p")
        world.clock.pass_s(2 * DAY_S)
        await world.metadata.audit(ACTOR, "test.new", "projects/p")
        kept_at = world.clock()
        world.clock.pass_s(9 * DAY_S)

        early = await forget(world.metadata, days=12)
        done = await forget(world.metadata, days=10)

        assert early == Forgotten(0, 0)
        assert done == Forgotten(701, 0)  # with the repository's own beginning
        assert [row.verb for row in await read_audit(world.sql)] == ["test.new"]
        assert await oldest_act(world.sql) == kept_at

    in_world(tmp_path, test)


def test_an_act_of_a_clock_that_was_wrong_keeps_no_other(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        world.clock.pass_s(1000 * DAY_S)
        await world.metadata.audit(ACTOR, "test.future", "projects/p")
        world.clock.pass_s(-1000 * DAY_S)
        await world.metadata.audit(ACTOR, "test.old", "projects/p")
        world.clock.pass_s(11 * DAY_S)

        await forget(world.metadata, days=10)

        assert [row.verb for row in await read_audit(world.sql)] == ["test.future"]

    in_world(tmp_path, test)


def test_of_each_tag_stays_what_it_was_when_the_history_begins(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        first = await world.push_image("web", "prod", "still", layers=(b"1",))
        world.clock.pass_s(DAY_S)
        second = await world.push_image("web", "prod", layers=(b"2",))
        world.clock.pass_s(5 * DAY_S)
        third = await world.push_image("web", "prod", layers=(b"3",))
        world.clock.pass_s(7 * DAY_S)

        done = await forget(world.metadata, days=10)

        assert done.tag_changes == 1
        assert await history(world, "prod") == [("prod", third.digest), ("prod", second.digest)]
        assert await history(world, "still") == [("still", first.digest)]

    in_world(tmp_path, test)


def test_a_tag_that_was_removed_long_ago_is_forgotten(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        for number in range(300):
            await world.push_image("web", f"t{number}")
        for number in range(300):
            await world.metadata.delete_tag(world.repository, "web", f"t{number}", ACTOR)
        world.clock.pass_s(9 * DAY_S)
        before = await history(world)
        await forget(world.metadata, days=10)
        assert await history(world) == before

        world.clock.pass_s(2 * DAY_S)
        await forget(world.metadata, days=10)

        assert await history(world) == []

    in_world(tmp_path, test)


def test_nothing_goes_if_all_is_kept_for_ever(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await world.push_image("web", "v1")
        world.clock.pass_s(100_000 * DAY_S)

        assert await forget(world.metadata, days=0) == Forgotten(0, 0)
        assert await history(world, "v1") != []

    in_world(tmp_path, test)
