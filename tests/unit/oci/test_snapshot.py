import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hakobune.oci.base_layer import write_base_layer
from hakobune.oci.digest import Digest
from hakobune.oci.inflate import UnpackError
from hakobune.oci.layer import Directory, File
from hakobune.oci.snapshot import SnapshotGoneError, chain_ids
from hakobune.oci.store import Store
from tests.image_maker import a_layer, an_image, files_below

pytestmark = pytest.mark.needs_root  # owners of unpacked files


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "home") as store:
        yield store


def _mode(path: Path) -> str:
    return oct(path.stat().st_mode & 0o7777)


def _base_with_tmp(store: Store, folder: Path) -> Path:
    base = folder / "base"
    (base / "tmp").mkdir(parents=True)
    (base / "tmp").chmod(0o1777)
    os.chown(base / "tmp", 3, 4)
    return base


def test_an_image_s_layers_are_unpacked_once(store: Store) -> None:
    image = an_image(store, layers=[a_layer(store, b"1"), a_layer(store, b"2")])

    first = store.snapshots(image)
    inodes = [(s.tree / "app/file").stat().st_ino for s in first]
    again = store.snapshots(image)

    assert [(s.tree / "app/file").read_bytes() for s in first] == [b"1", b"2"]
    assert again == first
    assert [(s.tree / "app/file").stat().st_ino for s in again] == inodes
    assert [s.lower_dirs() for s in first] == [(s.tree,) for s in first]


def test_a_layer_that_names_its_parents_is_shared_above_different_bases(store: Store) -> None:
    app = a_layer(store, b"app")
    one = an_image(store, layers=[a_layer(store, b"1"), app])
    other = an_image(store, layers=[a_layer(store, b"2"), app])

    assert store.snapshots(one)[1] == store.snapshots(other)[1]
    assert store.snapshots(one)[1].key == f"d-{app.diff_id.hex}"


def test_a_layer_holding_tmp_x_leaves_the_base_s_tmp_as_it_is(store: Store, tmp_path: Path) -> None:
    base = write_base_layer(store, _base_with_tmp(store, tmp_path))
    implied = a_layer(store, parts=[File(name="/tmp/x", content=b"x")])
    deeper = a_layer(store, parts=[File(name="/tmp/new/y", content=b"y")])
    image = an_image(store, layers=[base, implied, deeper])

    snapshots = store.snapshots(image)

    assert [_mode(s.tree / "tmp") for s in snapshots] == ["0o1777"] * 3
    status = (snapshots[2].tree / "tmp").stat()
    assert (status.st_uid, status.st_gid) == (3, 4)
    assert status.st_mtime_ns == (snapshots[0].tree / "tmp").stat().st_mtime_ns
    assert _mode(snapshots[2].tree / "tmp/new") == "0o755"


def test_a_layer_with_implied_parents_is_its_own_above_each_base(
    store: Store, tmp_path: Path
) -> None:
    implied = a_layer(store, parts=[File(name="/tmp/x", content=b"x")])
    base = write_base_layer(store, _base_with_tmp(store, tmp_path))
    plain = a_layer(store, parts=[Directory(name="/tmp")])
    one = store.snapshots(an_image(store, layers=[base, implied]))
    other = store.snapshots(an_image(store, layers=[plain, implied]))

    assert [_mode(s[1].tree / "tmp") for s in (one, other)] == ["0o1777", "0o755"]
    *_, chain = chain_ids([base.diff_id, implied.diff_id])
    assert one[1].key == f"c-{chain.hex}"


def test_a_chain_id_is_the_specification_s() -> None:
    first, second = Digest.of(b"1"), Digest.of(b"2")

    assert list(chain_ids([first, second])) == [
        first,
        Digest.of(f"{first} {second}".encode()),
    ]
    assert list(chain_ids([])) == []


def test_a_damaged_layer_is_refused_and_leaves_nothing(store: Store) -> None:
    image = an_image(store)
    other = a_layer(store, b"other")
    blob = store.blob_path(image.manifest.layers[0].digest)
    blob.write_bytes(store.blob_path(other.blob.digest).read_bytes())

    with pytest.raises(UnpackError, match="is damaged"):
        store.snapshots(image)

    assert [p.name for p in (store.home / "snapshots").iterdir() if p.name[0] != "."] == []
    assert files_below(store.home / "snapshots/.new") == []


