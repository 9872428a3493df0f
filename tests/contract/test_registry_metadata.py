"""What the registry's metadata promise, the same on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hakobune.registry.blobs import BlobVanishedError
from hakobune.registry.cleaning import clean
from hakobune.registry.errors import RegistryError, ResourceError
from hakobune.registry.generation import Generation
from hakobune.registry.manifest import OCI_INDEX, OCI_MANIFEST, digest_of
from hakobune.registry.metadata import Metadata, RemoteTag
from hakobune.registry.quota import set_quota
from hakobune.registry.repository import Mode, RemoteConfig, Repository, UpstreamPolicy
from hakobune.registry.retention import forget
from hakobune.registry.scrub import Scrubber
from hakobune.registry.sweep import retire_unnamed, sweep_files, sweep_uploads
from hakobune.state.audit import oldest_act, read_audit
from hakobune.state.migrate import migrate
from hakobune.state.sql import DatabaseError, Transaction, open_sql
from tests.postgresql_cluster import Cluster, running_cluster
from tests.registry_world import ACTOR, GRACE_S, World, image_body, new_sqlite, open_world

Test = Callable[[World], Awaitable[None]]
Run = Callable[[Test], None]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return new_sqlite(tmp_path)
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster.new_database(request.getfixturevalue("template"))


@pytest.fixture
def run(url: str, tmp_path: Path) -> Run:
    def run(test: Test) -> None:
        async def whole() -> None:
            async with open_world(url, tmp_path) as world:
                await test(world)

        asyncio.run(whole())

    return run


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


# Repositories


def test_a_repository_is_read_as_it_was_stored(run: Run) -> None:
    async def test(world: World) -> None:
        wanted = Repository(
            project="p",
            location="europe",
            name="hub",
            mode=Mode.REMOTE,
            description="Docker Hub, ×",
            labels={"team": "web"},
            remote=RemoteConfig(upstream="DOCKER_HUB", username="ada", tag_ttl_s=5),
            cleanup_policies={"old": {"action": "DELETE", "condition": {"olderThan": "5s"}}},
            cleanup_dry_run=True,
            extra={"kmsKeyName": "k"},
        )

        made = await world.metadata.create_repository(wanted, ACTOR)

        assert made == replace(
            wanted,
            id=made.id,
            created_at=world.clock.now,
            updated_at=world.clock.now,
            etag=made.etag,
        )
        assert await world.metadata.find_repository("p", "hub") == made
        assert await world.metadata.read_repository(made.id) == made
        assert await world.metadata.list_repositories("p", "europe") == (made,)

    run(test)


def test_a_name_is_taken_once_in_a_project_and_the_error_says_where(run: Run) -> None:
    async def test(world: World) -> None:
        other = Repository(project="p", location="asia", name="r")

        with pytest.raises(ResourceError) as caught:
            await world.metadata.create_repository(other, ACTOR)

        assert caught.value.status == "ALREADY_EXISTS"
        assert "location local" in caught.value.what
        elsewhere = Repository(project="q", location="asia", name="r")
        assert (await world.metadata.create_repository(elsewhere, ACTOR)).id

    run(test)


@pytest.mark.parametrize(("project", "name"), [("projects", "r"), ("p", "UPPER"), ("p", ""), ("p/q", "r")])  # fmt: skip
def test_names_that_no_image_can_have_are_refused(run: Run, project: str, name: str) -> None:
    async def test(world: World) -> None:
        with pytest.raises(ResourceError) as caught:
            await world.metadata.create_repository(
                Repository(project=project, location="local", name=name), ACTOR
            )

        assert caught.value.status == "INVALID_ARGUMENT"

    run(test)


def test_a_change_needs_the_etag_that_is_there(run: Run) -> None:
    async def test(world: World) -> None:
        virtual = replace(
            world.repository,
            upstream_policies=(UpstreamPolicy(id="a", repository="x", priority=1),),
            description="new",
        )
        changed = await world.metadata.update_repository(virtual, ACTOR, etag=world.repository.etag)

        assert changed.description == "new"
        assert changed.upstream_policies == virtual.upstream_policies
        assert changed.etag != world.repository.etag
        with pytest.raises(ResourceError) as caught:
            await world.metadata.update_repository(virtual, ACTOR, etag=world.repository.etag)
        assert caught.value.status == "ABORTED"

    run(test)


def test_a_deleted_repository_takes_everything_with_it(run: Run) -> None:
    async def test(world: World) -> None:
        pushed = await world.push_image("web", "v1")
        also: list[str] = []

        async def more(transaction: Transaction) -> None:
            also.append("called")
            await transaction.execute("DELETE FROM quota WHERE resource = $1", "x")

        await world.metadata.delete_repository(world.repository, ACTOR, also=more)

        assert also
        assert await world.metadata.find_repository("p", "r") is None
        assert await world.metadata.find_manifest(world.repository, "web", pushed.digest) is None
        with pytest.raises(RegistryError, match="not known") as caught:
            await world.put("web", image_body([b"layer"]), "v1")
        assert caught.value.code == "NAME_UNKNOWN"
        with pytest.raises(RegistryError):
            await world.push_blob(b"late")
        with pytest.raises(RegistryError):
            await world.metadata.begin_upload(world.repository, "web", "u", ACTOR)
        again = await world.new_repository("r")
        assert again.id != world.repository.id

    run(test)


# Manifests and tags


def test_a_manifest_is_found_by_tag_and_digest_with_its_bytes(run: Run) -> None:
    async def test(world: World) -> None:
        pushed = await world.push_image("team/web", "v1", "latest")
        body = image_body([b"layer"])

        by_tag = await world.metadata.find_manifest(world.repository, "team/web", "latest")
        by_digest = await world.metadata.find_manifest(
            world.repository, "team/web", digest_of(body)
        )

        assert pushed.created
        assert pushed.tags == ("v1", "latest")
        assert by_tag == by_digest
        assert by_tag is not None
        assert (by_tag.body, by_tag.media_type) == (body, OCI_MANIFEST)
        assert await world.metadata.find_manifest(world.repository, "web", "latest") is None

    run(test)


def test_a_manifest_whose_blobs_are_not_there_changes_nothing(run: Run) -> None:
    async def test(world: World) -> None:
        await world.push_blob(b"{}")

        with pytest.raises(RegistryError) as caught:
            await world.put("web", image_body([b"one", b"two"]), "v1")

        assert caught.value.code == "MANIFEST_BLOB_UNKNOWN"
        assert caught.value.detail == [
            {"digest": digest_of(b"one")},
            {"digest": digest_of(b"two")},
        ]
        assert not await world.metadata.has_image(world.repository, "web")
        assert await world.sql.fetch("SELECT * FROM manifest_ref") == []

    run(test)


def test_a_blob_of_another_repository_does_not_count(run: Run) -> None:
    async def test(world: World) -> None:
        other = await world.new_repository("other")
        await world.push_blob(b"secret", other)
        await world.push_blob(b"{}")

        with pytest.raises(RegistryError) as caught:
            await world.put("web", image_body([b"secret"]), "v1")

        assert caught.value.code == "MANIFEST_BLOB_UNKNOWN"

    run(test)


def test_a_tag_moves_and_its_history_stays(run: Run) -> None:
    async def test(world: World) -> None:
        first = await world.push_image("web", "v1")
        world.clock.pass_s(60)
        second = await world.push_image("web", "v1", layers=[b"other"])
        world.clock.pass_s(60)
        await world.metadata.delete_tag(world.repository, "web", "v1", ACTOR)

        history = await world.metadata.tag_history(world.repository, "web", "v1")

        assert [change.digest for change in history] == ["", second.digest, first.digest]
        assert [change.actor for change in history] == [ACTOR] * 3
        assert history[0].at - history[2].at == 120_000_000
        assert await world.metadata.find_manifest(world.repository, "web", first.digest)

    run(test)


def test_immutable_tags_stay_where_they_are(run: Run) -> None:
    async def test(world: World) -> None:
        fixed = await world.new_repository("fixed", immutable_tags=True)
        first = await world.push_image("web", "v1", repository=fixed)
        await world.push_blob(b"other", fixed)

        assert not (await world.push_image("web", "v1", repository=fixed)).created
        with pytest.raises(RegistryError, match="immutable") as moved:
            await world.put("web", image_body([b"other"]), "v2", "v1", repository=fixed)
        with pytest.raises(RegistryError, match="immutable"):
            await world.metadata.delete_tag(fixed, "web", "v1", ACTOR)
        with pytest.raises(RegistryError, match="immutable"):
            await world.metadata.delete_manifest(fixed, "web", first.digest, ACTOR)
        with pytest.raises(RegistryError, match="immutable"):
            await world.metadata.delete_image(fixed, "web", ACTOR)

        assert (moved.value.code, moved.value.status) == ("DENIED", 400)
        assert (await world.metadata.list_tags(fixed, "web")).names == ("v1",)
        assert (await world.put("web", image_body([b"other"]), "v3", repository=fixed)).created

    run(test)


def test_an_index_needs_its_manifests_and_holds_them(run: Run) -> None:
    async def test(world: World) -> None:
        child = (await world.push_image("web")).digest
        with pytest.raises(RegistryError) as missing:
            await world.put_index("web", [child, digest(7)], "all")
        index = (await world.put_index("web", [child], "all")).digest
        with pytest.raises(RegistryError, match="contains it"):
            await world.metadata.delete_manifest(world.repository, "web", child, ACTOR)

        await world.metadata.delete_manifest(world.repository, "web", index, ACTOR)
        await world.metadata.delete_manifest(world.repository, "web", child, ACTOR)

        assert missing.value.code == "MANIFEST_BLOB_UNKNOWN"
        assert not await world.metadata.has_image(world.repository, "web")
        with pytest.raises(RegistryError, match="not known"):
            await world.metadata.list_tags(world.repository, "web")

    run(test)


def test_a_manifest_is_stored_under_the_algorithm_of_the_digest_that_is_asked_for(run: Run) -> None:
    async def test(world: World) -> None:
        await world.push_image("web")
        body = image_body([b"layer"])
        wanted = digest_of(body, "sha512")

        pushed = await world.put("web", body, wanted, "v1", "v2")

        assert (pushed.digest, pushed.tags) == (wanted, ("v1", "v2"))
        with pytest.raises(RegistryError) as wrong:
            await world.put("web", body, digest(3))
        assert wrong.value.code == "DIGEST_INVALID"

    run(test)


def test_tags_are_listed_by_bytes_page_by_page(run: Run) -> None:
    async def test(world: World) -> None:
        await world.push_image("web", "b", "B", "a", "a-1", "a.1", "_x", "10", "9")

        everything = await world.metadata.list_tags(world.repository, "web")
        page = await world.metadata.list_tags(world.repository, "web", 2, "B")
        none = await world.metadata.list_tags(world.repository, "web", 0)
        last = await world.metadata.list_tags(world.repository, "web", 2, "a.1")

        assert everything.names == ("10", "9", "B", "_x", "a", "a-1", "a.1", "b")
        assert (page.names, page.more) == (("_x", "a"), True)
        assert (none.names, none.more) == ((), False)
        assert (last.names, last.more) == (("b",), False)

    run(test)


def test_referrers_are_found_by_type_and_page(run: Run) -> None:
    async def test(world: World) -> None:
        subject = digest(1)
        pushed = sorted(
            [
                (await world.push_image("web", layers=[bytes([n])], subject=subject)).digest
                for n in range(3)
            ]
        )
        other = await world.push_image("web", subject=subject, annotations={"k": "v"})

        first = await world.metadata.referrers(world.repository, "web", subject, n=2)
        rest = await world.metadata.referrers(
            world.repository, "web", subject, n=5, last=first.descriptors[-1]["digest"]
        )
        none = await world.metadata.referrers(world.repository, "web", subject, "text/plain")

        found = [d["digest"] for d in (*first.descriptors, *rest.descriptors)]
        assert found == sorted([*pushed, other.digest])
        assert (first.more, rest.more, none.descriptors) == (True, False, ())
        shown = next(
            d for d in (*first.descriptors, *rest.descriptors) if d["digest"] == other.digest
        )
        assert shown["annotations"] == {"k": "v"}
        assert shown["artifactType"] == "application/vnd.oci.image.config.v1+json"

    run(test)


def test_a_pull_is_noted_once_a_minute(run: Run) -> None:
    async def test(world: World) -> None:
        pushed = await world.push_image("web", "v1")

        async def pull() -> int:
            world.metadata.note_pull(world.repository, "web", pushed.digest)
            await world.metadata.flush_pulls()
            found = await world.metadata.find_manifest(world.repository, "web", "v1")
            assert found is not None
            return found.pulled_at

        first = await pull()
        world.clock.pass_s(30)
        second = await pull()
        world.clock.pass_s(40)
        third = await pull()

        assert first == second == third - 70_000_000

    run(test)


# Lists in Artifact Registry's words


def test_packages_versions_tags_and_files_are_listed(run: Run) -> None:
    async def test(world: World) -> None:
        first = await world.push_image("a", "v1", "v2", layers=[b"12345"])
        world.clock.pass_s(10)
        second = await world.push_image("a", layers=[b"123456789"])
        index = await world.put_index("a", [first.digest, second.digest], "all")
        await world.push_image("b/c", "x")
        metadata, repository = world.metadata, world.repository

        packages = await metadata.list_packages(repository)
        versions = await metadata.list_versions(repository, "a")
        page = await metadata.list_versions(repository, limit=1)
        rest = await metadata.list_versions(repository, after=page[0].key)
        tags = await metadata.list_tag_rows(repository, "a", after="all")
        files = await metadata.list_files(repository)

        assert [p.image for p in packages] == ["a", "b/c"]
        assert packages[0].updated_at - packages[0].created_at == 10_000_000
        assert [v.digest for v in versions] == sorted([first.digest, second.digest, index.digest])
        by_digest = {v.digest: v for v in versions}
        assert by_digest[first.digest].tags == ("v1", "v2")
        assert by_digest[first.digest].image_size == 7
        assert by_digest[index.digest].image_size == 7 + 11
        assert [p["architecture"] for p in by_digest[index.digest].platforms] == ["arch0", "arch1"]
        assert [*page, *rest] == [*versions, *await metadata.list_versions(repository, "b/c")]
        assert [(t.name, t.digest) for t in tags] == [("v1", first.digest), ("v2", first.digest)]
        assert sum(f.size for f in files) == 2 + 5 + 9 + 5
        bodies = sum(v.size for v in [*versions, *await metadata.list_versions(repository, "b/c")])
        assert (await metadata.sizes([repository]))[repository.id] == 21 + bodies
        assert (await metadata.catalog([repository], n=1)).names == ("p/r/a",)
        assert (await metadata.catalog([repository], last="p/r/a")).names == ("p/r/b/c",)

    run(test)


# Blobs, uploads, what an upstream said


def test_a_blob_is_one_repositorys_until_it_is_mounted(run: Run) -> None:
    async def test(world: World) -> None:
        other = await world.new_repository("other")
        blob = await world.push_blob(b"data")

        before = await world.metadata.find_blob(other, blob)
        missing = await world.metadata.mount_blob(other, world.repository, digest(1))
        mounted = await world.metadata.mount_blob(world.repository, other, blob)
        await world.metadata.unlink_blob(world.repository, "web", blob, ACTOR)

        assert (before, missing) == (None, None)
        assert mounted is not None
        assert mounted.size == 4
        assert await world.metadata.find_blob(world.repository, blob) is None
        assert await world.metadata.find_blob(other, blob)
        assert await world.metadata.repositories_with_blob(blob) == (other,)

    run(test)


def test_a_blob_in_use_is_not_unlinked(run: Run) -> None:
    async def test(world: World) -> None:
        pushed = await world.push_image("web", "v1")
        blob = digest_of(b"layer")
        with pytest.raises(RegistryError) as caught:
            await world.metadata.unlink_blob(world.repository, "web", blob, ACTOR)
        await world.metadata.delete_manifest(world.repository, "web", pushed.digest, ACTOR)

        await world.metadata.unlink_blob(world.repository, "web", blob, ACTOR)

        assert (caught.value.code, caught.value.status) == ("UNSUPPORTED", 405)
        with pytest.raises(RegistryError) as gone:
            await world.metadata.unlink_blob(world.repository, "web", blob, ACTOR)
        assert gone.value.code == "BLOB_UNKNOWN"

    run(test)


def test_an_upload_goes_on_where_it_stands_and_only_there(run: Run) -> None:
    async def test(world: World) -> None:
        metadata, repository = world.metadata, world.repository
        begun = await metadata.begin_upload(repository, "web", "u1", ACTOR)

        assert await metadata.find_upload(repository, "u1") == begun
        assert await metadata.save_upload("u1", before=0, received=5, hash_state=b"\x00state")
        assert not await metadata.save_upload("u1", before=0, received=9, hash_state=None)
        found = await metadata.find_upload(repository, "u1")
        assert found is not None
        assert (found.received, found.hash_state) == (5, b"\x00state")
        assert await metadata.find_upload(await world.new_repository("x"), "u1") is None
        await metadata.end_upload(repository, "u1")
        with pytest.raises(RegistryError) as caught:
            await metadata.end_upload(repository, "u1")
        assert caught.value.code == "BLOB_UPLOAD_UNKNOWN"

    run(test)


def test_idle_uploads_end_with_their_files(run: Run) -> None:
    async def test(world: World) -> None:
        world.clock.now = int(time.time() * 1_000_000)  # files have the machine's
        for name in ("old", "new"):
            await world.metadata.begin_upload(world.repository, "web", name, ACTOR)
            (world.storage.uploads / name).write_bytes(b"x")
            world.clock.pass_s(3600)
        (world.storage.uploads / "stray").write_bytes(b"x")

        ended = await sweep_uploads(world.metadata, world.storage, idle_s=5400)

        assert ended == 1
        # The stray file is as old as the test; by the clock that was moved, nobody has written to it.
        assert {path.name for path in world.storage.uploads.iterdir()} == {"new"}

    run(test)


def test_what_an_upstream_said_is_remembered(run: Run) -> None:
    async def test(world: World) -> None:
        known = RemoteTag(digest=digest(1), etag='"x"', checked_at=5)
        later = RemoteTag(digest="", checked_at=9, negative_until=99)

        await world.metadata.save_remote_tag(world.repository, "nginx", "1", known)
        first = await world.metadata.find_remote_tag(world.repository, "nginx", "1")
        await world.metadata.save_remote_tag(world.repository, "nginx", "1", later)
        second = await world.metadata.find_remote_tag(world.repository, "nginx", "1")
        await world.metadata.forget_remote_tag(world.repository, "nginx", "1")

        assert (first, second) == (known, later)
        assert await world.metadata.find_remote_tag(world.repository, "nginx", "1") is None

    run(test)


def test_what_a_remote_repository_caches_needs_no_blobs(run: Run) -> None:
    async def test(world: World) -> None:
        body = image_body([b"not here"])

        await world.metadata.put_manifest(
            world.repository, "web", ["v1"], body, OCI_MANIFEST, ACTOR, children_must_exist=False
        )

        assert await world.metadata.find_manifest(world.repository, "web", "v1")

    run(test)


def test_a_quota_is_kept_by_the_project_and_the_repository(run: Run) -> None:
    async def test(world: World) -> None:
        await world.push_blob(b"x" * 60)
        await set_quota(world.sql, "projects/p", 100, at=1, actor=ACTOR)
        other = await world.new_repository("other")

        with pytest.raises(RegistryError, match="would hold 110") as caught:
            await world.push_blob(b"y" * 50, other)
        await world.push_blob(b"y" * 40, other)
        await set_quota(world.sql, "projects/p", None, at=2, actor=ACTOR)
        await set_quota(world.sql, other.resource, 50, at=3, actor=ACTOR)
        with pytest.raises(RegistryError, match=r"repositories/other is 50 bytes"):
            await world.metadata.mount_blob(world.repository, other, digest_of(b"x" * 60))

        assert (caught.value.code, caught.value.status) == ("DENIED", 403)
        assert (await world.metadata.list_files(other))[0].size == 40

    run(test)


def test_what_is_older_than_it_is_to_be_kept_is_forgotten(run: Run) -> None:
    async def test(world: World) -> None:
        for layer in (b"1", b"2"):
            await world.push_image("web", "prod", layers=(layer,))
        await world.push_image("web", "gone")
        await world.metadata.delete_tag(world.repository, "web", "gone", ACTOR)
        world.clock.pass_s(11 * 24 * 3600)
        kept_since = world.clock()
        last = await world.push_image("web", "prod", layers=(b"3",))

        done = await forget(world.metadata, days=10)

        assert (done.acts, done.tag_changes) == (5, 3)
        assert [row.verb for row in await read_audit(world.sql)] == ["manifest.put"]
        assert await oldest_act(world.sql) == kept_since
        history = await world.metadata.tag_history(world.repository, "web")
        assert [change.name for change in history] == ["prod", "prod"]
        assert history[0].digest == last.digest

    run(test)


def test_every_write_leaves_a_line_in_the_audit_trail(run: Run) -> None:
    async def test(world: World) -> None:
        pushed = await world.push_image("a/b", "v1")
        await world.metadata.delete_tag(world.repository, "a/b", "v1", ACTOR)
        await world.metadata.delete_manifest(world.repository, "a/b", pushed.digest, ACTOR)
        await world.new_repository("other")

        here = await read_audit(world.sql, resource=world.repository.resource)
        before = await read_audit(world.sql, before=here[1].id, limit=1)

        assert [row.verb for row in here] == [
            "manifest.delete",
            "tag.delete",
            "manifest.put",
            "repository.create",
        ]
        assert here[1].resource.endswith("/packages/a%2Fb")
        assert here[2].detail == f"{pushed.digest} v1"
        assert before == (here[2],)

    run(test)


# Garbage


def test_a_blob_that_nothing_names_goes_after_the_grace_and_a_second_wait(run: Run) -> None:
    async def test(world: World) -> None:
        blob = await world.push_blob(b"nobody's")
        await world.push_image("web", "v1")
        collector = world.collector()

        assert await collector.run() == await collector.run()  # nothing, twice
        world.clock.pass_s(GRACE_S + 1)
        [planned] = await collector.plan()
        assert (await collector.run()).doomed == 1
        assert (await collector.run()).condemned == 0  # not yet
        world.clock.pass_s(601)
        done = await collector.run()

        assert (planned.digest, planned.step) == (blob, "doomed")
        assert (done.condemned, done.removed, done.removed_bytes) == (1, 1, 8)
        assert not world.path_of(blob).exists()
        assert await world.metadata.find_blob(world.repository, blob) is None
        assert await world.sql.fetch("SELECT 1 FROM repository_blob WHERE digest = $1", blob) == []
        assert world.path_of(digest_of(b"layer")).exists()
        assert await collector.plan() == ()

    run(test)


def test_whoever_asks_for_a_doomed_blob_saves_it(run: Run) -> None:
    async def test(world: World) -> None:
        blobs = [await world.push_blob(bytes([n])) for n in range(4)]
        other = await world.new_repository("other")
        body = json.dumps({"schemaVersion": 2, "config": {"digest": blobs[2], "size": 1, "mediaType": "x"}})  # fmt: skip
        world.clock.pass_s(GRACE_S + 1)
        assert (await world.collector().run()).doomed == 4

        await world.metadata.find_blob(world.repository, blobs[0])
        await world.metadata.mount_blob(world.repository, other, blobs[1])
        await world.put("web", body.encode(), "v1")
        world.clock.pass_s(601)
        done = await world.collector().run()

        assert done.removed == 1
        assert [world.path_of(b).exists() for b in blobs] == [True, True, True, False]

    run(test)


def test_a_promise_holds_for_most_of_the_grace_and_old_ones_are_not_written_again(run: Run) -> None:
    async def test(world: World) -> None:
        blob = await world.push_blob(b"data")
        pushed_at = world.clock.now

        world.clock.pass_s(GRACE_S / 4)
        young = await world.metadata.find_blob(world.repository, blob)
        world.clock.pass_s(1)
        renewed = await world.metadata.find_blob(world.repository, blob)

        quarter = int(GRACE_S * 1_000_000) // 4
        assert young is not None
        assert young.promised_until == pushed_at + quarter
        assert renewed is not None
        assert renewed.promised_until == world.clock.now + quarter
        world.clock.pass_s(GRACE_S - 1)
        assert (await world.collector().run()).doomed == 0

    run(test)


def test_the_same_bytes_pushed_while_the_collector_removes_them_are_there(run: Run) -> None:
    async def test(world: World) -> None:
        """The collector takes the file between the put and the row."""
        blob = await world.push_blob(b"data")
        world.clock.pass_s(GRACE_S + 1)
        await world.collector().run()
        world.clock.pass_s(601)
        staged = world.storage.uploads / "staged"
        staged.write_bytes(b"data")

        key = world.storage.put(staged, blob)
        await world.collector().run()
        with pytest.raises(BlobVanishedError):
            await world.metadata.link_blob(
                world.repository, blob, 4, key, still_there=world.storage.is_there
            )
        nothing = await world.metadata.find_blob(world.repository, blob)
        await world.push_blob(b"data")

        assert nothing is None
        assert world.path_of(blob).read_bytes() == b"data"
        assert await world.metadata.find_blob(world.repository, blob)

    run(test)


def test_pushes_go_on_while_everything_is_collected_at_once(url: str, tmp_path: Path) -> None:
    """No push fails and no layer is missing, with a grace that is hardly longer than a push."""

    async def test() -> None:
        async with open_world(url, tmp_path, grace_s=0.5) as world:
            world.metadata.clock = _real_clock
            world.in_threads = True
            pushed: list[str] = []
            done = asyncio.Event()

            async def push(worker: int) -> None:
                for number in range(12):
                    layers = [b"shared", f"{number}".encode(), f"{worker}.{number}".encode()]
                    put = await world.push_image("web", f"w{worker}", layers=layers)
                    pushed.append(put.digest)

            async def collect() -> None:
                while not done.is_set():
                    await world.collector(wait_s=0.0).run()
                    await asyncio.sleep(0.002)

            collecting = asyncio.create_task(collect())
            await asyncio.gather(*(push(worker) for worker in range(4)))
            done.set()
            await collecting

            for digest in pushed:
                found = await world.metadata.find_manifest(world.repository, "web", digest)
                assert found is not None
            for digest, size in await world.sql.fetch(
                "SELECT DISTINCT r.child, b.size FROM manifest_ref r JOIN blob b ON b.digest = r.child"
            ):
                assert world.path_of(digest).stat().st_size == size
            assert (
                await world.sql.fetch(
                    "SELECT 1 FROM manifest_ref r WHERE NOT EXISTS "
                    "(SELECT 1 FROM blob b WHERE b.digest = r.child AND b.state <= 1)"
                )
                == []
            )

    asyncio.run(test())


def test_files_without_rows_are_swept_and_others_are_not(run: Run) -> None:
    async def test(world: World) -> None:
        kept = await world.push_blob(b"kept")
        staged = world.storage.uploads / "staged"
        staged.write_bytes(b"lost")
        lost = digest_of(b"lost")
        world.storage.put(staged, lost)
        stored = world.storage.stat(world.storage.key(lost))
        assert stored is not None
        world.clock.now = stored.modified_at

        early = await sweep_files(world.metadata, world.storage)
        world.clock.pass_s(24 * 3600 + 1)
        late = await sweep_files(world.metadata, world.storage)

        assert (early, late) == (0, 1)
        assert world.path_of(kept).exists()
        assert not world.path_of(lost).exists()

    run(test)


def test_a_blob_that_is_pushed_while_its_file_is_retired_is_there(run: Run) -> None:
    async def test(world: World) -> None:
        world.in_threads = True
        for number in range(20):
            data = b"again %d" % number
            (staged := world.storage.uploads / "staged").write_bytes(data)
            key = world.storage.put(staged, digest_of(data))
            staged.unlink()
            pushed, _, _ = await asyncio.gather(
                world.push_blob(data),
                retire_unnamed(world.metadata, world.storage, key),
                retire_unnamed(world.metadata, world.storage, key),
            )

            assert await world.metadata.find_blob(world.repository, pushed)
            assert world.path_of(pushed).read_bytes() == data
            assert not await retire_unnamed(world.metadata, world.storage, key)

    run(test)


def test_a_rotten_blob_is_quarantined_and_healed_by_a_push(run: Run) -> None:
    async def test(world: World) -> None:
        await world.push_image("web", "v1")
        blob = digest_of(b"layer")
        path = world.path_of(blob)
        path.chmod(0o644)
        path.write_bytes(b"lazer")
        before = world.metadata.generation.value()
        scrubber = Scrubber(world.metadata, world.storage, bytes_a_second=0)

        done = await scrubber.run(period_s=0)

        assert [p.digest for p in done.problems] == [blob]
        assert (done.blobs, done.problems[0].repaired) == (2, False)
        assert await world.metadata.find_blob(world.repository, blob) is None
        assert world.metadata.generation.value() != before
        assert [p.name for p in world.storage.quarantined.iterdir()] == [path.name]
        assert (await scrubber.run(period_s=0)).problems == ()
        await world.push_blob(b"layer")
        assert await world.metadata.find_blob(world.repository, blob)
        assert path.read_bytes() == b"layer"

    run(test)


def test_a_rotten_blob_of_a_remote_repository_is_fetched_again(run: Run) -> None:
    async def test(world: World) -> None:
        hub = await world.new_repository(
            "hub", mode=Mode.REMOTE, remote=RemoteConfig(upstream="DOCKER_HUB")
        )
        blob = await world.push_blob(b"data", hub)
        world.path_of(blob).unlink()

        async def fetch(repository: Repository, digest: str) -> bool:
            assert (repository, digest) == (hub, blob)
            return bool(await world.push_blob(b"data", hub))

        scrubber = Scrubber(world.metadata, world.storage, repair=fetch, bytes_a_second=0)
        done = await scrubber.run(period_s=0)

        assert [(p.what, p.repaired) for p in done.problems] == [("it is not there", True)]
        assert world.path_of(blob).read_bytes() == b"data"

    run(test)


def test_cleanup_deletes_what_its_policies_say_and_notes_why(run: Run) -> None:
    async def test(world: World) -> None:
        old = await world.push_image("web", "old")
        index = await world.put_index("web", [old.digest])
        world.clock.pass_s(10)
        new = await world.push_image("web", "new", layers=[b"2"])
        policies = {
            "all": {"id": "all", "action": "DELETE", "condition": {"tagState": "ANY"}},
            "last": {"id": "last", "action": "KEEP", "mostRecentVersions": {"keepCount": 1}},
        }
        repository = await world.metadata.update_repository(
            replace(world.repository, cleanup_policies=policies), ACTOR
        )

        dry = await clean(world.metadata, repository, dry_run=True)
        still = await world.metadata.list_versions(repository)
        done = await clean(world.metadata, repository)

        assert (dry.deleted, done.deleted, len(still)) == (0, 2, 3)
        left = await world.metadata.list_versions(repository)
        assert [v.digest for v in left] == [new.digest]
        rows = await read_audit(world.sql, limit=2)
        assert [row.detail.split(" ")[0] for row in rows] == [old.digest, index.digest]
        assert "policy all" in rows[0].detail

    run(test)


# The database


def test_a_failed_transaction_leaves_nothing(run: Run) -> None:
    async def test(world: World) -> None:
        async def work(transaction: Transaction) -> None:
            await transaction.execute("INSERT INTO quota VALUES ($1, $2)", "x", 1)
            raise ValueError("no")

        async def good(transaction: Transaction) -> int:
            return await transaction.execute("INSERT INTO quota VALUES ($1, $2)", "y", 2)

        results = await asyncio.gather(
            *(world.sql.transact(work) for _ in range(5)),
            world.sql.transact(good),
            *(world.sql.transact(work) for _ in range(5)),
            return_exceptions=True,
        )

        assert [r for r in results if not isinstance(r, ValueError)] == [1]
        assert await world.sql.fetch("SELECT * FROM quota") == [("y", 2)]

    run(test)


def test_a_statement_that_fails_spoils_its_own_transaction_only(run: Run) -> None:
    async def test(world: World) -> None:
        async def work(transaction: Transaction, name: str) -> None:
            await transaction.execute("INSERT INTO quota VALUES ($1, $2)", name, 1)

        await world.sql.transact(lambda t: work(t, "twice"))
        results = await asyncio.gather(
            *(world.sql.transact(lambda t, n=n: work(t, n)) for n in ("a", "twice", "b")),
            return_exceptions=True,
        )

        assert [type(r) for r in results] == [type(None), DatabaseError, type(None)]
        assert len(await world.sql.fetch("SELECT * FROM quota")) == 3

    run(test)


def test_writers_are_as_if_one_came_after_the_other(url: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with open_world(url, tmp_path) as world:
            other = await open_sql(url)

            async def add_one(transaction: Transaction) -> None:
                row = await transaction.fetch_row("SELECT limit_bytes FROM quota WHERE resource = 'n'")  # fmt: skip
                assert row is not None
                await transaction.execute(
                    "UPDATE quota SET limit_bytes = $1 WHERE resource = 'n'", row[0] + 1
                )

            async def begin(transaction: Transaction) -> None:
                await transaction.execute("INSERT INTO quota VALUES ('n', 0)")

            await world.sql.transact(begin)
            await asyncio.gather(
                *(world.sql.transact(add_one) for _ in range(25)),
                *(other.transact(add_one, durable=False) for _ in range(25)),
            )

            assert await world.sql.fetch("SELECT limit_bytes FROM quota") == [(50,)]
            await other.close()

    asyncio.run(test())


def test_many_pushes_of_one_tag_leave_one_of_them(url: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with open_world(url, tmp_path) as world:
            sql = await open_sql(url)
            generation = Generation(tmp_path / "generation")
            other = Metadata(sql, generation, world.clock)
            layers = [bytes([n]) for n in range(16)]
            for data in (b"{}", *layers):
                await world.push_blob(data)
            bodies = [image_body([data]) for data in layers]

            await asyncio.gather(
                *(
                    (world.metadata, other)[place % 2].put_manifest(
                        world.repository, "web", ["latest"], body, OCI_MANIFEST, ACTOR
                    )
                    for place, body in enumerate(bodies)
                )
            )

            found = await other.find_manifest(world.repository, "web", "latest")
            assert found is not None
            assert found.body in bodies
            history = await other.tag_history(world.repository, "web")
            assert len(history) == 16
            assert history[0].digest == found.digest
            await sql.close()
            generation.close()

    asyncio.run(test())


def test_another_machine_hears_of_a_change(cluster: Cluster, template: str, tmp_path: Path) -> None:
    """PostgreSQL's alone: a file is one machine's."""
    url = cluster.new_database(template)
    (tmp_path / "there").mkdir()

    async def test() -> None:
        async with open_world(url, tmp_path) as here, open_world(url, tmp_path / "there") as there:
            generation = there.metadata.generation
            heard = asyncio.Event()

            def changed() -> None:
                generation.bump()
                heard.set()

            await there.sql.listen(changed)
            await asyncio.wait_for(heard.wait(), 10)  # connected
            heard.clear()
            before = generation.value()
            await here.push_image("web", "v1")
            await asyncio.wait_for(heard.wait(), 10)

            assert generation.value() != before

    asyncio.run(test())


def test_a_database_that_is_not_there_is_an_error_in_words(tmp_path: Path) -> None:
    async def test(url: str) -> None:
        with pytest.raises(DatabaseError) as caught:
            await open_sql(url)
        assert caught.value.why or caught.value.fix

    asyncio.run(test(f"postgresql://postgres@/x?host={tmp_path}"))
    asyncio.run(test(f"sqlite:///{tmp_path}/none.db"))
    asyncio.run(test("mysql://x"))


def test_a_lost_server_is_an_error_in_words_until_it_is_back(tmp_path: Path) -> None:
    with running_cluster() as server:
        url = server.new_database()
        migrate(url, tmp_path / "lock")

        async def test() -> None:
            async with open_world(url, tmp_path) as world:
                heard: list[int] = []
                await world.sql.listen(lambda: heard.append(1))
                await world.push_image("web", "v1")
                server.stop()
                with pytest.raises(DatabaseError, match="PostgreSQL"):
                    await world.metadata.find_repository("p", "r")
                with pytest.raises(DatabaseError, match="PostgreSQL"):
                    await world.push_blob(b"data")
                server.start()
                heard.clear()

                await asyncio.gather(*(world.push_blob(bytes([n])) for n in range(12)))
                assert await world.metadata.find_manifest(world.repository, "web", "v1")
                async with asyncio.timeout(20):
                    while not heard:  # some changes may have been missed
                        await asyncio.sleep(0.05)

        asyncio.run(test())


def test_a_new_database_is_not_for_everybody(tmp_path: Path) -> None:
    migrate(f"sqlite:///{tmp_path}/new/meta.db", tmp_path / "lock")

    assert (tmp_path / "new" / "meta.db").stat().st_mode & 0o007 == 0


def test_migrating_twice_changes_nothing(url: str, tmp_path: Path) -> None:
    migrate(url, tmp_path / "lock")

    async def test() -> None:
        async with open_world(url, tmp_path) as world:
            assert (await world.push_image("web", "v1", layers=[OCI_INDEX.encode()])).created

    asyncio.run(test())


def _real_clock() -> int:
    return time.time_ns() // 1000
