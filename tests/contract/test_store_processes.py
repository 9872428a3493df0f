"""The store under several processes, `kill -9` at every commit point, and a full disk."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from hakobune.oci.blobs import StoreFullError
from hakobune.oci.commit_point import CommitPoint
from hakobune.oci.layer import Owner, Tree, write_layer
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from tests.image_maker import an_image, files_below
from tests.mounts import tiny_disk

pytestmark = pytest.mark.needs_root

REPOSITORY = Path(__file__).parents[2]
OLD, NEW = Reference.parse("old"), Reference.parse("new")

# A process that does everything once, and dies by SIGKILL when it reaches a point for the N-th time.
WORKER = """
import os, signal, sys
from pathlib import Path
from hakobune.oci.digest import Digest
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from tests.image_maker import an_image

home, point, times = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

def reached(now):
    global times
    if now == point:
        times -= 1
        if times == 0:
            os.kill(os.getpid(), signal.SIGKILL)

with Store(home, reached=reached) as store:
    image = an_image(store, "new", content=b"new")
    store.snapshots(image)
    store.set_root("builds", "new", [image.digest])
    an_image(store, "gone", content=b"gone")
    store.untag(Reference.parse("gone"))
with Store(home, reached=reached) as store:
    store.collect()
"""


def _start(script: str, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}/src:{REPOSITORY}"},
    )


def _leftovers(home: Path) -> list[str]:
    private = home / "images" / ".hako"
    places = [private / "partial", private / "trash", private / "leases"]
    places += [home / "snapshots" / ".new", home / "snapshots" / ".trash"]
    return [f"{place.name}/{name}" for place in places for name in files_below(place)]


@pytest.mark.parametrize(
    ("point", "times"),
    [(point, 1) for point in CommitPoint]
    + [(CommitPoint.BLOB_PUBLISHED, 2), (CommitPoint.GARBAGE_MOVED, 2), (CommitPoint.BLOB_WRITTEN, 3)],
)  # fmt: skip
def test_a_process_killed_at_a_commit_point_leaves_the_store_whole(
    tmp_path: Path, point: CommitPoint, times: int
) -> None:
    with Store(tmp_path) as store:
        old = an_image(store, "old", content=b"old")

    assert _start(WORKER, tmp_path, point, times).wait(60) == -signal.SIGKILL

    with Store(tmp_path) as store:
        assert store.verify() == ()
        assert store.find_image(OLD) == old
        if new := store.find_image(NEW):
            assert store.has_blob(new.manifest.layers[0].digest)
    # The next run does it all, and nothing of the killed one is left.
    assert _start(WORKER, tmp_path, "none", 0).wait(60) == 0
    with Store(tmp_path) as store:
        assert [name.short for name, _ in store.names()] == ["new", "old"]
        assert store.verify() == ()
    assert _leftovers(tmp_path) == []


def test_processes_that_publish_at_once_lose_nothing(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from hakobune.oci.store import Store
from tests.image_maker import an_image
with Store(Path(sys.argv[1])) as store:
    for i in range(20):
        an_image(store, f"app{sys.argv[2]}:{i}", content=f"{sys.argv[2]} {i}".encode())
        store.collect()
"""
    workers = [_start(script, tmp_path, number) for number in range(3)]

    assert [worker.wait(120) for worker in workers] == [0, 0, 0]
    with Store(tmp_path) as store:
        assert len(store.names()) == 60
        assert store.verify() == ()


