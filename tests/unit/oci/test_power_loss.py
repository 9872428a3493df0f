"""A reboot is another boot id; a power loss is a file with other bytes than were written."""

import os
from pathlib import Path

import pytest

from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from tests.image_maker import an_image, files_below

WEB, OLD = Reference.parse("web"), Reference.parse("old")


def _marks(home: Path) -> list[str]:
    return files_below(home / "images/.hako/unsynced")


def test_what_was_synced_is_trusted_after_a_reboot(tmp_path: Path) -> None:
    with Store(tmp_path, boot="1") as store:
        image = an_image(store, "web")
        store.sync()
        assert _marks(tmp_path) == []
        inode = store.blob_path(image.digest).stat().st_ino

    with Store(tmp_path, boot="2") as store:
        assert store.find_image(WEB) == image
        assert store.blob_path(image.digest).stat().st_ino == inode


def test_an_unsynced_image_that_is_whole_stays_and_is_marked_for_this_boot(tmp_path: Path) -> None:
    with Store(tmp_path, boot="1") as store:
        image = an_image(store, "web")

    with Store(tmp_path, boot="2") as store:
        assert store.find_image(WEB) == image
    assert {os.path.dirname(mark) for mark in _marks(tmp_path)} == {"2"}


@pytest.mark.parametrize("which", ["manifest", "config", "layer"])
def test_an_image_that_lost_a_blob_loses_its_name_and_others_stay(
    tmp_path: Path, which: str
) -> None:
    with Store(tmp_path, boot="1") as store:
        old = an_image(store, "old", content=b"old")
        store.sync()
        image = an_image(store, "web")
    digests = {
        "manifest": image.digest,
        "config": image.manifest.config.digest,
        "layer": image.manifest.layers[0].digest,
    }
    store.blob_path(digests[which]).write_bytes(b"")

    with Store(tmp_path, boot="2") as store:
        assert store.find_image(WEB) is None
        assert store.find_image(OLD) == old
        assert not store.has_blob(digests[which])
        assert store.verify() == ()


def test_a_torn_index_is_what_it_was_at_the_last_sync(tmp_path: Path) -> None:
    with Store(tmp_path, boot="1") as store:
        old = an_image(store, "old", content=b"old")
        store.sync()
        an_image(store, "web")
    (tmp_path / "images/index.json").write_bytes(b"")

    with Store(tmp_path, boot="2") as store:
        assert store.names() == ((OLD, old.digest),)


def test_a_torn_index_without_any_sync_is_empty(tmp_path: Path) -> None:
    with Store(tmp_path, boot="1") as store:
        an_image(store, "web")
    (tmp_path / "images/index.json").write_bytes(b"\0" * 100)

    with Store(tmp_path, boot="2") as store:
        assert store.names() == ()
        assert an_image(store, "web")


@pytest.mark.needs_root
def test_an_unsynced_snapshot_of_an_image_is_unpacked_again(tmp_path: Path) -> None:
    with Store(tmp_path, boot="1") as store:
        image = an_image(store, "web")
        (snapshot,) = store.snapshots(image)
        (snapshot.tree / "app/file").write_bytes(b"lost")

    with Store(tmp_path, boot="2") as store:
        (again,) = store.snapshots(image)
        assert (again.tree / "app/file").read_bytes() == b"x"
        assert again == snapshot


@pytest.mark.needs_root
def test_a_synced_snapshot_is_used_again(tmp_path: Path) -> None:
    with Store(tmp_path, boot="1") as store:
        (snapshot,) = store.snapshots(an_image(store, "web"))
        inode = snapshot.tree.stat().st_ino
        store.sync()

    with Store(tmp_path, boot="2") as store:
        found = store.open_snapshot(snapshot.key)
        assert found == snapshot
        assert found.tree.stat().st_ino == inode


def test_an_unsynced_kept_layer_and_what_lies_on_it_are_dropped(tmp_path: Path) -> None:
    with Store(tmp_path, boot="1") as store:
        base = store.finish_snapshot(store.begin_snapshot())
        top = store.finish_snapshot(store.begin_snapshot(), below=base.levels)

    with Store(tmp_path, boot="2") as store:
        assert store.open_snapshot(base.key) is None
        assert store.open_snapshot(top.key) is None
        assert store.verify() == ()


def test_the_sync_in_the_background_clears_the_marks(tmp_path: Path) -> None:
    import time

    with Store(tmp_path, boot="1") as store:
        an_image(store, "web")
        store.sync_later()
        deadline = time.monotonic() + 60
        while _marks(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.01)

    assert _marks(tmp_path) == []
