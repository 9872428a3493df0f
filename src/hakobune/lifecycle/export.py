"""Export: the layers that buildpacks made, the app and the launcher become an image (CNB platform.md "Phase #5: Export").

A layer is read at most once, and not at all where a kept one has not changed. The container's files are not
written to; `kept` turns its top into snapshots when it is gone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from hakobune.buildpack.descriptor import SBOM_MEDIA_TYPES, GroupElement
from hakobune.buildpack.launch import BUILD_METADATA_LABEL, build_metadata, labels_of
from hakobune.buildpack.layer_metadata import (
    LIFECYCLE_LABEL,
    BuildpackRecord,
    LayerMetadata,
    LayerRecord,
    LifecycleMetadata,
    RunImageRecord,
    Sha,
    StackRecord,
    StackRunImage,
    StoreRecord,
    encode_label,
)
from hakobune.lifecycle.analyze import EXEC_ENV_LABEL, Analyzed
from hakobune.lifecycle.app_slices import slice_app
from hakobune.lifecycle.build import Built
from hakobune.lifecycle.documents import KeptLayer, KeptLayers, encode_report
from hakobune.lifecycle.environment import PLATFORM_API, BuildContext, ImageSink, LayerChanges
from hakobune.lifecycle.errors import ExportError
from hakobune.lifecycle.fate import Fate, LayerFate
from hakobune.lifecycle.restore import Restored
from hakobune.oci.config import History, ImageConfig, RootFs
from hakobune.oci.digest import Digest
from hakobune.oci.layer import (
    ROOT,
    Directory,
    File,
    Layer,
    Owner,
    Part,
    Slice,
    Symlink,
    Tree,
    write_layer,
)
from hakobune.oci.manifest import Image
from hakobune.oci.reference import Reference
from hakobune.oci.settle import Outcome, Settled
from hakobune.progress import Progress

LAUNCHER_PATH = "/cnb/lifecycle/launcher"
PROCESS_FOLDER = "/cnb/process"
PROJECT_LABEL = "io.buildpacks.project.metadata"
CREATED = "1980-01-01T00:00:01Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """The program that starts every image's processes."""

    binary: Path
    version: str
    repository: str = ""
    commit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What the platform wants of the image.

    Args:
        names: the image's names; none is fine, the image has a digest.
        process_type: what the image starts by default; empty leaves it to the buildpacks.
        project: the contents of `io.buildpacks.project.metadata`.
        created: the image's time (`SOURCE_DATE_EPOCH`), RFC 3339.
    """

    launcher: Launcher
    names: Sequence[Reference] = ()
    process_type: str = ""
    project: Mapping[str, Any] = field(default_factory=dict)
    created: str = CREATED


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedLayer:
    """A buildpack's layer with contents, for the next build and for running the image.

    Args:
        path: its directory from the container's root, without a leading slash.
        kept: what was mounted for it.
        changed: the top holds something of it that is not in *kept*.
        diff_id: of a launch layer.
    """

    buildpack: GroupElement
    metadata: LayerMetadata
    path: str
    kept: KeptLayer | None
    changed: bool
    diff_id: Digest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The new image, and what became of each layer.

    Args:
        layers: those with contents, to be kept or adopted as snapshots.
        sbom: the blob that holds the SBOM files of cached layers, if there are any.
        report: `report.toml`.
    """

    image: Image
    fates: tuple[LayerFate, ...]
    layers: tuple[ExportedLayer, ...]
    sbom: Digest | None
    report: bytes


