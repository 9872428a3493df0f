"""The phases in real sandboxes, from build to build: what did not change is never opened, failures change nothing.

facts/overlay.md Rules 2-7 as the lifecycle applies them; the rules themselves are tested in `oci`.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hakobune.lifecycle.build import build
from hakobune.lifecycle.detect import detect
from hakobune.lifecycle.documents import KeptLayers
from hakobune.lifecycle.errors import BuildError, BuildpackFailedError
from hakobune.lifecycle.export import Exported, ExportRequest, export
from hakobune.lifecycle.fate import Fate
from hakobune.lifecycle.image_config import Launcher
from hakobune.lifecycle.kept import OverlayChanges, keep
from hakobune.lifecycle.restore import restore
from hakobune.oci.snapshot import Snapshot
from hakobune.progress import RecordedProgress
from hakobune.runtime.cgroups import Cgroups
from hakobune.runtime.mount import RootFs
from hakobune.runtime.room import build_sandbox
from tests.lifecycle_world import APP, World, read_catalog
from tests.small_root import make_small_root

pytestmark = pytest.mark.needs_root

INSTALLATION = f"hk{os.getpid():x}"
PROGRAMS = [
    "bash",
    "cat",
    "chmod",
    "cp",
    "dirname",
    "ln",
    "ls",
    "mkdir",
    "mkfifo",
    "mv",
    "rm",
    "sleep",
    "touch",
    "truncate",
]


@dataclass
class Result:
    exported: Exported
    kept: KeptLayers
    progress: RecordedProgress

    @property
    def said(self) -> tuple[str, ...]:
        """What the buildpacks printed."""
        return self.progress.texts("output")

    @property
    def fates(self) -> dict[str, Fate]:
        return {f.full_name: f.fate for f in self.exported.fates}


def build_over(world: World, last: Result | None = None) -> Result:
    """One build in a sandbox over what *last* kept, the builder's files and a few programs."""
    base = world.container().root
    for folder in ("layers", "workspace"):
        os.chown(base / folder, 1001, 1000)
    snapshots = open_kept(world, last)
    programs = world.folder / "programs"
    lowers = (*(d for s in snapshots.values() for d in s.lower_dirs()), base, programs)
    top = world.folder / f"top{world.builds}"
    rootfs = RootFs(lowers=lowers, top=top, redirect_dir=True)
    progress = RecordedProgress()
    kept = last.kept if last else None
    analyzed = world.analyze(progress)
    with build_sandbox(
        rootfs, installation=INSTALLATION, run=world.folder / "run", network=False
    ) as environment:
        context = world.context(environment, analyzed)
        catalog = read_catalog(environment)
        detected = detect(context, order=world.groups(), catalog=catalog, progress=progress)
        restored = restore(
            context,
            world.store,
            group=detected.group,
            previous=analyzed.previous,
            metadata=analyzed.metadata,
            kept=kept,
            progress=progress,
        )
        built = build(context, detected=detected, catalog=catalog, progress=progress)
        exported = export(
            context,
            world.store,
            OverlayChanges(top / "up", snapshots),
            analyzed=analyzed,
            built=built,
            kept=kept,
            restored=restored,
            request=ExportRequest(
                launcher=Launcher(binary=world.folder / "launcher", version="0.1.0"), names=[APP]
            ),
            progress=progress,
        )
    new = keep(exported, context, world.store, upper=top / "up", lowers=lowers, snapshots=snapshots)
    return Result(exported, new, progress)


def open_kept(world: World, last: Result | None) -> dict[str, Snapshot]:
    snapshots: dict[str, Snapshot] = {}
    for _, _, layer in last.kept.layers() if last else ():
        snapshot = world.store.open_snapshot(layer.snapshot)
        assert snapshot is not None
        snapshots[layer.snapshot] = snapshot
    return snapshots


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World.at(tmp_path)
    world.files["/workspace/main.py"] = "print(1)"
    make_small_root(tmp_path / "programs", programs=PROGRAMS)
    yield world
    Cgroups.open(INSTALLATION).remove_all()


FIRST = "mkdir -p $L/sub; echo one > $L/file; echo two > $L/sub/file"


def a_layer(*types: str, first: str = FIRST, again: str = "") -> str:
    """A build script that makes the layer `l` unless it is there, and does *again* if it is."""
    flags = "".join(f"{t} = true\\n" for t in types)
    return f"""
L=$CNB_LAYERS_DIR/l
if [ -d $L ]; then
  cat $L/file; {again or "true"}
else
  {first}
fi
printf '[types]\\n{flags}' > $L.toml
"""


def snapshot_of(world: World, result: Result) -> Snapshot:
    ((_, _, layer),) = result.kept.layers()
    snapshot = world.store.open_snapshot(layer.snapshot)
    assert snapshot is not None
    return snapshot


