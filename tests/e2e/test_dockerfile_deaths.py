"""Builds of Dockerfiles that are killed at any place, that meet each other, and that find no room."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hakobune.oci.store import Store
from tests.dockerfile_world import BASE, fill, make_base_image
from tests.e2e.installation import Installation, new_installation

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.needs_root,
]
ROOM_BYTES = 48 << 20
MAKE_ROOM = r"fix: make room there \(\d+ MB are left\), for example with `hako image prune`"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation on a small disk of its own, with little room."""
    with new_installation() as installation:
        disk = str(installation.home)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", disk], check=True)
        try:
            with Store(installation.home) as store:
                make_base_image(store, tmp_path_factory.mktemp("base"))
            used = os.statvfs(disk)
            size = (used.f_blocks - used.f_bfree) * used.f_frsize + ROOM_BYTES
            subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)
            yield installation
        finally:
            subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """A folder with a file that takes a third of the room and cannot be compressed."""
    (tmp_path / "big").write_bytes(os.urandom(ROOM_BYTES // 3))
    return tmp_path


def write(folder: Path, text: str) -> str:
    fill(folder, {"Dockerfile": f"FROM {BASE}\n{text}\n"})
    return str(folder)


def nothing_is_left(world: Installation) -> bool:
    """Nothing runs, is mounted, begun or damaged, after the next collection."""
    world.hako("image", "prune", "--build-cache")
    assert world.pids() == set()
    inside = [
        line for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if f" {world.home}/" in line
    ]  # fmt: skip
    assert inside == []
    for name in ("snapshots/.new", "images/.hako/partial", "images/.hako/trash"):
        folder = world.home / name
        assert not folder.exists() or list(folder.iterdir()) == []
    with Store(world.home) as store:
        assert store.verify() == ()
    return True


@pytest.mark.parametrize(
    ("place", "number"),
    [
        ("COPY", signal.SIGKILL),
        ("COPY", signal.SIGINT),
        ("RUN", signal.SIGTERM),
        ("DONE", signal.SIGKILL),
        ("DONE", signal.SIGTERM),
    ],
)
def test_a_build_may_be_killed_anywhere(
    world: Installation, big: Path, place: str, number: int
) -> None:
    folder = write(big, "COPY big /big\nRUN --mount=type=cache,target=/c cp /big /big2; ls /big2")
    process = world.start("dockerfile", "build", "-t", "killed", "--no-cache", folder)
    assert process.stderr is not None
    for line in process.stderr:
        if place in line and (place != "DONE" or line.startswith("#2")):
            break  # "DONE" of the last step: its layer is being written

    os.kill(process.pid, number)
    process.communicate(timeout=60)

    assert process.returncode != 0
    assert nothing_is_left(world)
    assert world.hako("image", "inspect", "killed", check=False).returncode != 0


def test_two_builds_of_one_file_at_once_give_the_same(world: Installation, tmp_path: Path) -> None:
    folder = write(tmp_path, "RUN date +%N >/now\nRUN cat /now >/again")
    arguments = ("dockerfile", "build", "-t", "twin", "--timestamp", "1700000000", folder)
    builds = [world.start(*arguments) for _ in range(2)]

    results = [process.communicate(timeout=60) for process in builds]

    assert [process.returncode for process in builds] == [0, 0], results
    assert world.hako(*arguments, "-q").stdout in [out for out, _ in results]
    assert nothing_is_left(world)


def test_builds_that_share_a_cache_mount_see_what_the_other_writes(
    world: Installation, tmp_path: Path
) -> None:
    wait = "for i in 1 2 3 4 5 6 7 8 9 10; do [ -e /c/$OTHER ] && exit 0; sleep 0.3; done; exit 9"
    folder = write(
        tmp_path,
        f"ARG MINE\nARG OTHER\nRUN --mount=type=cache,id=both,target=/c echo >/c/$MINE; {wait}",
    )
    builds = [
        world.start("dockerfile", "build", "--build-arg", f"MINE={mine}", "--build-arg", f"OTHER={other}", folder)
        for mine, other in (("a", "b"), ("b", "a"))
    ]  # fmt: skip

    results = [process.communicate(timeout=60) for process in builds]

    assert [process.returncode for process in builds] == [0, 0], results
    assert nothing_is_left(world)


def test_builds_and_collections_do_not_trip_over_each_other(
    world: Installation, tmp_path: Path
) -> None:
    folder = write(
        tmp_path,
        "ARG N\nRUN --mount=type=cache,target=/c echo $N >>/c/log; cp /c/log /log\n"
        f"FROM {BASE}\nCOPY --from=0 /log /log\nRUN cat /log >/again",
    )
    for turn in range(3):
        running = [
            world.start("dockerfile", "build", "-t", f"t{n}", "--build-arg", f"N={turn % 2}{n}", folder)
            for n in range(2)
        ] + [world.start("image", "prune", "--build-cache") for _ in range(2)]  # fmt: skip

        results = [process.communicate(timeout=60) for process in running]

        assert [process.returncode for process in running] == [0] * 4, results
    for n in range(2):
        done = world.hako("container", "run", "--rm", f"t{n}", "cat", "/again")
        assert f"0{n}" in done.stdout.split()
    assert nothing_is_left(world)


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("RUN head -c 90000000 /dev/urandom >/f", 2, "RUN head -c 90000000 /dev/urandom >/f"),
        ("COPY big /1\nCOPY big /2\nCOPY big /3\nCOPY big /4", 0, "there is no room"),
        ("RUN --mount=type=cache,target=/c head -c 90000000 /dev/urandom >/c/f", 2, "RUN --mount"),
        (
            "RUN --mount=type=bind,target=/x,rw head -c 90000000 /dev/urandom >/x/f",
            2,
            "RUN --mount",
        ),
    ],
    ids=["run", "copy", "cache", "bind"],
)
def test_a_full_disk_is_told_with_the_line_and_a_way_out(
    world: Installation, big: Path, text: str, line: int, what: str
) -> None:
    done = world.hako("dockerfile", "build", "-t", "full", write(big, text), check=False)

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    error = done.stderr.partition("error: ")[2]
    assert re.search(MAKE_ROOM, error)
    if line:
        assert error.startswith(f"Dockerfile:{line}: {what}")
    assert nothing_is_left(world)
    assert world.hako("dockerfile", "build", "-q", write(big, "RUN echo 1 >/f")).returncode == 0


def test_a_disk_without_any_room_is_told(world: Installation, tmp_path: Path) -> None:
    filling = world.home / "filling"
    with filling.open("wb", buffering=0) as file:
        while (left := os.statvfs(world.home)).f_bavail:
            file.write(bytes(min(left.f_bavail * left.f_frsize, 1 << 20)))
    try:
        done = world.hako("dockerfile", "build", write(tmp_path, "RUN echo 2 >/f"), check=False)
    finally:
        filling.unlink()

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert re.search(MAKE_ROOM, done.stderr)
    assert nothing_is_left(world)
