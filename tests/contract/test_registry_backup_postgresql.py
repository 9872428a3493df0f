"""A backup of a registry whose metadata is in a real PostgreSQL, brought back into an empty one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hakobune.registry.backup import BackupError, back_up
from hakobune.registry.restore import restore
from hakobune.settings import Settings
from hakobune.state.migrate import migrate
from tests.postgresql_cluster import Cluster
from tests.unit.registry.test_backup import LAYER, a_manifest, ask, at, push_an_image, read_tag


@pytest.fixture
def settings(cluster: Cluster, tmp_path: Path) -> Settings:
    """A home with a registry that holds one image."""
    found = replace(at(tmp_path / "home"), registry_database=cluster.new_database())
    found.registry.mkdir(parents=True)
    migrate(found.registry_database, found.registry / "lock")
    push_an_image(found)
    return found


def test_a_backup_is_restored_into_another_database(
    cluster: Cluster, settings: Settings, tmp_path: Path
) -> None:
    made = back_up(settings, tmp_path / "backup", env={}, copy=False)
    empty = replace(at(tmp_path / "other"), registry_database=cluster.new_database())

    found = restore(tmp_path / "backup", empty, env={})

    assert (made.database, made.blobs) == ("postgresql", 2)
    assert found.record == made
    assert ask(empty, read_tag) == a_manifest(b"{}", LAYER)


def test_a_database_that_is_in_use_is_not_overwritten(settings: Settings, tmp_path: Path) -> None:
    back_up(settings, tmp_path / "backup", env={}, copy=False)

    with pytest.raises(BackupError, match="cannot restore into"):
        restore(tmp_path / "backup", replace(settings, home=tmp_path / "other"), env={})

    assert ask(settings, read_tag) == a_manifest(b"{}", LAYER)


def test_a_backup_is_not_restored_into_another_kind_of_database(
    settings: Settings, tmp_path: Path
) -> None:
    back_up(settings, tmp_path / "backup", env={}, copy=False)

    with pytest.raises(BackupError) as refused:
        restore(tmp_path / "backup", at(tmp_path / "other"), env={})

    assert "made from postgresql" in refused.value.why
