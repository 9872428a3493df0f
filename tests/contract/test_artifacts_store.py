"""What the API keeps beside the data plane's rows, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from hakobune.iam.master_key import MasterKey
from hakobune.iam.secret_box import SecretBox
from hakobune.registry import artifacts_store
from hakobune.registry.artifacts_store import ArtifactsStore
from hakobune.registry.errors import ResourceError
from hakobune.registry.generation import Generation
from hakobune.registry.metadata import Metadata
from hakobune.registry.quota import Quota, list_quotas, set_quota
from hakobune.registry.repository import Repository
from hakobune.registry.secret_store import SecretStore
from hakobune.state.migrate import migrate
from hakobune.state.sql import Sql, open_sql


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("meta")
    if request.param == "sqlite":
        url = f"sqlite:///{folder}/meta.db"
    else:
        url = request.getfixturevalue("cluster").new_database()
    migrate(url, folder / "lock")
    return url


def run(url: str, work: Callable[[Sql], Awaitable[None]]) -> None:
    async def whole() -> None:
        sql = await open_sql(url)
        try:
            await work(sql)
        finally:
            await sql.close()

    asyncio.run(whole())


class Clock:
    def __init__(self) -> None:
        self.now = 1000

    def __call__(self) -> int:
        self.now += 1
        return self.now


def test_operations_are_found_listed_newest_first_and_forgotten(url, monkeypatch):
    monkeypatch.setattr(artifacts_store, "KEPT_OPERATIONS", 3)

    async def work(sql: Sql) -> None:
        store = ArtifactsStore(sql, Clock())
        for number in range(5):
            await store.add_operation("projects/p/locations/l", f"op{number}", {"number": number})

        assert [o["number"] for o in await store.list_operations("projects/p/locations/l")] == [4, 3, 2]  # fmt: skip
        assert await store.find_operation("op0") is None
        assert await store.find_operation("op4") == {"number": 4}
        await store.drop_operation("op4")
        assert await store.find_operation("op4") is None
        assert await store.list_operations("projects/p/locations/other") == []

    run(url, work)


def test_annotations_belong_to_what_was_there_when_they_were_set(url):
    async def work(sql: Sql) -> None:
        clock = Clock()
        store = ArtifactsStore(sql, clock)
        await store.set_annotations(1, "packages/web", {"team": "blue"})
        await store.set_annotations(1, "packages/web", {"team": "réd"})
        await store.set_annotations(1, "packages/web/versions/sha256:a", {"v": "1"})

        assert await store.annotations(1, "packages/web", since=1000) == {"team": "réd"}
        assert await store.annotations(1, "packages/web", since=clock.now + 1) == {}
        assert await store.annotations(2, "packages/web") == {}
        assert len(await store.all_annotations(1, "packages/")) == 2
        await store.drop_annotations(1, "packages/web/versions/")
        assert len(await store.all_annotations(1, "packages/")) == 1
        await store.drop_annotations(1)
        assert await store.all_annotations(1, "") == {}

    run(url, work)


def test_a_projects_settings_are_replaced(url):
    async def work(sql: Sql) -> None:
        store = ArtifactsStore(sql, Clock())
        assert await store.project_settings("p") == {}
        await store.set_project_settings("p", {"a": 1})
        await store.set_project_settings("p", {"b": 2})
        assert await store.project_settings("p") == {"b": 2}

    run(url, work)


def test_a_secret_has_versions_that_are_sealed_read_and_destroyed(url):
    async def work(sql: Sql) -> None:
        store = SecretStore(sql, SecretBox(MasterKey(b"k" * 32)), Clock())
        first = await store.add("projects/p/secrets/hub", b"one", "owner")
        second = await store.add("projects/p/secrets/hub", b"two", "owner")

        assert (first.version, second.name) == (1, "projects/p/secrets/hub/versions/2")
        assert await store.read(first.name) == b"one"
        assert await store.read("projects/p/secrets/hub/versions/latest") == b"two"
        assert [v.version for v in await store.versions("p", "hub")] == [2, 1]
        sealed = await sql.fetch("SELECT sealed FROM secret_version")
        assert all(b"one" not in bytes(row[0]) and b"two" not in bytes(row[0]) for row in sealed)

        await store.destroy("p", "hub", 1, "owner")
        with pytest.raises(ResourceError, match="there is no"):
            await store.read(first.name)
        await store.delete("p", "hub", "owner")
        assert await store.versions("p") == ()
        with pytest.raises(ResourceError, match="there is no"):
            await store.delete("p", "hub", "owner")

    run(url, work)


@pytest.mark.parametrize(
    ("name", "payload"), [("projects/p/secrets/a b", b"x"), ("hub", b"x"), ("projects/p/secrets/hub", b"")]
)  # fmt: skip
def test_what_is_no_secret_is_not_kept(url, name, payload):
    async def work(sql: Sql) -> None:
        with pytest.raises(ResourceError) as caught:
            await SecretStore(sql, SecretBox(MasterKey(b"k" * 32)), Clock()).add(name, payload, "owner")  # fmt: skip
        assert caught.value.status == "INVALID_ARGUMENT"

    run(url, work)


def test_quotas_are_listed_with_what_is_used(url, tmp_path):
    async def work(sql: Sql) -> None:
        generation = Generation(tmp_path / "generation")
        try:
            metadata = Metadata(sql, generation)
            stored = await metadata.create_repository(
                Repository(project="quota", location="local", name="web"), "owner"
            )
            await metadata.link_blob(stored, f"sha256:{'a' * 64}", 70, storage_key="a")
        finally:
            generation.close()
        for resource, limit in (
            ("projects/quota", 1000),
            (stored.resource, 100),
            ("projects/quota2", 5),
        ):
            await set_quota(sql, resource, limit, at=1, actor="owner")

        assert await list_quotas(sql, "quota") == (
            Quota("projects/quota", 1000, 70),
            Quota(stored.resource, 100, 70),
        )
        await set_quota(sql, "projects/quota", None, at=2, actor="owner")
        assert [quota.resource for quota in await list_quotas(sql, "quota")] == [stored.resource]

    run(url, work)