def test_an_unchanged_launch_layer_is_reused_without_opening_a_file(world: World) -> None:
    world.add_buildpack("a", build=a_layer("launch", "cache"))
    first = build_over(world)
    # Whoever reads this file from now on gets another diff_id.
    (snapshot_of(world, first).tree / "layers/a/l/sub/file").write_text("TWO\n")

    second = build_over(world, first)

    assert second.fates == {"a:l": Fate.KEEP}
    assert second.exported.image.digest == first.exported.image.digest
    assert second.kept == first.kept


@pytest.mark.parametrize(
    "again",
    [
        "touch $L/file",
        "echo one > $L/file",
        "chmod -R u+w $L",
        "mv $L/sub $L/aside; mv $L/aside $L/sub",
        "echo x > $L/tmp; rm $L/tmp",
        "cp $L/file $L/new; mv $L/new $L/file",
    ],
)
def test_a_launch_layer_that_was_written_to_with_the_same_result_is_unchanged(
    world: World, again: str
) -> None:
    world.add_buildpack("a", build=a_layer("launch", "cache", again=again))
    first = build_over(world)

    second = build_over(world, first)

    assert second.fates == {"a:l": Fate.KEEP}
    assert second.exported.image.digest == first.exported.image.digest
    assert second.kept == first.kept


def test_a_changed_launch_layer_is_exported_and_found_by_the_next_build(world: World) -> None:
    world.add_buildpack("a", build=a_layer("launch", "cache", again="echo more >> $L/file"))
    first = build_over(world)

    second = build_over(world, first)
    third = build_over(world, second)

    assert second.fates == {"a:l": Fate.ADD}
    assert second.exported.image.digest != first.exported.image.digest
    assert third.said == ("one", "more")


def test_a_removed_file_stays_removed(world: World) -> None:
    world.add_buildpack("a", build=a_layer("launch", "cache", again="rm -rf $L/sub; ls $L"))
    first = build_over(world)

    second = build_over(world, first)
    third = build_over(world, second)

    assert second.fates == {"a:l": Fate.ADD}
    assert third.said == ("one", "file")
    assert third.fates == {"a:l": Fate.KEEP}
    assert third.exported.image.digest == second.exported.image.digest


def test_a_layer_made_anew_replaces_the_kept_one(world: World) -> None:
    again = "rm -rf $L; mkdir $L; echo anew > $L/file"
    world.add_buildpack("a", build=a_layer("launch", "cache", again=again))
    first = build_over(world)

    second = build_over(world, first)
    third = build_over(world, second)

    assert second.fates == {"a:l": Fate.ADD}
    assert third.said == ("anew",)
    assert third.exported.image.digest == second.exported.image.digest


def test_a_cache_only_layer_is_kept_and_never_in_the_image(world: World) -> None:
    world.add_buildpack("a", build=a_layer("cache", again="echo more >> $L/file"))
    first = build_over(world)

    second = build_over(world, first)
    third = build_over(world, second)

    assert second.fates == {"a:l": Fate.ADD}
    assert third.said == ("one", "more")
    assert first.exported.image.digest == third.exported.image.digest


def test_an_unchanged_cache_only_layer_keeps_its_snapshot(world: World) -> None:
    world.add_buildpack("a", build=a_layer("cache"))
    first = build_over(world)

    second = build_over(world, first)

    assert second.fates == {"a:l": Fate.KEEP}
    assert second.kept == first.kept


def test_a_cache_only_layer_keeps_its_times(world: World) -> None:
    world.add_buildpack(
        "a", build=a_layer("cache", first="mkdir -p $L; touch -d @1234567890.5 $L/file")
    )
    first = build_over(world)

    file = snapshot_of(world, first).tree / "layers/a/l/file"

    assert file.stat().st_mtime_ns == 1234567890_500_000_000


def test_a_layer_that_becomes_launched_is_exported(world: World) -> None:
    folder = world.add_buildpack("a", build=a_layer("cache"))
    first = build_over(world)
    world.scripts[f"{folder}/bin/build"] = a_layer("launch", "cache")

    second = build_over(world, first)
    third = build_over(world, second)

    assert len(second.exported.image.diff_ids) == len(first.exported.image.diff_ids) + 1
    assert third.fates == {"a:l": Fate.KEEP}
    assert third.exported.image.digest == second.exported.image.digest


def test_a_layer_whose_toml_went_away_is_gone_in_the_next_build(world: World) -> None:
    folder = world.add_buildpack("a", build=a_layer("launch", "cache"))
    first = build_over(world)
    world.scripts[f"{folder}/bin/build"] = "rm $CNB_LAYERS_DIR/l.toml"

    second = build_over(world, first)

    assert second.fates == {"a:l": Fate.DROP}
    assert second.kept.buildpacks == ()


