"""The layers that an app image has above its run image, in upstream's order and to the bit of its tars.

CNB platform.md "exporter", buildpack.md "Layers". Each method adds one layer, or reuses the last image's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from hakobune.buildpack.descriptor import GroupElement
from hakobune.buildpack.layer_metadata import LayerMetadata, LayerRecord
from hakobune.lifecycle.analyze import Analyzed
from hakobune.lifecycle.app_slices import slice_app
from hakobune.lifecycle.build import Built
from hakobune.lifecycle.documents import KeptLayer, KeptLayers
from hakobune.lifecycle.environment import BuildContext, ImageSink, LayerChanges
from hakobune.lifecycle.errors import ExportError
from hakobune.lifecycle.fate import Fate, LayerFate
from hakobune.lifecycle.image_config import LAUNCHER_PATH, PROCESS_FOLDER
from hakobune.lifecycle.restore import Restored
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
from hakobune.oci.settle import Outcome, Settled
from hakobune.progress import Progress


class ExportedLayer(msgspec.Struct, frozen=True, kw_only=True):
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


def base_layers(image: Image) -> tuple[Layer, ...]:
    """An image's layers under both of their names, base first."""
    return tuple(
        Layer(blob, diff_id)
        for blob, diff_id in zip(image.manifest.layers, image.diff_ids, strict=True)
    )


class ImageLayers(msgspec.Struct):
    """The layers so far, with their history and what became of each buildpack's."""

    context: BuildContext
    sink: ImageSink
    changes: LayerChanges
    analyzed: Analyzed
    kept: KeptLayers | None
    restored: Restored
    progress: Progress
    layers: list[Layer] = msgspec.field(default_factory=list)
    history: list[str] = msgspec.field(default_factory=list)
    fates: list[LayerFate] = msgspec.field(default_factory=list)
    records: dict[tuple[str, str], LayerRecord] = msgspec.field(default_factory=dict)
    exported: list[ExportedLayer] = msgspec.field(default_factory=list)
    reusable: dict[str, Layer] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.analyzed.previous is not None:
            for layer in base_layers(self.analyzed.previous):
                if self.sink.has_blob(layer.blob.digest):
                    self.reusable[str(layer.diff_id)] = layer

    @property
    def owner(self) -> Owner:
        return Owner(self.context.uid, self.context.gid)

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
        """Write the app's folder as one layer, or as one a slice and one of the rest (CNB platform.md "Slices")."""
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

    def add_launcher_layer(self, binary: Path) -> Layer:
        """Write the launcher, which starts every process of the app."""
        parts: list[Part] = [
            Directory(name="/cnb"),
            Directory(name="/cnb/lifecycle"),
            File(name=LAUNCHER_PATH, content=binary, mode=0o755),
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


def _created_by(buildpack: GroupElement, layer: str) -> str:
    return f"Layer: '{layer}', Created by buildpack: {buildpack.full_name}"