def test_only_root_may_go_where_setuid_programs_of_images_lie(store: Store) -> None:
    store.snapshots(an_image(store))

    assert _mode(store.home / "snapshots") == "0o700"


# Holding


def test_a_snapshot_in_use_is_not_collected_until_it_is_released(store: Store) -> None:
    image = an_image(store)
    snapshots, hold = store.hold_image(image)
    store.close()

    while_held = store.collect()
    hold.close()
    afterwards = store.collect()

    assert (while_held.snapshots, while_held.held) == ((), 1)
    assert afterwards.snapshots == (snapshots[0].key,)
    assert not snapshots[0].directory.exists()


def test_a_program_that_is_executed_can_hold_a_snapshot_further(store: Store) -> None:
    _, hold = store.hold_image(an_image(store))
    hold.make_inheritable()
    child = os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
    try:
        hold.close()
        store.close()
        assert store.collect().held == 1
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert store.collect().held == 0


def test_holding_a_collected_snapshot_fails_in_words(store: Store) -> None:
    snapshots = store.snapshots(an_image(store))
    store.close()
    store.collect()

    with pytest.raises(SnapshotGoneError, match=snapshots[0].key):
        store.hold(snapshots)


def test_a_named_image_keeps_its_snapshots(store: Store) -> None:
    snapshots = store.snapshots(an_image(store, "web"))
    store.close()

    assert store.collect().snapshots == ()
    assert snapshots[0].tree.exists()


# Kept snapshots


def _a_kept_snapshot(store: Store, content: str, *, key: str | None = None, below=()):  # type: ignore[no-untyped-def] # a helper
    begun = store.begin_snapshot()
    (begun / "tree" / "file").write_text(content)
    return store.finish_snapshot(begun, key=key, below=below, entries=1, size_bytes=len(content))


def test_a_snapshot_on_others_shows_them_below_itself(store: Store) -> None:
    base = _a_kept_snapshot(store, "base")
    middle = _a_kept_snapshot(store, "middle", below=base.levels)
    top = _a_kept_snapshot(store, "top", below=middle.levels)

    opened = store.open_snapshot(top.key)

    assert opened == top
    assert top.lower_dirs() == (top.tree, middle.tree, base.tree)
    assert len(top.locks()) == 3
    assert top.total_entries() == 3


def test_a_root_keeps_a_snapshot_and_what_it_lies_on(store: Store) -> None:
    base = _a_kept_snapshot(store, "base")
    top = _a_kept_snapshot(store, "top", below=base.levels)
    other = _a_kept_snapshot(store, "other")
    store.set_root("builds", "web", [top.key])
    store.close()

    assert store.collect().snapshots == (other.key,)
    assert store.open_snapshot(top.key) == top


def test_the_hold_of_a_stack_holds_every_level(store: Store) -> None:
    base = _a_kept_snapshot(store, "base")
    top = _a_kept_snapshot(store, "top", below=base.levels)

    with store.hold([top, top]) as hold:
        assert len(hold.fds) == 2
        store.close()
        assert store.collect().held == 2


def test_the_first_of_two_that_finish_the_same_layer_wins(store: Store) -> None:
    diff_id = Digest.of(b"layer")
    one, other = store.begin_snapshot(), store.begin_snapshot()
    (one / "tree/file").write_text("one")
    (other / "tree/file").write_text("other")

    first = store.finish_snapshot(one, diff_id=diff_id)
    second = store.finish_snapshot(other, diff_id=diff_id)

    assert first == second
    assert (second.tree / "file").read_text() == "one"
    assert not other.exists()


def test_a_finished_directory_is_adopted_by_rename(store: Store, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "layers/a").mkdir(parents=True)
    inode = tree.stat().st_ino

    snapshot = store.adopt(tree, Digest.of(b"a"))

    assert snapshot.tree.stat().st_ino == inode
    assert not tree.exists()
    assert files_below(store.home / "snapshots/.new") == []


def test_what_is_being_filled_by_a_living_process_is_not_collected(store: Store) -> None:
    begun = store.begin_snapshot()
    with Store(store.home) as other:
        other.collect()
        assert begun.exists()
        store.close()
        other.collect()
        assert not begun.exists()
