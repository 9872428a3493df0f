"""Restore: what buildpacks find of the last build (CNB platform.md "Phase #3: Restore", buildpack.md "Layer Types").

The data of kept layers is in the container before this phase runs, as lowers of its root; so nothing is copied.
Restoring is deciding which of it stays, and writing the `<layer>.toml` and `store.toml` files.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import tomli_w

from hakobune.buildpack.descriptor import GroupElement, escape_id
from hakobune.buildpack.layer_metadata import (
    LifecycleMetadata,
    encode_restored_layer,
    without_nulls,
)
from hakobune.lifecycle.documents import KeptLayers
from hakobune.lifecycle.environment import BuildContext, ImageSource
from hakobune.lifecycle.errors import RestoreError
from hakobune.lifecycle.fate import Fate, LayerFate
from hakobune.oci.digest import Digest
from hakobune.oci.manifest import Image
from hakobune.progress import Progress

LARGEST_SBOM_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a build starts with.

    Args:
        fates: one a layer that is remembered or kept.
        kept: `(buildpack id, layer name)` of the layers whose data is in the container.
    """

    fates: tuple[LayerFate, ...] = ()
    kept: frozenset[tuple[str, str]] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class _Remembered:
    fate: LayerFate
    metadata: dict[str, Any]


def decide_fates(
    group: Sequence[GroupElement],
    image: LifecycleMetadata | None,
    kept: KeptLayers | None,
) -> tuple[LayerFate, ...]:
    """What a build may find of each layer that the last image remembers or the last build kept.

    `KEEP`: metadata and data; `REUSE`: metadata alone; `DROP`: nothing.
    """
    return tuple(r.fate for r in _decide(group, image, kept))


def restore(
    context: BuildContext,
    images: ImageSource,
    *,
    group: Sequence[GroupElement],
    previous: Image | None,
    metadata: LifecycleMetadata | None,
    kept: KeptLayers | None,
    progress: Progress,
    skip_layers: bool = False,
) -> Restored:
    """Make the container show what the buildpacks of *group* may find of the last build.

    Args:
        previous: the last image, for the SBOM files of its layers; *metadata* is what it remembers.
        kept: what the last build kept; the data of all of it is in the container already.
        skip_layers: forget all layers (`--clear-cache`); only `store.toml` comes back.

    Raises:
        RestoreError: the container cannot be written to (exit code 42).
    """
    progress.phase("RESTORING")
    try:
        decided = _restore_layers(context, group, metadata, kept, progress, skip_layers=skip_layers)
        restored = Restored(
            fates=tuple(r.fate for r in decided),
            kept=frozenset(
                (r.fate.buildpack, r.fate.layer) for r in decided if r.fate.fate is Fate.KEEP
            ),
        )
        if not skip_layers:
            _restore_sboms(context, images, restored, previous, metadata, kept, progress)
    except OSError as error:
        raise RestoreError(
            "the last build's layers cannot be restored",
            why=f"{error.filename or ''} {error.strerror or error}".strip(),
        ) from error
    return restored


def _restore_layers(
    context: BuildContext,
    group: Sequence[GroupElement],
    metadata: LifecycleMetadata | None,
    kept: KeptLayers | None,
    progress: Progress,
    *,
    skip_layers: bool,
) -> tuple[_Remembered, ...]:
    for element in group:
        context.make_directory(f"{context.layers}/{element.directory_name}")
    _restore_stores(context, group, metadata)
    decided = _decide(group, None if skip_layers else metadata, kept)
    if skip_layers:
        progress.step("Skipping buildpack layer analysis")
        decided = tuple(_forget(r) for r in decided)
    for remembered in decided:
        _carry_out(context, remembered, progress)
    return decided


def _decide(
    group: Sequence[GroupElement], image: LifecycleMetadata | None, kept: KeptLayers | None
) -> tuple[_Remembered, ...]:
    ids = {e.id for e in group}
    decided: dict[tuple[str, str], _Remembered] = {}
    for buildpack, name, record in image.layers() if image else ():
        if buildpack in ids:
            decided[buildpack, name] = _from_image(
                buildpack,
                name,
                record.data or {},
                wanted=record.launch and (record.cache or not record.build),
                cached=record.cache,
                kept_sha=_kept_sha(kept, buildpack, name),
                sha=record.sha,
            )
    for buildpack, name, layer in kept.layers() if kept else ():
        if (buildpack, name) in decided:
            continue
        if buildpack not in ids:
            fate = LayerFate(buildpack, name, Fate.DROP, "its buildpack does not take part")
        else:
            fate = LayerFate(buildpack, name, Fate.KEEP, "from cache")
        decided[buildpack, name] = _Remembered(fate, layer.data or {})
    return tuple(decided.values())