def test_processes_that_need_one_layer_at_once_unpack_it_once(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from hakobune.oci.commit_point import CommitPoint
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store

def reached(point):
    if point == CommitPoint.SNAPSHOT_STARTED:
        with open(sys.argv[2], "a") as log:
            log.write("unpacked\\n")

with Store(Path(sys.argv[1]), reached=reached) as store:
    sys.stdin.read()
    store.snapshots(store.find_image(Reference.parse("web")))
"""
    with Store(tmp_path / "home") as store:
        an_image(store, "web", content=os.urandom(8 << 20))
    log = tmp_path / "log"
    read_end, write_end = os.pipe()
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "home"), str(log)],
            env={**os.environ, "PYTHONPATH": f"{REPOSITORY}/src:{REPOSITORY}"},
            stdin=read_end,
        )
        for _ in range(4)
    ]
    os.close(read_end)
    os.close(write_end)  # all go at once

    assert [worker.wait(60) for worker in workers] == [0] * 4
    assert log.read_text() == "unpacked\n"


def test_a_collector_beside_a_build_takes_nothing_of_it(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from hakobune.oci.store import Store
store = Store(Path(sys.argv[1]))
for i in range(200):
    store.collect()
"""
    collector = _start(script, tmp_path)
    try:
        for i in range(30):
            with Store(tmp_path) as store:
                image = an_image(store, f"app:{i}", content=f"{i}".encode())
                snapshots, hold = store.hold_image(image)
                begun = store.begin_snapshot()
                (begun / "tree" / "file").write_text("kept")
                kept = store.finish_snapshot(begun, below=snapshots[0].levels)
                store.set_root("builds", "app", [kept.key])
                assert store.open_snapshot(kept.key) == kept
                hold.close()
    finally:
        collector.kill()
        collector.wait()
    with Store(tmp_path) as store:
        assert len(store.names()) == 30
        assert store.verify() == ()


# A full disk


def _tree(folder: Path, sizes: Sequence[int]) -> Path:
    folder.mkdir()
    for i, size in enumerate(sizes):
        (folder / f"file{i}").write_bytes(os.urandom(size))
    return folder


def test_a_full_disk_leaves_no_half_blob_and_says_what_to_do(tmp_path: Path) -> None:
    tree = _tree(tmp_path / "tree", [3 << 20])
    with tiny_disk(2 << 20) as home, Store(home) as store:
        old = an_image(store, "old")

        with pytest.raises(StoreFullError) as error:
            write_layer(store, [Tree(name="/app", directory=tree)], owner=Owner(0, 0))

        assert str(error.value) == (
            "cannot store a blob\n"
            f"  why: No space left on device in {home}/images/.hako/partial\n"
            "  fix: make room there (0 MB are left), for example with `hako image prune`, "
            "or set HAKO_HOME to a larger disk"
        )
        assert files_below(home / "images/.hako/partial") == []
        assert store.verify() == ()
        assert an_image(store, "new", content=b"small") != old


def test_a_full_disk_while_unpacking_leaves_no_half_snapshot(tmp_path: Path) -> None:
    tree = _tree(tmp_path / "tree", [])
    (tree / "zeros").write_bytes(bytes(4 << 20))
    with tiny_disk(2 << 20) as home, Store(home) as store:
        layer = write_layer(store, [Tree(name="/app", directory=tree)], owner=Owner(0, 0))
        image = an_image(store, "web", layers=[layer])

        with pytest.raises(StoreFullError, match="cannot store the layer sha256:"):
            store.snapshots(image)

        assert files_below(home / "snapshots/.new") == []
        assert [p.name for p in (home / "snapshots").iterdir() if p.name[0] != "."] == []
        store.collect()  # empties the trash
        assert an_image(store, "new", content=os.urandom(1 << 20))


def _fill(disk: Path) -> None:
    with contextlib.suppress(OSError), open(disk / "filler", "wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))


def test_a_disk_without_room_for_a_name_keeps_the_old_one(tmp_path: Path) -> None:
    with tiny_disk(1 << 20) as home, Store(home) as store:
        old = an_image(store, "web", content=b"old")
        new = an_image(store, content=b"new")
        _fill(home)

        with pytest.raises(StoreFullError):
            store.tag(new.digest, Reference.parse("web"))

        assert store.find_image(Reference.parse("web")) == old
