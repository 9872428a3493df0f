"""The phases of the lifecycle in one sandbox, as a transaction (design: "The life of a build").

Until the record is written, in one rename, the last image, caches and kept layers are what they were: a
build that fails or is killed leaves folders that the next build of the image removes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Final

import msgspec

from hakobune.buildpack.environment import inherit
from hakobune.buildpack.order import SystemBuildpacks
from hakobune.builds.added_buildpacks import stage_buildpacks
from hakobune.builds.build import glance_at
from hakobune.builds.build_plan import BuildPlan, make_plan
from hakobune.builds.host_environment import BUNDLE_PATH, bundle_variables, find_bundle, proxies
from hakobune.builds.record import (
    BuildFolder,
    BuildRecord,
    differences,
    inputs_digest,
)
from hakobune.builds.request import (
    BuildRequest,
    BuildResult,
    World,
    find_last,
    reference_of,
    reused,
)
from hakobune.builds.source import Source
from hakobune.builds.source_copy import SourceCopy, copy_source
from hakobune.distribution.transfer import find_local
from hakobune.lifecycle.analyze import Analyzed, analyze, write_analyzed
from hakobune.lifecycle.detect import Detected, detect
from hakobune.lifecycle.documents import KeptLayers, decode_kept_layers, encode_kept_layers
from hakobune.lifecycle.environment import BuildContext, BuildEnvironment
from hakobune.oci.manifest import Image
from hakobune.oci.snapshot import Snapshot, stacked_dirs
from hakobune.progress import Progress
from hakobune.runtime.mount import RootFs
from hakobune.runtime.room import build_sandbox

# What follows detection is imported while detection runs.
if TYPE_CHECKING:
    from hakobune.lifecycle.export import Exported

EXEC_ENV: Final = "production"
ROOTS: Final = "builds"


def run_build(
    request: BuildRequest,
    source: Source,
    folder: BuildFolder,
    record: BuildRecord | None,
    world: World,
    progress: Progress,
    *,
    looks_same: bool,
) -> BuildResult:
    """Build, for the holder of the folder's lock; or give the last image if its inputs turn out to be the same.

    Args:
        looks_same: `glance_at` sees what it saw when *record* was written.

    Raises:
        HakoError: see `builds.build.build`.
    """
    plan = make_plan(request, source, world, progress, looks_same=looks_same)
    copy = copy_source(
        source,
        folder.new_source(),
        last=folder.source_of(record),
        uid=plan.builder.uid,
        gid=plan.builder.gid,
    )
    for note in copy.notes:
        progress.note(note, warning=True)
    transaction = _Transaction(
        request, source, plan, folder, copy, record, world, progress, looks_same
    )
    is_same = record is not None and record.inputs == inputs_digest(plan.inputs(copy.digest))
    if record is not None and is_same and request.may_reuse:
        image = find_last(request, record, world.store)
        if image is not None:
            transaction.note_glance(record)
            return reused(request, image, progress)
    _tell_source(request, source, copy, record, plan, progress)
    return transaction.run()


def _tell_source(
    request: BuildRequest,
    source: Source,
    copy: SourceCopy,
    record: BuildRecord | None,
    plan: BuildPlan,
    progress: Progress,
) -> None:
    """One line: what is built, or what has changed since the last build."""
    if record is None:
        left_out = (
            f" ({source.rules.origin} leaves out {len(copy.left_out)})" if copy.left_out else ""
        )
        progress.step(
            f"{source.root}: {copy.files} file{'s' * (copy.files != 1)}, {copy.size_bytes / 1000:.1f} KB{left_out}"
        )
        return
    changed = [n for n in differences(record.parts, plan.inputs(copy.digest)) if n != "source"]
    if copy.changed:
        more = f" and {len(copy.changed) - 3} more" if len(copy.changed) > 3 else ""
        changed.append(", ".join(copy.changed[:3]) + more)
    if changed:
        progress.step(f"changed since the last build: {'; '.join(changed)}")
    elif request.rebuild:
        progress.step("nothing has changed; built again because of --rebuild")


class _Transaction(msgspec.Struct, frozen=True):
    """One run of the phases."""

    request: BuildRequest
    source: Source
    plan: BuildPlan
    folder: BuildFolder
    copy: SourceCopy
    record: BuildRecord | None
    world: World
    progress: Progress
    looks_same: bool

    def run(self) -> BuildResult:
        store, settings = self.world.store, self.world.settings
        kept, snapshots = self._kept()
        before = find_local(store, self.request.name, self.request.platform)
        with ExitStack() as undo:
            builder_snapshots, hold = store.hold_image(self.plan.builder.image)
            undo.callback(hold.close)
            undo.callback(store.hold(snapshots.values()).close)
            top = undo.enter_context(self.folder.scratch("top"))
            lowers = (
                *(d for s in snapshots.values() for d in s.lower_dirs()),
                *undo.enter_context(self._added()),
                self.copy.tree,
                *stacked_dirs(builder_snapshots),
            )
            rootfs = RootFs(lowers=lowers, top=top, redirect_dir=True)
            told = _Told(self.progress)
            with build_sandbox(
                rootfs,
                installation=settings.installation,
                run=settings.run,
                network=self.request.network,
            ) as environment:
                exported, context, detected = msgspec.structs.replace(self, progress=told)._phases(
                    environment, top / "up", kept, snapshots, lowers
                )
                from hakobune.lifecycle.kept import keep

                environment.close()  # nobody sees the top any more: its folders may be moved
                new = keep(
                    exported, context, store, upper=top / "up", lowers=lowers, snapshots=snapshots
                )
                self._commit(exported, new)
        return BuildResult(
            image=exported.image,
            reference=reference_of(self.request, exported.image),
            group=detected.group,
            fates=exported.fates,
            changed=self.copy.changed,
            told=tuple(told.lines),
            new_layers=self._new_layers(before, exported.image),
        )

    def _new_layers(self, before: Image | None, image: Image) -> int:
        known = {layer.digest for layer in before.manifest.layers} if before else frozenset()
        base = self.world.store.find_image(self.plan.run_reference)
        known = known | {layer.digest for layer in base.manifest.layers} if base else known
        return sum(layer.digest not in known for layer in image.manifest.layers)

    def note_glance(self, record: BuildRecord) -> None:
        """Nothing has changed although it looked so: remember how it looks now."""
        self.folder.write_record(
            msgspec.structs.replace(record, source=self.copy.folder.name, glance=self._glance())
        )
        self.folder.clean(self.folder.read_record())

    def _glance(self) -> str:
        if self.looks_same and self.record is not None:
            return self.record.glance
        return glance_at(self.request, self.source, self.world.store)

    def _kept(self) -> tuple[KeptLayers | None, dict[str, Snapshot]]:
        """What of the last build can be used, with its snapshots by key."""
        builder = self.plan.builder
        kept = decode_kept_layers(bytes(self.record.kept)) if self.record else None
        if kept is None or self.request.clear_cache:
            return None, {}
        if not kept.is_usable_by(builder.uid, builder.gid, exec_env=EXEC_ENV):
            self.progress.step("kept layers belong to another build user: they are not used")
            return None, {}
        snapshots: dict[str, Snapshot] = {}
        buildpacks = []
        for buildpack in kept.buildpacks:
            layers = {}
            for name, layer in buildpack.layers.items():
                snapshot = self.world.store.open_snapshot(layer.snapshot)
                if snapshot is not None:
                    layers[name], snapshots[layer.snapshot] = layer, snapshot
            buildpacks.append(msgspec.structs.replace(buildpack, layers=layers))
        return msgspec.structs.replace(kept, buildpacks=tuple(buildpacks)), snapshots

    @contextmanager
    def _added(self) -> Iterator[tuple[Path, ...]]:
        """Folders of `--buildpack` as a lower."""
        if not self.plan.chosen.folders:
            yield ()
            return
        with self.folder.scratch("added") as tree:
            stage_buildpacks(self.plan.chosen, tree)
            yield (tree,)

    def _phases(
        self,
        environment: BuildEnvironment,
        upper: Path,
        kept: KeptLayers | None,
        snapshots: Mapping[str, Snapshot],
        lowers: tuple[Path, ...],
    ) -> tuple[Exported, BuildContext, Detected]:
        plan, store, progress = self.plan, self.world.store, self.progress
        analyzed = analyze(
            store,
            previous=self.request.name,
            run=plan.run,
            run_reference=plan.run_reference,
            build_image=plan.builder.image,
            os_release=environment.read_file("/etc/os-release"),
            exec_env=EXEC_ENV,
            progress=progress,
        )
        context = self._context(environment, analyzed)
        write_analyzed(environment, analyzed, layers=context.layers)
        # It is needed in 20 ms, and in the meantime this process only waits for other ones.
        Thread(target=import_module, args=("hakobune.builds.after_detection",)).start()
        detected = detect(
            context,
            order=plan.chosen.order,
            catalog=plan.chosen.catalog,
            system=plan.builder.system if not self.request.buildpacks else SystemBuildpacks(),
            progress=progress,
        )
        from hakobune.builds.after_detection import restore_build_export

        exported = restore_build_export(
            context,
            store,
            self.request,
            analyzed,
            detected,
            catalog=plan.chosen.catalog,
            kept=kept,
            snapshots=snapshots,
            upper=upper,
            lowers=lowers,
            progress=progress,
        )
        return exported, context, detected

    def _context(self, environment: BuildEnvironment, analyzed: Analyzed) -> BuildContext:
        builder, env = self.plan.builder, self.world.env
        extra = {"HOME": _home_of(environment, builder.uid), **proxies(env)}
        bundle = find_bundle(env)
        if bundle is not None:
            environment.write_file(BUNDLE_PATH, bundle.read_bytes(), mode=0o644, uid=0, gid=0)
            extra |= bundle_variables()
        environment.make_directory("/platform/env", mode=0o755, uid=0, gid=0)
        for name, value in self.plan.env.items():
            data = value.encode("utf-8", "surrogateescape")
            environment.write_file(f"/platform/env/{name}", data, mode=0o644, uid=0, gid=0)
        if self.request.created is not None:
            extra["SOURCE_DATE_EPOCH"] = str(self.request.created)
        return BuildContext(
            environment=environment,
            uid=builder.uid,
            gid=builder.gid,
            variables=inherit(builder.image.config.env, extra),
            target=analyzed.target,
            exec_env=EXEC_ENV,
        )

    def _commit(self, exported: Exported, kept: KeptLayers) -> None:
        """Make this build the one that the next one starts from."""
        from hakobune.lifecycle.kept import roots_of

        store, name = self.world.store, self.request.folder
        parts = self.plan.inputs(self.copy.digest)
        new = (*roots_of(kept), str(exported.image.digest))
        store.set_root(ROOTS, name, (*(store.root(ROOTS, name) or ()), *new))
        self.folder.write_record(
            BuildRecord(
                inputs=inputs_digest(parts),
                image=str(exported.image.digest),
                source=self.copy.folder.name,
                parts=parts,
                glance=self._glance(),
                uid=self.plan.builder.uid,
                gid=self.plan.builder.gid,
                kept=msgspec.Raw(encode_kept_layers(kept)),
            )
        )
        self.folder.write_report(exported.report)
        self.folder.clean(self.folder.read_record())
        store.set_root(ROOTS, name, new)
        store.sync_later()


class _Told:
    """Passes progress on, and keeps the first lines that buildpacks print while they build."""

    def __init__(self, progress: Progress) -> None:
        self.phase = progress.phase
        self.step = progress.step
        self.bytes = progress.bytes
        self.note = progress.note
        self._progress = progress
        self.lines: list[str] = []

    def output(self, line: str) -> None:
        if len(self.lines) < 10:
            self.lines.append(line)
        self._progress.output(line)


def _home_of(environment: BuildEnvironment, uid: int) -> str:
    """The build user's home as /etc/passwd has it."""
    for line in (
        (environment.read_file("/etc/passwd") or b"").decode("utf-8", "replace").splitlines()
    ):
        fields = line.split(":")
        if len(fields) > 5 and fields[2] == str(uid) and fields[5]:
            return fields[5]
    return "/"