def _from_image(
    buildpack: str,
    name: str,
    data: dict[str, Any],
    *,
    wanted: bool,
    cached: bool,
    kept_sha: str | None,
    sha: str,
) -> _Remembered:
    """The fate of a layer that the last image remembers.

    Args:
        wanted: a build may find it at all.
        kept_sha: the diff_id of what the last build kept of it; `None` if it kept nothing.
    """

    def fated(fate: Fate, reason: str) -> _Remembered:
        return _Remembered(LayerFate(buildpack, name, fate, reason), data)

    if not wanted:
        return fated(Fate.DROP, "layers of its types are not restored")
    if not cached:
        return fated(Fate.REUSE, "from app image")
    if kept_sha is None:
        return fated(Fate.DROP, "the cache does not have it")
    if kept_sha != sha:
        return fated(Fate.DROP, "wrong sha")
    return fated(Fate.KEEP, "from app image")


def _kept_sha(kept: KeptLayers | None, buildpack: str, name: str) -> str | None:
    layer = kept.layer(buildpack, name) if kept else None
    return layer.sha if layer else None


def _forget(remembered: _Remembered) -> _Remembered:
    fate = remembered.fate
    return _Remembered(LayerFate(fate.buildpack, fate.layer, Fate.DROP, "the cache is cleared"), {})


def _carry_out(context: BuildContext, remembered: _Remembered, progress: Progress) -> None:
    fate = remembered.fate
    path = f"{context.layers}/{escape_id(fate.buildpack)}/{fate.layer}"
    if fate.fate is Fate.DROP:
        if context.environment.list_directory(path) is not None:
            progress.step(f"Removing {fate.full_name!r}, {fate.reason}")
            context.environment.remove(path)
        return
    source = "cache" if fate.reason == "from cache" else "app image"
    progress.step(f"Restoring metadata for {fate.full_name!r} from {source}")
    context.write(f"{path}.toml", encode_restored_layer(remembered.metadata))
    if fate.fate is Fate.KEEP:
        progress.step(f"Restoring data for {fate.full_name!r} from cache")


def _restore_stores(
    context: BuildContext, group: Iterable[GroupElement], metadata: LifecycleMetadata | None
) -> None:
    for element in group:
        record = metadata.buildpack(element.id) if metadata else None
        if record is not None and record.store is not None:
            data = tomli_w.dumps({"metadata": without_nulls(record.store.metadata)}).encode()
            context.write(f"{context.layers}/{element.directory_name}/store.toml", data)


def _restore_sboms(
    context: BuildContext,
    images: ImageSource,
    restored: Restored,
    previous: Image | None,
    metadata: LifecycleMetadata | None,
    kept: KeptLayers | None,
    progress: Progress,
) -> None:
    """Put the SBOM files of restored layers beside their `<layer>.toml`."""
    files: dict[str, bytes] = {}
    try:
        if previous is not None and metadata is not None and metadata.sbom is not None:
            blob = _blob_of(previous, metadata.sbom.sha)
            if blob is not None and images.has_blob(blob):
                files |= read_sbom_layer(images, blob, kind="launch", layers=context.layers)
        if kept is not None and kept.sbom and images.has_blob(Digest.parse(kept.sbom)):
            blob = Digest.parse(kept.sbom)
            files |= read_sbom_layer(images, blob, kind="cache", layers=context.layers)
    except (OSError, tarfile.TarError) as error:
        progress.note(f"SBOM files of the last build are not restored: {error}", warning=True)
    wanted = {
        f"{escape_id(f.buildpack)}/{f.layer}" for f in restored.fates if f.fate is not Fate.DROP
    }
    for name, data in files.items():
        layer, _, file = name.rpartition("/")
        if layer in wanted:
            context.write(f"{context.layers}/{layer}.{file}", data)


def read_sbom_layer(
    images: ImageSource, blob: Digest, *, kind: str, layers: str
) -> dict[str, bytes]:
    """The files `<buildpack>/<layer>/sbom.<ext>.json` of an SBOM layer, by that name."""
    pattern = re.compile(
        rf"/?{re.escape(layers.strip('/'))}/sbom/{kind}/([^/]+/[^/]+/sbom\.[a-z]+\.json)"
    )
    files: dict[str, bytes] = {}
    with tarfile.open(images.blob_path(blob)) as tar:
        for member in tar:
            match = pattern.fullmatch(member.name)
            if match and member.isreg() and member.size <= LARGEST_SBOM_BYTES:
                content = tar.extractfile(member)
                files[match[1]] = content.read() if content else b""
    return files


def _blob_of(image: Image, diff_id: str) -> Digest | None:
    for layer, layer_diff_id in zip(image.manifest.layers, image.diff_ids, strict=True):
        if str(layer_diff_id) == diff_id:
            return layer.digest
    return None
