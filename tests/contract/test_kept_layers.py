"""What a build's top becomes: facts/overlay.md Rules 2-6 and 10, with fake tools (Rule 12) on a real overlay."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from hakobune.oci.commit_point import CommitPoint
from hakobune.oci.merged import XATTR_SPACES
from hakobune.oci.seal import SEALED_NS
from hakobune.oci.settle import Outcome
from hakobune.oci.snapshot import DEEPEST_STACK, Snapshot
from hakobune.oci.store import Store
from tests.layer_bench import OWNER, Bench, Build, files_in
from tests.mounts import overlay

pytestmark = pytest.mark.needs_root

VENV, CACHE, MODULES = "layers/py/venv", "layers/py/cache", "layers/node/modules"
BOTH = {VENV: True, CACHE: False}
FIRST = """
mkdir -p layers/py/venv/bin layers/py/venv/lib/deep layers/py/cache/wheels layers/node
echo run > layers/py/venv/bin/run; chmod 755 layers/py/venv/bin/run
ln -s run layers/py/venv/bin/link
for i in 1 2 3 4 5 6 7 8 9; do echo $i > layers/py/venv/lib/deep/$i; echo wheel $i > layers/py/cache/wheels/$i; done
head -c 100000 /dev/urandom > layers/py/venv/lib/big
head -c 100000 /dev/urandom > layers/py/cache/big
touch -d '2026-01-02 03:04:05.678901234' layers/py/cache/wheels/* layers/py/cache/big
"""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Store(tmp_path / "home") as store:
        yield Bench(store, tmp_path)


@pytest.fixture
def kept(bench: Bench) -> dict[str, Snapshot]:
    return bench.build(FIRST, {}, BOTH).keep()


def _attributes(directory: Path) -> set[str]:
    return {
        name
        for path in [directory, *directory.rglob("*")]
        for name in os.listxattr(path, follow_symlinks=False)
        if name.startswith(XATTR_SPACES)
    }


# What is no change (Rule 2)


@pytest.mark.parametrize(
    "tool",
    [
        pytest.param("true", id="nothing"),
        pytest.param("cat layers/py/venv/bin/run layers/py/cache/wheels/* > workspace/out", id="reading"),
        pytest.param("touch -a layers/py/venv/bin/run", id="touch -a"),
        pytest.param("touch layers/py/venv/lib/deep/*", id="utime"),
        pytest.param("chmod -R u+rwX layers/py/venv", id="chmod -R to the same modes"),
        pytest.param(f"chown -R {OWNER.uid}:{OWNER.gid} layers/py/venv", id="chown to self"),
        pytest.param("mv layers/py/venv/lib layers/py/venv/x; mv layers/py/venv/x layers/py/venv/lib", id="rename there and back"),
        pytest.param("mv layers/py/venv/lib layers/py/cache/x; mv layers/py/cache/x layers/py/venv/lib", id="rename to another layer and back"),
        pytest.param("cd layers/py/venv/lib/deep; for i in *; do cp $i x; mv x $i; done", id="rewrite with equal bytes"),
        pytest.param("cd layers/py/venv/lib/deep; for i in *; do cp -p $i x; mv x $i; done", id="equal bytes and restored times"),
        pytest.param("cd layers/py/venv/bin; ln -sf run link", id="equal symbolic link"),
        pytest.param("cp -p layers/py/venv/bin/run x; rm -r layers/py/venv/bin; mkdir layers/py/venv/bin; mv x layers/py/venv/bin/run; ln -s run layers/py/venv/bin/link", id="opaque directory that hides nothing"),
        pytest.param("mkdir layers/py/venv/tmp; touch layers/py/venv/tmp/x; rm -r layers/py/venv/tmp", id="a temporary directory"),
        pytest.param("cd layers/py/venv/lib/deep; ln 1 x; ln -f x 1; rm x", id="a second name for a while"),
        pytest.param("$PYTHON -c \"import socket; socket.socket(socket.AF_UNIX).bind('layers/py/venv/sock')\"", id="a socket"),
    ],
)  # fmt: skip
def test_a_tool_that_changes_nothing_leaves_the_layers_unchanged(
    bench: Bench, kept: dict[str, Snapshot], tool: str
) -> None:
    build = bench.build(tool, kept, BOTH)

    assert {path: s.outcome for path, s in build.settled.items()} == {
        VENV: Outcome.UNCHANGED,
        CACHE: Outcome.UNCHANGED,
    }
    assert build.keep() == kept


@pytest.mark.parametrize(
    ("tool", "reason"),
    [
        ("echo RUN > layers/py/venv/bin/run", "/layers/py/venv/bin/run has other bytes"),
        ("echo more >> layers/py/venv/bin/run", "/layers/py/venv/bin/run has 9 bytes instead of 4"),
        ("chmod 700 layers/py/venv/bin/run", "/layers/py/venv/bin/run has the mode 700 instead of 755"),
        ("chmod 700 layers/py/venv", "/layers/py/venv has the mode 700 instead of 755"),
        ("rm layers/py/venv/bin/run", "/layers/py/venv/bin/run was removed"),
        ("rm -r layers/py/venv/bin; mkdir layers/py/venv/bin", "/layers/py/venv/bin/link was removed"),
        ("ln -sf /run layers/py/venv/bin/link", "/layers/py/venv/bin/link leads elsewhere"),
        ("rm layers/py/venv/bin/link; mkdir layers/py/venv/bin/link", "/layers/py/venv/bin/link is of another kind"),
        ("echo > layers/py/venv/new", "/layers/py/venv/new is new"),
        ("mkdir layers/py/venv/empty", "/layers/py/venv/empty is new"),
        ("mv layers/py/venv/lib layers/py/venv/a", "/layers/py/venv/a is new"),
    ],
)  # fmt: skip
def test_a_real_change_is_found_and_named(
    bench: Bench, kept: dict[str, Snapshot], tool: str, reason: str
) -> None:
    build = bench.build(tool, kept, BOTH)

    assert build.settled[VENV].outcome == Outcome.CHANGED
    assert build.settled[VENV].reason == reason
    assert build.settled[CACHE].outcome == Outcome.UNCHANGED


def test_a_directory_in_place_of_another_is_a_move(bench: Bench, kept: dict[str, Snapshot]) -> None:
    script = "rm -r layers/py/venv/bin; mv layers/py/venv/lib layers/py/venv/bin"

    build = bench.build(script, kept, BOTH)

    assert build.settled[VENV].reason == "/layers/py/venv/bin was moved there from lib"


def test_what_a_removed_and_remade_directory_hides_deep_below_is_a_removal(
    bench: Bench, kept: dict[str, Snapshot]
) -> None:
    script = (
        "cp -r layers/py/venv/lib x; rm -r layers/py/venv/lib; rm x/deep/5; mv x layers/py/venv/lib"
    )

    build = bench.build(script, kept, BOTH)

    assert build.settled[VENV].reason == "/layers/py/venv/lib/deep/5 was removed"
    assert bench.look(build.keep().values(), VENV) == build.shown[VENV]


@pytest.mark.parametrize(
    "script", ["rm -r layers/py/venv", "rm -r layers/py", "mv layers/py layers/gone"]
)
def test_a_removed_layer_is_removed(bench: Bench, kept: dict[str, Snapshot], script: str) -> None:
    build = bench.build(script, kept, BOTH)

    assert build.settled[VENV].outcome == Outcome.REMOVED
    assert VENV not in build.keep()


def test_a_layer_that_was_never_made_is_removed(bench: Bench) -> None:
    build = bench.build("true", {}, BOTH)

    assert build.settled[VENV].outcome == Outcome.REMOVED
    assert build.keep() == {}


# How much is compared (Rules 3 and 4)


def test_more_than_a_quarter_of_a_launch_layer_rewritten_is_to_be_hashed_instead(
    bench: Bench,
) -> None:
    make = "mkdir -p layers/py/venv; for i in $(seq 400); do echo $i > layers/py/venv/$i; done"
    kept = bench.build(make, {}, {VENV: True}).keep()

    some = bench.build("touch layers/py/venv/1*", kept, {VENV: True})
    many = bench.build("touch layers/py/venv/*", kept, {VENV: True})

    assert some.settled[VENV].outcome == Outcome.UNSURE  # 111 of 400
    assert many.settled[VENV].reason == "400 of its files were rewritten"
    assert many.keep() == kept


def test_one_inode_under_several_names_is_compared_once(bench: Bench) -> None:
    make = "mkdir -p layers/py/venv; cd layers/py/venv; echo x > 0; for i in $(seq 400); do ln 0 $i; done"
    kept = bench.build(make, {}, {VENV: True}).keep()
    again = "rm -r layers/py/venv; " + make

    build = bench.build(again, kept, {VENV: True})

    assert build.settled[VENV].outcome == Outcome.UNCHANGED


def test_a_cache_only_layer_is_compared_by_its_times(
    bench: Bench, kept: dict[str, Snapshot]
) -> None:
    copied_up = bench.build("chmod -R u+rwX layers/py/cache", kept, BOTH)
    touched = bench.build("touch layers/py/cache/wheels/3", kept, BOTH)

    assert copied_up.settled[CACHE].outcome == Outcome.UNCHANGED
    assert touched.settled[CACHE].outcome == Outcome.CHANGED
    assert touched.settled[CACHE].reason == "/layers/py/cache/wheels/3 has another time"


# What becomes of a change (Rules 5, 6, 10)

CHANGES = [
    "echo new > layers/py/venv/new",
    "echo RUN > layers/py/venv/bin/run",
    "rm layers/py/venv/bin/run layers/py/venv/lib/deep/3",
    "rm -r layers/py/venv/lib; mkdir layers/py/venv/lib; echo other > layers/py/venv/lib/file",
    "rm -r layers/py/venv/lib; echo file > layers/py/venv/lib",
    "rm layers/py/venv/bin/run; mkdir layers/py/venv/bin/run; echo x > layers/py/venv/bin/run/x",
    "rm -r layers/py/venv; mkdir layers/py/venv; echo fresh > layers/py/venv/only",
    "chmod 700 layers/py/venv/lib layers/py/venv/bin/run",
    "mv layers/py/venv/lib layers/py/venv/moved",
    "mv layers/py/venv/lib layers/py/venv/moved; rm layers/py/venv/moved/deep/1; echo 1 > layers/py/venv/moved/deep/11",
    "mv layers/py/venv/lib layers/py/venv/a; mv layers/py/venv/a/deep layers/py/venv/b",
    "mv layers/py/venv/lib/deep layers/py/venv/d; mkdir layers/py/venv/lib/deep; echo x > layers/py/venv/lib/deep/x",
    "mv layers/py/venv/lib layers/py/cache/moved",
    "mv layers/py/cache/wheels layers/py/venv/wheels; rm layers/py/venv/wheels/1",
    "mv usr layers/py/venv/usr",
    "cp -al layers/py/venv/lib layers/py/venv/linked",
    "cp -r layers/py/venv x; rm -r layers/py/venv; mv x layers/py/venv; echo new > layers/py/venv/new",
    "mkdir -p layers/py/venv/a/b/c; touch layers/py/venv/a/b/c/d; ln -s nowhere layers/py/venv/a/l; mkfifo layers/py/venv/fifo",
]


@pytest.mark.parametrize("script", CHANGES)
def test_the_new_snapshots_show_what_the_build_showed(
    bench: Bench, kept: dict[str, Snapshot], script: str
) -> None:
    build = bench.build(script, kept, BOTH)

    made = build.keep()

    assert {path: bench.look([made[path]], path) for path in made} == build.shown


@pytest.mark.parametrize("script", CHANGES)
def test_the_old_snapshots_stay_as_they_were(
    bench: Bench, kept: dict[str, Snapshot], script: str
) -> None:
    before = {path: bench.look([kept[path]], path) for path in kept}

    bench.build(script, kept, BOTH).keep()

    assert {path: bench.look([kept[path]], path) for path in kept} == before
    assert bench.base.joinpath("usr/tool").stat().st_mtime_ns != SEALED_NS


@pytest.mark.parametrize("script", CHANGES)
def test_no_redirect_and_no_overlay_attribute_but_opaque_leaves_a_top(
    bench: Bench, kept: dict[str, Snapshot], script: str
) -> None:
    made = bench.build(script, kept, BOTH).keep()

    for snapshot in made.values():
        assert _attributes(snapshot.tree) <= {"trusted.overlay.opaque"}


@pytest.mark.parametrize("script", CHANGES)
def test_a_launch_layer_is_sealed_to_what_its_tar_says(
    bench: Bench, kept: dict[str, Snapshot], script: str
) -> None:
    made = bench.build(script, kept, BOTH).keep()

    whiteouts_aside = [p for p in made[VENV].tree.rglob("*") if not p.is_char_device()]
    for path in whiteouts_aside:
        status = path.lstat()
        assert (status.st_mtime_ns, status.st_uid, status.st_gid) == (SEALED_NS, 1001, 1000), path


def test_only_what_differs_is_stored_over_what_was_kept(
    bench: Bench, kept: dict[str, Snapshot]
) -> None:
    script = "touch layers/py/venv/lib/deep/* layers/py/venv/lib/big; echo new > layers/py/venv/new"

    made = bench.build(script, kept, BOTH).keep()

    assert files_in(made[VENV]) == ["layers/py/venv/new"]
    assert made[VENV].below == kept[VENV].levels
    assert made[VENV].lower_dirs() == (made[VENV].tree, kept[VENV].tree)


def test_equal_copies_that_do_not_show_through_become_links_to_what_is_kept(
    bench: Bench, kept: dict[str, Snapshot]
) -> None:
    script = "cp -r layers/py/venv x; rm -r layers/py/venv; mv x layers/py/venv; rm -r layers/py/venv/bin"

    made = bench.build(script, kept, BOTH).keep()

    big = "layers/py/venv/lib/big"
    assert made[VENV].below == ()
    assert (made[VENV].tree / big).samefile(kept[VENV].tree / big)


def test_a_file_linked_from_the_cache_into_a_launch_layer_is_stored_once(
    bench: Bench, kept: dict[str, Snapshot]
) -> None:
    made = bench.build("ln layers/py/cache/big layers/py/venv/fromcache", kept, BOTH).keep()

    linked = made[VENV].tree / "layers/py/venv/fromcache"
    assert linked.samefile(kept[CACHE].tree / "layers/py/cache/big")
    assert linked.stat().st_mtime_ns == SEALED_NS  # an inode of both is sealed
    assert made[CACHE] == kept[CACHE]


def test_a_cache_layer_and_a_launch_layer_of_a_first_build_share_their_inodes(bench: Bench) -> None:
    script = "mkdir -p layers/py/venv layers/py/cache; echo x > layers/py/cache/x; ln layers/py/cache/x layers/py/venv/x"

    made = bench.build(script, {}, BOTH).keep()

    assert (made[VENV].tree / VENV / "x").samefile(made[CACHE].tree / CACHE / "x")


def test_a_layer_that_is_not_launched_keeps_its_times_to_the_nanosecond(
    bench: Bench, kept: dict[str, Snapshot]
) -> None:
    times = {p.name: p.stat().st_mtime_ns for p in (kept[CACHE].tree / CACHE / "wheels").iterdir()}

    assert set(times.values()) == {1767323045_678901234 + _zone_ns()}


def _zone_ns() -> int:
    return time.timezone * 10**9


def test_go_touching_its_whole_cache_stores_nothing_and_moves_the_times(
    bench: Bench, kept: dict[str, Snapshot]
) -> None:
    build = bench.build("touch -d 2026-06-01T00:00:00Z layers/py/cache/wheels/*", kept, BOTH)

    made = build.keep()

    assert build.settled[CACHE].outcome == Outcome.CHANGED
    assert made[CACHE] == kept[CACHE]
    wheels = (kept[CACHE].tree / CACHE / "wheels").iterdir()
    assert {p.stat().st_mtime for p in wheels} == {1780272000.0}


def test_a_changed_cache_file_is_stored_whatever_its_time_says_later(
    bench: Bench, kept: dict[str, Snapshot]
) -> None:
    made = bench.build("echo WHEEL 3 > layers/py/cache/wheels/3", kept, BOTH).keep()

    assert files_in(made[CACHE]) == ["layers/py/cache/wheels/3"]
    assert bench.look([made[CACHE]], CACHE)["wheels/3"][1] == b"WHEEL 3\n"
    # and the next build finds it unchanged
    assert bench.build("true", made, BOTH).settled[CACHE].outcome == Outcome.UNCHANGED


def test_a_directory_time_of_a_cache_layer_is_the_builds(
    bench: Bench, kept: dict[str, Snapshot]
) -> None:
    script = "touch layers/py/cache/wheels/1 layers/py/cache/new; touch -d @1000 layers/py/cache"

    made = bench.build(script, kept, BOTH).keep()

    assert (made[CACHE].tree / CACHE).stat().st_mtime == 1000


def test_attributes_of_a_launch_layer_go_and_a_setuid_bit_stays(bench: Bench) -> None:
    script = """
    mkdir -p layers/py/venv; echo x > layers/py/venv/tool; chmod 4755 layers/py/venv/tool
    $PYTHON -c "import os; os.setxattr('layers/py/venv/tool', 'user.note', b'x')"
    """

    made = bench.build(script, {}, {VENV: True}).keep()

    tool = made[VENV].tree / VENV / "tool"
    assert os.listxattr(tool) == []
    assert oct(tool.stat().st_mode) == "0o104755"


def test_a_cache_layer_that_becomes_launched_is_sealed_whole(
    bench: Bench, kept: dict[str, Snapshot]
) -> None:
    launch = {CACHE: True}

    build = bench.build("true", {CACHE: kept[CACHE]}, launch)
    made = build.keep()
    again = bench.build("echo > layers/py/cache/new", {CACHE: kept[CACHE]}, launch).keep()

    assert made[CACHE].key.startswith("d-") or build.settled[CACHE].outcome == Outcome.UNCHANGED
    assert again[CACHE].below == ()
    assert {p.lstat().st_mtime_ns for p in again[CACHE].tree.rglob("*")} == {SEALED_NS}


def test_a_stack_is_merged_before_it_is_too_deep(bench: Bench, kept: dict[str, Snapshot]) -> None:
    depths = []
    for i in range(DEEPEST_STACK + 2):
        build = bench.build(
            f"echo {i} > layers/py/venv/change{i}; rm -f layers/py/venv/change{i - 2}", kept, BOTH
        )
        kept = build.keep()
        depths.append(len(kept[VENV].lower_dirs()))
        assert bench.look([kept[VENV]], VENV) == build.shown[VENV]

    assert depths == [2, 3, 4, 5, 6, 7, 8, 1, 2, 3]


def test_a_stack_is_merged_when_its_changes_outweigh_its_base(
    bench: Bench, kept: dict[str, Snapshot]
) -> None:
    build = bench.build("head -c 200000 /dev/urandom > layers/py/venv/heavy", kept, BOTH)

    made = build.keep()

    assert made[VENV].below == ()
    assert bench.look([made[VENV]], VENV) == build.shown[VENV]
    big = f"{VENV}/lib/big"
    assert (made[VENV].tree / big).samefile(kept[VENV].tree / big)


def test_two_layers_of_two_buildpacks_are_kept_side_by_side(
    bench: Bench, kept: dict[str, Snapshot]
) -> None:
    layers = {**BOTH, MODULES: True}
    script = "mkdir -p layers/node/modules/a; echo m > layers/node/modules/a/m"

    made = bench.build(script, kept, layers).keep()
    after = bench.build("true", made, layers)

    assert {s.outcome for s in after.settled.values()} == {Outcome.UNCHANGED}
    assert list(after.shown[MODULES]) == ["a", "a/m"]


def test_the_directories_above_a_layer_are_as_its_tar_has_them(
    bench: Bench, kept: dict[str, Snapshot]
) -> None:
    for name in ("layers", "layers/py"):
        status = (kept[VENV].tree / name).stat()
        assert oct(status.st_mode) == "0o40755"
        assert (status.st_uid, status.st_gid, status.st_mtime_ns) == (1001, 1000, SEALED_NS)


def test_a_layer_that_another_app_has_already_is_shared(
    bench: Bench, kept: dict[str, Snapshot]
) -> None:
    script = "mkdir -p layers/py/venv; echo same > layers/py/venv/same"

    one = bench.build(script, {}, {VENV: True}).keep()
    other = bench.build(script, {}, {VENV: True}).keep()

    assert one == other


def test_a_mounted_layer_stays_whole_whatever_the_collector_does(
    bench: Bench, kept: dict[str, Snapshot]
) -> None:
    top = bench.folder / "held"
    with (
        bench.store.hold(kept.values()),
        overlay([*kept[VENV].lower_dirs(), bench.base], top) as merged,
    ):
        bench.store.close()
        collected = bench.store.collect()

        assert collected.held == 2
        assert (merged / VENV / "bin/run").read_text() == "run\n"
        assert len(list((merged / VENV / "lib/deep").iterdir())) == 9
    assert len(bench.store.collect().snapshots) == 2


# Killed


@pytest.mark.parametrize(
    ("point", "times"),
    [(CommitPoint.SNAPSHOT_STARTED, n) for n in (1, 2)]
    + [(CommitPoint.SNAPSHOT_FILLED, n) for n in (1, 2)]
    + [(CommitPoint.SNAPSHOT_PUBLISHED, n) for n in (1, 2)],
)
def test_a_build_killed_while_it_keeps_its_layers_leaves_the_old_ones_whole(
    bench: Bench, kept: dict[str, Snapshot], point: CommitPoint, times: int
) -> None:
    bench.store.set_root("builds", "app", [snapshot.key for snapshot in kept.values()])
    before = {path: bench.look([kept[path]], path) for path in kept}
    build = bench.build("echo 1 > layers/py/venv/new; echo 1 > layers/py/cache/new", kept, BOTH)

    child = os.fork()
    if child == 0:
        _keep_until(build, point, times)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL

    bench.store.close()
    bench.store.collect()
    assert {path: bench.look([kept[path]], path) for path in kept} == before
    assert bench.store.verify() == ()
    keys = [p.name for p in (bench.store.home / "snapshots").iterdir() if p.name[0] != "."]
    assert sorted(keys) == sorted(snapshot.key for snapshot in kept.values())
    assert list((bench.store.home / "snapshots/.new").iterdir()) == []


def _keep_until(build: Build, point: CommitPoint, times: int) -> NoReturn:
    """Keep the layers in this process, which dies at the commit point."""
    left = times

    def reached(now: CommitPoint) -> None:
        nonlocal left
        left -= now == point
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        build.bench.store = Store(build.bench.store.home, reached=reached)
        build.keep()
    finally:
        os._exit(1)