def export(
    context: BuildContext,
    sink: ImageSink,
    changes: LayerChanges,
    *,
    analyzed: Analyzed,
    built: Built,
    kept: KeptLayers | None,
    restored: Restored,
    request: ExportRequest,
    progress: Progress,
) -> Exported:
    """Put the image together and publish it. Ends whatever still runs in the container.

    Args:
        kept, restored: what the last build kept, and what of it this build found.

    Raises:
        ExportError: a layer is missing or the default process does not exist; nothing is published.
    """
    progress.phase("EXPORTING")
    _add_launcher_sboms(context)
    context.environment.kill_processes()
    entrypoint = _entrypoint(built, request.process_type)
    work = _Export(context, sink, changes, analyzed, kept, restored, progress)
    with work.translating_errors():
        for buildpack in built.buildpacks:
            for metadata in buildpack.layers:
                work.add_buildpack_layer(
                    buildpack.buildpack,
                    metadata,
                    has_contents=metadata.name in buildpack.directories,
                )
        sbom = work.add_sbom_layer()
        app = work.add_app_layers(built)
        launcher = work.add_launcher_layer(request.launcher)
        config = work.add_config_layer()
        process_types = work.add_process_types_layer(built)
        cache_sbom = work.write_cache_sbom()
        metadata_label = LifecycleMetadata(
            app=[Sha(sha=str(layer.diff_id)) for layer in app],
            sbom=Sha(sha=str(sbom.diff_id)) if sbom else None,
            buildpacks=_buildpack_records(built, work.records),
            config=Sha(sha=str(config.diff_id)),
            launcher=Sha(sha=str(launcher.diff_id)),
            process_types=Sha(sha=str(process_types.diff_id) if process_types else ""),
            run_image=_run_image_record(analyzed),
            stack=StackRecord(
                run_image=StackRunImage(image=analyzed.run.image, mirrors=analyzed.run.mirrors)
            ),
            exec_env=context.exec_env,
        )
        _tell_entrypoint(entrypoint, progress)
        image = sink.publish_image(
            config=image_config(
                analyzed.run_image,
                context=context,
                entrypoint=entrypoint,
                labels=_labels(context, built, metadata_label, request),
                history=work.history,
                created=request.created,
            ),
            layers=[*base_layers(analyzed.run_image), *work.layers],
            names=request.names,
        )
    return Exported(
        image=image,
        fates=(*_forgotten(restored, work.fates), *work.fates),
        layers=tuple(work.exported),
        sbom=cache_sbom,
        report=encode_report(image, [str(name) for name in request.names]),
    )


def base_layers(image: Image) -> tuple[Layer, ...]:
    """An image's layers under both of their names, base first."""
    return tuple(
        Layer(blob, diff_id)
        for blob, diff_id in zip(image.manifest.layers, image.diff_ids, strict=True)
    )


def image_config(
    run_image: Image,
    *,
    context: BuildContext,
    entrypoint: str,
    labels: Mapping[str, str],
    history: Sequence[str],
    created: str,
) -> ImageConfig:
    """The config of an app image: the run image's, with what the app adds.

    Args:
        history: what made each added layer, base first.
    """
    base = run_image.config
    inherited = [h for h in base.history if not h.empty_layer]
    missing = len(run_image.diff_ids) - len(inherited)
    padded = [*inherited, *[History() for _ in range(missing)]][: len(run_image.diff_ids)]
    added = [History(created=created, created_by=text) for text in history]
    return msgspec.structs.replace(
        base,
        created=created,
        config=msgspec.structs.replace(
            base.config,
            env=_image_env(base.env, context),
            entrypoint=(entrypoint,),
            cmd=(),
            working_dir=context.app,
            labels={**base.config.labels, **labels},
            args_escaped=False,
        ),
        rootfs=RootFs(),
        history=(*padded, *added),
    )


