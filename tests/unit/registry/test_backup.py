from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from hakobune.iam.master_key import load_master_key, master_key_path
from hakobune.registry.backup import BackupError, back_up, blob_file
from hakobune.registry.blobs import LocalStorage, commit_blob
from hakobune.registry.generation import Generation
from hakobune.registry.metadata import Metadata
from hakobune.registry.repository import Repository
from hakobune.registry.restore import restore, verify
from hakobune.settings import Settings
from hakobune.state.migrate import migrate
from hakobune.state.sql import open_sql

T = TypeVar("T")
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LAYER = b"layer" * 1000


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def a_manifest(*blobs: bytes) -> bytes:
    described = [
        {"mediaType": "application/octet-stream", "digest": digest_of(blob), "size": len(blob)}
        for blob in blobs
    ]
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described[0]}
    return json.dumps({**document, "layers": described[1:]}).encode()


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A migrated database, to be copied: making one takes half a second."""
    folder = tmp_path_factory.mktemp("empty")
    migrate(f"sqlite:///{folder}/meta.db", folder / "lock")
    return (folder / "meta.db").read_bytes()


def at(home: Path) -> Settings:
    return Settings.from_environment({"HAKO_HOME": str(home)}, uid=os.getuid())


@pytest.fixture
def settings(tmp_path: Path, empty_database: bytes) -> Settings:
    """A home with a registry that holds one image."""
    found = at(tmp_path / "home")
    found.registry.mkdir(parents=True)
    (found.registry / "meta.db").write_bytes(empty_database)
    load_master_key(master_key_path(found.home))
    push_an_image(found)
    return found


def ask(settings: Settings, work: Callable[[Metadata], Coroutine[Any, Any, T]]) -> T:
    """Do something with the metadata of that home."""

    async def run() -> T:
        sql = await open_sql(settings.registry_database)
        generation = Generation(settings.registry / "generation")
        try:
            return await work(Metadata(sql, generation))
        finally:
            await sql.close()
            generation.close()

    return asyncio.run(run())


def push_an_image(settings: Settings) -> None:
    storage = LocalStorage(settings.registry)
    storage.prepare()

    async def work(metadata: Metadata) -> None:
        repository = await metadata.create_repository(
            Repository(project="shop", location="local", name="apps"), "owner"
        )
        for data in (b"{}", LAYER):
            staged = storage.uploads / "one"
            staged.write_bytes(data)
            link = partial(metadata.link_blob, repository, digest_of(data), len(data))
            await commit_blob(storage, link, staged, digest_of(data))
            staged.unlink()
        body = a_manifest(b"{}", LAYER)
        await metadata.put_manifest(repository, "web", ["v1"], body, MANIFEST, "owner")
        await metadata.begin_upload(repository, "web", "under-way", "owner")

    ask(settings, work)


async def read_tag(metadata: Metadata) -> bytes:
    repository = await metadata.find_repository("shop", "apps")
    assert repository is not None
    manifest = await metadata.find_manifest(repository, "web", "v1")
    assert manifest is not None
    return manifest.body


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_backup_is_restored_into_an_empty_home(settings: Settings, tmp_path: Path) -> None:
    made = back_up(settings, tmp_path / "backup", env={}, copy=False)
    empty = at(tmp_path / "other")

    found = restore(tmp_path / "backup", empty, env={})

    assert (made.blobs, made.size_bytes, made.linked) == (2, 5002, 2)
    assert found.record == made
    assert ask(empty, read_tag) == a_manifest(b"{}", LAYER)
    for data in (b"{}", LAYER):
        path = LocalStorage(empty.registry).local_path(
            LocalStorage(empty.registry).key(digest_of(data))
        )
        assert path is not None
        assert path.read_bytes() == data
    assert master_key_path(empty.home).read_bytes() == master_key_path(settings.home).read_bytes()
    assert master_key_path(empty.home).stat().st_mode & 0o777 == 0o600


def test_what_was_under_way_is_not_brought_back(settings: Settings, tmp_path: Path) -> None:
    back_up(settings, tmp_path / "backup", env={}, copy=False)
    restore(tmp_path / "backup", at(tmp_path / "other"), env={})

    with contextlib.closing(sqlite3.connect(tmp_path / "other/registry/meta.db")) as database:
        assert database.execute("SELECT count(*) FROM upload").fetchone() == (0,)


def test_copies_share_nothing_with_the_registry(settings: Settings, tmp_path: Path) -> None:
    made = back_up(settings, tmp_path / "backup", env={}, copy=True)

    assert made.linked == 0
    assert blob_file(tmp_path / "backup", digest_of(LAYER)).stat().st_nlink == 1


def test_a_blob_that_was_damaged_is_not_copied(settings: Settings, tmp_path: Path) -> None:
    storage = LocalStorage(settings.registry)
    path = storage.local_path(storage.key(digest_of(LAYER)))
    assert path is not None
    path.chmod(0o644)
    path.write_bytes(b"other" * 1000)

    with pytest.raises(BackupError, match="is damaged"):
        back_up(settings, tmp_path / "backup", env={}, copy=True)

    assert not (tmp_path / "backup").exists()
    assert not list(tmp_path.glob(".backup*"))


def test_a_blob_that_is_missing_ends_the_backup(settings: Settings, tmp_path: Path) -> None:
    storage = LocalStorage(settings.registry)
    path = storage.local_path(storage.key(digest_of(LAYER)))
    assert path is not None
    path.unlink()

    with pytest.raises(BackupError) as refused:
        back_up(settings, tmp_path / "backup", env={}, copy=False)

    assert "missing" in refused.value.why
    assert not (tmp_path / "backup").exists()


def test_a_backup_replaces_nothing(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "file").touch()

    with pytest.raises(BackupError, match="cannot make a backup"):
        back_up(settings, tmp_path / "backup", env={}, copy=False)
    with pytest.raises(BackupError, match="cannot make a backup"):
        back_up(settings, tmp_path / "no" / "backup", env={}, copy=False)


def test_a_home_without_a_registry_has_nothing_to_back_up(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="nothing to back up"):
        back_up(at(tmp_path / "home"), tmp_path / "backup", env={}, copy=False)


@pytest.mark.parametrize("damage", ["missing", "other bytes", "shorter", "database", "record"])
def test_a_damaged_backup_is_refused_and_changes_nothing(
    settings: Settings, tmp_path: Path, damage: str
) -> None:
    backup = tmp_path / "backup"
    back_up(settings, backup, env={}, copy=True)
    blob = blob_file(backup, digest_of(LAYER))
    blob.chmod(0o644)
    match damage:
        case "missing":
            blob.unlink()
        case "other bytes":
            blob.write_bytes(b"other" * 1000)
        case "shorter":
            os.truncate(blob, 10)
        case "database":
            os.truncate(backup / "meta.db", 8192)
        case "record":
            (backup / "backup.json").write_text("{}")

    with pytest.raises(BackupError):
        verify(backup)
    with pytest.raises(BackupError):
        restore(backup, at(tmp_path / "other"), env={})

    assert files(tmp_path / "other") == []


def test_a_home_that_has_a_registry_is_not_overwritten(settings: Settings, tmp_path: Path) -> None:
    back_up(settings, tmp_path / "backup", env={}, copy=False)

    with pytest.raises(BackupError, match="cannot restore into"):
        restore(tmp_path / "backup", settings, env={})


def test_a_backup_of_a_newer_version_is_refused_in_words(
    settings: Settings, tmp_path: Path
) -> None:
    back_up(settings, tmp_path / "backup", env={}, copy=False)
    path = tmp_path / "backup" / "backup.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))

    with pytest.raises(BackupError) as refused:
        verify(tmp_path / "backup")

    assert "newer version" in refused.value.why


def test_the_collectors_leavings_are_not_brought_back(settings: Settings, tmp_path: Path) -> None:
    """A doomed blob is not in the backup, so its row must not promise it."""
    with contextlib.closing(sqlite3.connect(settings.registry / "meta.db")) as database:
        database.execute("UPDATE blob SET state = 1 WHERE digest = ?", [digest_of(LAYER)])
        database.commit()
    made = back_up(settings, tmp_path / "backup", env={}, copy=False)
    restore(tmp_path / "backup", at(tmp_path / "other"), env={})

    assert made.blobs == 1
    with contextlib.closing(sqlite3.connect(tmp_path / "other/registry/meta.db")) as database:
        assert database.execute("SELECT digest FROM blob").fetchall() == [(digest_of(b"{}"),)]
        assert len(database.execute("SELECT 1 FROM repository_blob").fetchall()) == 1
