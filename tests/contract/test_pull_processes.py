"""Pulls as processes: killed, at once, while the store is collected, and on a disk that is full."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hakobune.oci.store import Store
from tests.hostile_registry import HostileRegistry, hostile_registry, stall_after
from tests.mounts import tiny_disk
from tests.transfer_world import add_image, web

REPOSITORY = Path(__file__).parents[2]
PULL = """
import sys
from pathlib import Path
from hakobune.distribution.transfer import pull
from hakobune.errors import HakoError
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from hakobune.progress import SilentProgress

name, platform = Reference.parse(sys.argv[2]), Platform("linux", "amd64")
try:
    with Store(Path(sys.argv[1])) as store:
        pull(store, name, platform, SilentProgress())
except HakoError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def registry() -> Iterator[HostileRegistry]:
    with hostile_registry() as registry:
        yield registry


def begin_pull(home: Path, registry: HostileRegistry) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PULL, str(home), str(web(registry))],
        env={"PATH": os.environ["PATH"], "HOME": str(home.parent), "PYTHONPATH": f"{REPOSITORY}/src"},
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def end_pull(process: subprocess.Popen[str]) -> str:
    """What it says if it fails."""
    _, said = process.communicate(timeout=60)
    assert process.returncode == (1 if said else 0), said
    return said


def assert_pulled(home: Path, registry: HostileRegistry) -> None:
    with Store(home) as store:
        image = store.find_image(web(registry))
        assert image is not None
        assert image.raw == registry.manifests["1"][1]
        assert len(store.snapshots(image)) == len(image.diff_ids)
        assert store.verify() == ()


def leftovers(home: Path) -> list[Path]:
    """What a pull that has ended must not leave; blobs that have begun to come stay on purpose."""
    places = ("images/.hako/partial", "snapshots/.new", "snapshots/.trash")
    return [path for place in places for path in (home / place).glob("*")]


def test_a_pull_killed_at_any_moment_leaves_the_store_whole(
    registry: HostileRegistry, tmp_path: Path
) -> None:
    add_image(registry, layers=6, size=2_000_000)
    home = tmp_path / "home"
    for moment in range(6):
        process = begin_pull(home, registry)
        time.sleep(0.2 + moment * 0.06)
        process.kill()
        process.communicate()
        with Store(home) as store:
            assert store.verify() == ()

    assert end_pull(begin_pull(home, registry)) == ""

    assert_pulled(home, registry)
    with Store(home) as store:
        store.collect()
    assert leftovers(home) == []
    assert_pulled(home, registry)


def test_what_a_killed_pull_had_unpacked_goes_with_the_next(
    registry: HostileRegistry, tmp_path: Path
) -> None:
    blob = add_image(registry, size=4_000_000)
    registry.fail("GET", blob, stall_after(2_000_000), times=1)
    home = tmp_path / "home"
    process = begin_pull(home, registry)
    try:
        while not list(home.glob("snapshots/.new/*/tree/app/*")):
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.kill()
        process.communicate()
    assert leftovers(home) != []

    assert end_pull(begin_pull(home, registry)) == ""

    assert_pulled(home, registry)
    assert leftovers(home) == []


@pytest.mark.parametrize("parents", [True, False], ids=["layers alone", "layers on others"])
def test_processes_that_pull_at_once_fetch_each_layer_once(
    registry: HostileRegistry, tmp_path: Path, parents: bool
) -> None:
    last = add_image(registry, layers=4, size=1_000_000, parents=parents)
    home = tmp_path / "home"

    processes = [begin_pull(home, registry) for _ in range(4)]

    assert [end_pull(process) for process in processes] == [""] * 4
    assert_pulled(home, registry)
    assert len(registry.requests("GET", last)) == 1


def test_a_collection_takes_nothing_from_a_pull(registry: HostileRegistry, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with Store(home) as collector:
        for number in range(4):
            add_image(registry, layers=4, size=1_000_000, parents=number % 2 == 0)
            processes = [begin_pull(home, registry) for _ in range(2)]
            while any(process.poll() is None for process in processes):
                collector.collect()
                time.sleep(0.005)

            assert [end_pull(process) for process in processes] == ["", ""]
            assert_pulled(home, registry)
        collector.collect()
        assert len(collector.names()) == 1
    assert_pulled(home, registry)


@pytest.mark.needs_root
@pytest.mark.parametrize("parents", [True, False], ids=["layers alone", "layers on others"])
def test_a_full_disk_is_told_and_keeps_only_what_need_not_come_again(
    registry: HostileRegistry, parents: bool
) -> None:
    """Again and again: what was unpacked for nothing must not fill the disk. Then there is room."""
    add_image(registry, layers=3, size=6_000_000, parents=parents)
    with tiny_disk(48 << 20) as disk:
        home = disk / "home"
        for room in (4, 8, 12, 16, 20):
            free = os.statvfs(disk)
            filling = free.f_bavail * free.f_frsize - (room << 20)
            (disk / "filling").write_bytes(bytes(max(filling, 0)))

            said = end_pull(begin_pull(home, registry))

            (disk / "filling").unlink()
            if room < 16:
                assert "No space left on device" in said
                assert "`hako image prune`" in said
            if said:
                assert leftovers(home) == []
            with Store(home) as store:
                assert store.verify() == ()
                assert bool(store.names()) == (said == "")

        assert end_pull(begin_pull(home, registry)) == ""
        assert_pulled(home, registry)
    assert any("range" in seen.headers for seen in registry.requests("GET", "/blobs/"))