@dataclass(slots=True)
class _Export:
    """The image so far."""

    context: BuildContext
    sink: ImageSink
    changes: LayerChanges
    analyzed: Analyzed
    kept: KeptLayers | None
    restored: Restored
    progress: Progress
    layers: list[Layer] = field(default_factory=list)
    history: list[str] = field(default_factory=list)
    fates: list[LayerFate] = field(default_factory=list)
    records: dict[tuple[str, str], LayerRecord] = field(default_factory=dict)
    exported: list[ExportedLayer] = field(default_factory=list)
    reusable: dict[str, Layer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.analyzed.previous is not None:
            for layer in base_layers(self.analyzed.previous):
                if self.sink.has_blob(layer.blob.digest):
                    self.reusable[str(layer.diff_id)] = layer

    @property
    def owner(self) -> Owner:
        return Owner(self.context.uid, self.context.gid)

    @contextmanager
    def translating_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ExportError(
                "the image cannot be exported",
                why=f"{error.filename or ''} {error.strerror}".strip(),
            ) from error

    def add_buildpack_layer(
        self, buildpack: GroupElement, metadata: LayerMetadata, *, has_contents: bool
    ) -> None:
        """Add a layer to the image if it is wanted there, and note what is to be kept of it."""
        kept = self._kept(buildpack.id, metadata.name)
        path = f"{self.context.layers}/{buildpack.directory_name}/{metadata.name}"
        if metadata.launch:
            if has_contents:
                self._add_launch_layer(buildpack, metadata, path, kept)
            else:
                self._reuse_launch_layer(buildpack, metadata)
        elif metadata.cache and has_contents:
            self._keep_cache_layer(buildpack, metadata, path, kept)
        elif metadata.cache:
            self.progress.note(
                f"Failed to cache layer '{buildpack.id}:{metadata.name}' because it has no contents",
                warning=True,
            )
        elif kept is not None:
            self._decide(buildpack, metadata, Fate.DROP, "it is not to be cached any more")

    def _add_launch_layer(
        self, buildpack: GroupElement, metadata: LayerMetadata, path: str, kept: KeptLayer | None
    ) -> None:
        settled = self._settle(path, kept, launch=True)
        unchanged = settled.outcome is Outcome.UNCHANGED
        reason = settled.reason
        layer = self.reusable.get(kept.sha) if kept is not None and unchanged else None
        if layer is None:
            layer = self._write_tree(path)
            if kept is not None and kept.sha == str(layer.diff_id):
                unchanged, reason = True, "its contents are what they were"
        name = f"{buildpack.id}:{metadata.name}"
        if unchanged:
            self._decide(buildpack, metadata, Fate.KEEP, reason)
        elif str(layer.diff_id) in self.reusable:
            self._decide(buildpack, metadata, Fate.REUSE, "it was made anew with equal contents")
        else:
            self._decide(buildpack, metadata, Fate.ADD, reason)
        self._append(name, layer, _created_by(buildpack, metadata.name))
        self._record(buildpack, metadata, str(layer.diff_id))
        self._note_contents(
            buildpack, metadata, path, kept, changed=not unchanged, diff_id=layer.diff_id
        )

    def _reuse_launch_layer(self, buildpack: GroupElement, metadata: LayerMetadata) -> None:
        name = f"{buildpack.id}:{metadata.name}"
        if metadata.cache:
            raise ExportError(
                f"the layer {name!r} cannot be exported",
                why="it is cache=true but has no contents",
                fix="this is a fault of the buildpack: report it to its authors",
            )
        record = (
            self.analyzed.metadata.layer(buildpack.id, metadata.name)
            if self.analyzed.metadata
            else None
        )
        if record is None:
            raise ExportError(
                f"cannot reuse {name!r}",
                why=f"the previous image has no metadata for layer {name!r}",
                fix="build once more with --clear-cache; if that fails too, the buildpack is at fault",
            )
        layer = self.reusable.get(record.sha)
        if layer is None:
            raise ExportError(
                f"cannot reuse {name!r}",
                why=f"the previous image does not hold the layer {record.sha} any more",
                fix="build once more with --clear-cache",
            )
        self._decide(buildpack, metadata, Fate.REUSE, "its buildpack did not make it again")
        self._append(name, layer, _created_by(buildpack, metadata.name))
        self._record(buildpack, metadata, record.sha)

    def _keep_cache_layer(
        self, buildpack: GroupElement, metadata: LayerMetadata, path: str, kept: KeptLayer | None
    ) -> None:
        settled = self._settle(path, kept, launch=False)
        unchanged = settled.outcome is Outcome.UNCHANGED
        name = f"{buildpack.id}:{metadata.name}"
        self.progress.step(f"{'Reusing' if unchanged else 'Adding'} cache layer {name!r}")
        fate = Fate.KEEP if unchanged else Fate.ADD
        self._decide(buildpack, metadata, fate, settled.reason)
        self._note_contents(buildpack, metadata, path, kept, changed=not unchanged, diff_id=None)

    def add_sbom_layer(self) -> Layer | None:
        path = f"{self.context.layers}/sbom/launch"
        if self.context.environment.list_directory(path) is None:
            return None
        layer = self._write_tree(path)
        self._append("buildpacksio/lifecycle:launch.sbom", layer, "Software Bill-of-Materials")
        return layer

    def add_app_layers(self, built: Built) -> tuple[Layer, ...]:
        previous = {s.sha for s in self.analyzed.metadata.app} if self.analyzed.metadata else set()
        layers: list[Layer] = []
        with self._directory(self.context.app) as folder:
            parts: list[Slice]
            if built.slices:
                divided = slice_app(list_tree(folder), built.slices)
                parts = [
                    Slice(
                        name=self.context.app, directory=folder, paths=["", *paths] if paths else ()
                    )
                    for paths in divided
                ]
            else:
                parts = [Slice(name=self.context.app, directory=folder)]
            for number, part in enumerate(parts, 1):
                layer = write_layer(
                    self.sink, [*self._parents(self.context.app), part], owner=self.owner
                )
                single = len(parts) == 1
                layers.append(layer)
                self.layers.append(self.reusable.get(str(layer.diff_id), layer))
                self.history.append(
                    "Application Layer" if single else f"Application Slice: {number}"
                )
        reused = sum(1 for layer in layers if str(layer.diff_id) in previous)
        if reused:
            self.progress.step(f"Reused {reused}/{len(layers)} app layer(s)")
        if reused < len(layers):
            self.progress.step(f"Added {len(layers) - reused}/{len(layers)} app layer(s)")
        return tuple(layers)

    def add_launcher_layer(self, launcher: Launcher) -> Layer:
        parts: list[Part] = [
            Directory(name="/cnb"),
            Directory(name="/cnb/lifecycle"),
            File(name=LAUNCHER_PATH, content=launcher.binary, mode=0o755),
        ]
        layer = write_layer(self.sink, parts, owner=ROOT)
        self._append("buildpacksio/lifecycle:launcher", layer, "Buildpacks Application Launcher")
        return layer

    def add_config_layer(self) -> Layer:
        layer = self._write_tree(f"{self.context.layers}/config")
        self._append("buildpacksio/lifecycle:config", layer, "Buildpacks Launcher Config")
        return layer

    def add_process_types_layer(self, built: Built) -> Layer | None:
        if not built.processes.processes:
            return None
        parts: list[Part] = [Directory(name="/cnb"), Directory(name=PROCESS_FOLDER)]
        parts += [
            Symlink(name=f"{PROCESS_FOLDER}/{type_}", target=LAUNCHER_PATH)
            for type_ in built.processes.types
        ]
        layer = write_layer(self.sink, parts, owner=ROOT)
        self._append("buildpacksio/lifecycle:process-types", layer, "Buildpacks Process Types")
        return layer

    def write_cache_sbom(self) -> Digest | None:
        """The SBOM files of cached layers, kept in a blob of their own."""
        path = f"{self.context.layers}/sbom/cache"
        if self.context.environment.list_directory(path) is None:
            return None
        return self._write_tree(path).blob.digest

    def _settle(self, path: str, kept: KeptLayer | None, *, launch: bool) -> Settled:
        snapshot = kept.snapshot if kept is not None else None
        return self.changes.settle(path.lstrip("/"), snapshot, launch=launch)

    def _kept(self, buildpack_id: str, name: str) -> KeptLayer | None:
        if self.kept is None or (buildpack_id, name) not in self.restored.kept:
            return None
        return self.kept.layer(buildpack_id, name)

    def _write_tree(self, path: str) -> Layer:
        with self._directory(path) as folder:
            parts: list[Part] = [*self._parents(path), Tree(name=path, directory=folder)]
            layer = write_layer(self.sink, parts, owner=self.owner)
        return self.reusable.get(str(layer.diff_id), layer)

    def _parents(self, path: str) -> list[Directory]:
        """The directories above *path*; below `<layers>` they belong to the build user."""
        names = path.strip("/").split("/")[:-1]
        paths = ["/" + "/".join(names[: i + 1]) for i in range(len(names))]
        inside = (self.context.layers, f"{self.context.layers}/")
        return [
            Directory(name=p, owner=self.owner if f"{p}/".startswith(inside[1]) else ROOT)
            for p in paths
        ]

    @contextmanager
    def _directory(self, path: str) -> Iterator[int]:
        descriptor = self.context.environment.open_directory(path)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _append(self, name: str, layer: Layer, created_by: str) -> None:
        reused = str(layer.diff_id) in self.reusable
        self.progress.step(f"{'Reusing' if reused else 'Adding'} layer {name!r}")
        self.layers.append(layer)
        self.history.append(created_by)

    def _decide(
        self, buildpack: GroupElement, metadata: LayerMetadata, fate: Fate, reason: str
    ) -> None:
        self.fates.append(LayerFate(buildpack.id, metadata.name, fate, reason))

    def _record(self, buildpack: GroupElement, metadata: LayerMetadata, sha: str) -> None:
        self.records[buildpack.id, metadata.name] = LayerRecord(
            sha=sha,
            data=metadata.metadata,
            build=metadata.build,
            launch=metadata.launch,
            cache=metadata.cache,
        )

    def _note_contents(
        self,
        buildpack: GroupElement,
        metadata: LayerMetadata,
        path: str,
        kept: KeptLayer | None,
        *,
        changed: bool,
        diff_id: Digest | None,
    ) -> None:
        self.exported.append(
            ExportedLayer(
                buildpack=buildpack,
                metadata=metadata,
                path=path.lstrip("/"),
                kept=kept,
                changed=changed,
                diff_id=diff_id,
            )
        )


def list_tree(folder: int) -> dict[str, bool]:
    """Every path below an open directory, relative to it, and whether it is a directory."""
    paths: dict[str, bool] = {}
    for root, directories, files, _ in os.fwalk(".", dir_fd=folder, follow_symlinks=False):
        prefix = "" if root == "." else root.removeprefix("./") + "/"
        for name in directories:
            paths[prefix + name] = True
        for name in files:
            paths[prefix + name] = False
        links = [d for d in directories if os.path.islink(f"/proc/self/fd/{folder}/{prefix}{d}")]
        for name in links:
            paths[prefix + name] = False
    return paths


def _add_launcher_sboms(context: BuildContext) -> None:
    """Copy the SBOM files that lie beside the launcher, if there are any, to where the image has them."""
    folder = f"{context.layers}/sbom/launch/buildpacksio_lifecycle/launcher"
    for extension in SBOM_MEDIA_TYPES:
        data = context.environment.read_file(f"/cnb/lifecycle/launcher.sbom.{extension}.json")
        if data is not None:
            context.make_directory(folder)
            context.write(f"{folder}/sbom.{extension}.json", data)


def _entrypoint(built: Built, wanted: str) -> str:
    """The program that starts the image.

    Raises:
        ExportError: the wanted process does not exist.
    """
    default = wanted or built.processes.default
    if not default:
        return LAUNCHER_PATH
    if default not in built.processes.types:
        known = ", ".join(built.processes.types) or "none"
        raise ExportError(
            f"tried to set {default} to default but it doesn't exist",
            why=f"the buildpacks made these process types: {known}",
            fix="choose one of them with --process-type",
        )
    return f"{PROCESS_FOLDER}/{default}"


def _tell_entrypoint(entrypoint: str, progress: Progress) -> None:
    if entrypoint == LAUNCHER_PATH:
        progress.step("no default process type")
    else:
        progress.step(f"Setting default process type {entrypoint.rpartition('/')[2]!r}")


def _image_env(inherited: Mapping[str, str], context: BuildContext) -> tuple[str, ...]:
    path = inherited.get("PATH", "")
    values = {
        **inherited,
        "CNB_LAYERS_DIR": context.layers,
        "CNB_APP_DIR": context.app,
        "CNB_PLATFORM_API": PLATFORM_API,
        "CNB_DEPRECATION_MODE": "quiet",
        "PATH": f"{PROCESS_FOLDER}:/cnb/lifecycle" + (f":{path}" if path else ""),
    }
    return tuple(f"{name}={value}" for name, value in values.items())


def _labels(
    context: BuildContext, built: Built, metadata: LifecycleMetadata, request: ExportRequest
) -> dict[str, str]:
    launcher = request.launcher
    how = build_metadata(
        built.launch_metadata,
        launcher_version=launcher.version,
        repository=launcher.repository,
        commit=launcher.commit,
    )
    return {
        **labels_of(built.labels),
        LIFECYCLE_LABEL: encode_label(metadata),
        BUILD_METADATA_LABEL: encode_label(how),
        PROJECT_LABEL: encode_label(request.project),
        EXEC_ENV_LABEL: context.exec_env,
    }


def _buildpack_records(
    built: Built, records: Mapping[tuple[str, str], LayerRecord]
) -> list[BuildpackRecord]:
    return [
        BuildpackRecord(
            key=b.buildpack.id,
            version=b.buildpack.version,
            layers={name: r for (id_, name), r in records.items() if id_ == b.buildpack.id},
            store=StoreRecord(metadata=b.store) if b.store is not None else None,
        )
        for b in built.buildpacks
    ]


def _run_image_record(analyzed: Analyzed) -> RunImageRecord:
    diff_ids = analyzed.run_image.diff_ids
    return RunImageRecord(
        top_layer=str(diff_ids[-1]) if diff_ids else "",
        reference=f"{analyzed.run_reference.name}@{analyzed.run_image.digest}",
        image=analyzed.run.image,
        mirrors=analyzed.run.mirrors,
    )


def _created_by(buildpack: GroupElement, layer: str) -> str:
    return f"Layer: '{layer}', Created by buildpack: {buildpack.full_name}"


def _forgotten(restored: Restored, decided: Sequence[LayerFate]) -> list[LayerFate]:
    """Layers of the last build of which this one made nothing."""
    known = {(f.buildpack, f.layer) for f in decided}
    return [
        f
        if f.fate is Fate.DROP
        else LayerFate(f.buildpack, f.layer, Fate.DROP, "its buildpack did not ask for it")
        for f in restored.fates
        if (f.buildpack, f.layer) not in known
    ]