def test_a_layer_whose_types_were_not_said_again_is_ignored_and_dropped(world: World) -> None:
    folder = world.add_buildpack("a", build=a_layer("launch", "cache"))
    first = build_over(world)
    world.scripts[f"{folder}/bin/build"] = "cat $CNB_LAYERS_DIR/l/file"

    second = build_over(world, first)

    assert second.said == ("one",)
    assert second.fates == {"a:l": Fate.DROP}
    assert second.exported.layers == ()


def test_a_failed_build_leaves_everything_that_was_kept(world: World) -> None:
    folder = world.add_buildpack("a", build=a_layer("launch", "cache"))
    first = build_over(world)
    world.scripts[f"{folder}/bin/build"] = "rm -rf $CNB_LAYERS_DIR/l; echo 'Error: no luck'; exit 1"

    with pytest.raises(BuildpackFailedError, match="no luck"):
        build_over(world, first)

    world.scripts[f"{folder}/bin/build"] = a_layer("launch", "cache")
    third = build_over(world, first)
    assert third.said == ("one",)
    assert third.exported.image.digest == first.exported.image.digest


def test_launch_layers_are_snapshots_so_that_the_image_runs_without_unpacking_them(
    world: World,
) -> None:
    world.add_buildpack("a", build=a_layer("launch"))

    image = build_over(world).exported.image

    layer = image.diff_ids[1]
    snapshot = world.store.open_snapshot(f"d-{layer.hex}")
    assert snapshot is not None
    tree = snapshot.tree / "layers/a/l"
    assert (tree / "file").read_text() == "one\n"
    assert (tree / "file").stat().st_uid == 1001
    assert (tree / "file").stat().st_mtime == 315532801


def test_a_cache_layer_linked_into_a_launch_layer_survives(world: World) -> None:
    build_script = """
C=$CNB_LAYERS_DIR/cache; L=$CNB_LAYERS_DIR/l
if [ -d $C ]; then cat $C/file; rm -rf $L; fi
mkdir -p $C $L; [ -f $C/file ] || echo data > $C/file
ln $C/file $L/file
printf '[types]\\ncache=true\\n' > $C.toml
printf '[types]\\nlaunch=true\\ncache=true\\n' > $L.toml
"""
    world.add_buildpack("a", build=build_script)
    first = build_over(world)

    second = build_over(world, first)

    assert second.said == ("data",)
    assert second.fates["a:l"] is Fate.KEEP
    assert second.exported.image.digest == first.exported.image.digest


def test_files_that_only_their_owner_may_read_are_exported(world: World) -> None:
    secret = (
        "mkdir -p $L/closed; echo s > $L/closed/file; chmod 600 $L/closed/file; chmod 700 $L/closed"
    )
    world.add_buildpack("a", build=a_layer("launch", "cache", first=f"{FIRST}; {secret}"))
    first = build_over(world)

    second = build_over(world, first)

    assert second.fates == {"a:l": Fate.KEEP}
    assert second.exported.image.digest == first.exported.image.digest


def test_what_a_buildpack_leaves_running_ends_with_the_build(world: World) -> None:
    world.add_buildpack("a", build="sleep 1000 & echo started")

    assert build_over(world).said == ("started",)


def test_links_to_folders_among_environment_files_are_skipped(world: World) -> None:
    first = "mkdir -p $L/env; echo -n x > $L/env/V; ln -s /etc $L/env/W; ln -s loop $L/env/loop; mkfifo $L/env/pipe"
    world.add_buildpack("a", build=a_layer("build", first=first))
    world.add_buildpack("b", build='echo "$V${W+bad}${loop+bad}${pipe+bad}"')

    assert build_over(world).said == ("x",)


@pytest.mark.parametrize(
    ("script", "seen"),
    [
        ("truncate -s 100G $CNB_LAYERS_DIR/x.toml", "too large"),
        ("rm -rf $CNB_LAYERS_DIR/../config; touch $CNB_LAYERS_DIR/../config", "config"),
    ],
)
def test_hostile_results_are_error_52(world: World, script: str, seen: str) -> None:
    world.add_buildpack("a", build=script)

    with pytest.raises(BuildError, match=seen) as caught:
        build_over(world)

    assert caught.value.exit_code == 52


def test_links_that_lead_out_of_the_container_show_nothing_of_the_machine(world: World) -> None:
    outside = world.folder / "outside.toml"
    outside.write_text("[types]\nlaunch = true\n")
    world.add_buildpack(
        "a",
        build=f"ln -s {outside} $CNB_LAYERS_DIR/x.toml; ln -s ../../../../../..{outside} $CNB_LAYERS_DIR/y.toml",
    )

    assert build_over(world).exported.layers == ()
