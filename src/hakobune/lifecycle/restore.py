"""Restore: what buildpacks find of the last build (CNB platform.md "Phase #3: Restore", buildpack.md "Layer Types").

The data of kept layers is in the container before this phase runs, as lowers of its root; so nothing is copied.
Restoring is deciding which of it stays, and writing the `<layer>.toml` and `store.toml` files.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterable, Sequence

import msgspec
import tomli_w

from hakobune.buildpack.descriptor import GroupElement, escape_id
from hakobune.buildpack.layer_metadata import (
    LayerRecord,
    LifecycleMetadata,
    encode_restored_layer,
    without_nulls,
)
from hakobune.lifecycle.documents import KeptLayer, KeptLayers
from hakobune.lifecycle.environment import BuildContext, ImageSource
from hakobune.lifecycle.errors import RestoreError, os_errors_as
from hakobune.lifecycle.fate import Fate, LayerFate
from hakobune.oci.digest import Digest
from hakobune.oci.manifest import Image
from hakobune.progress import Progress

LARGEST_SBOM_BYTES = 64 << 20


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What a build starts with.

    Args:
        fates: one a layer that is remembered or kept.
        kept: `(buildpack id, layer name)` of the layers whose data is in the container.
    """

    fates: tuple[LayerFate, ...] = ()
    kept: frozenset[tuple[str, str]] = msgspec.field(default_factory=frozenset)


def decide_fates(
    group: Sequence[GroupElement],
    image: LifecycleMetadata | None,
    kept: KeptLayers | None,
) -> tuple[LayerFate, ...]:
    """What a build may find of each layer that the last image remembers or the last build kept.

    `KEEP`: metadata and data; `REUSE`: metadata alone; `DROP`: nothing.
    """
    ids = {e.id for e in group}
    fates: dict[tuple[str, str], LayerFate] = {}
    for buildpack, name, record in image.layers() if image else ():
        if buildpack in ids:
            cached = kept.layer(buildpack, name) if kept else None
            fate, reason = _fate_of_remembered(record, cached)
            fates[buildpack, name] = LayerFate(buildpack, name, fate, reason)
    for buildpack, name, _ in kept.layers() if kept else ():
        if (buildpack, name) in fates:
            continue
        if buildpack in ids:
            fates[buildpack, name] = LayerFate(buildpack, name, Fate.KEEP, "from cache")
        else:
            reason = "its buildpack does not take part"
            fates[buildpack, name] = LayerFate(buildpack, name, Fate.DROP, reason)
    return tuple(fates.values())


def _fate_of_remembered(record: LayerRecord, cached: KeptLayer | None) -> tuple[Fate, str]:
    """The fate of a layer that the last image remembers, of which the last build kept *cached*."""
    if not record.launch or (record.build and not record.cache):
        return Fate.DROP, "layers of its types are not restored"
    if not record.cache:
        return Fate.REUSE, "from app image"
    if cached is None:
        return Fate.DROP, "the cache does not have it"
    if cached.sha != record.sha:
        return Fate.DROP, "wrong sha"
    return Fate.KEEP, "from app image"


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
    with os_errors_as(RestoreError, "the last build's layers cannot be restored"):
        for element in group:
            context.make_directory(f"{context.layers}/{element.directory_name}")
        _restore_stores(context, group, metadata)
        fates = decide_fates(group, metadata, kept)
        if skip_layers:
            progress.step("Skipping buildpack layer analysis")
            fates = tuple(
                msgspec.structs.replace(f, fate=Fate.DROP, reason="it is to be forgotten")
                for f in fates
            )
        for fate in fates:
            _carry_out(context, fate, metadata, kept, progress)
        if not skip_layers:
            _restore_sboms(context, images, fates, previous, metadata, kept, progress)
    keeping = frozenset((f.buildpack, f.layer) for f in fates if f.fate is Fate.KEEP)
    return Restored(fates=fates, kept=keeping)


def _carry_out(
    context: BuildContext,
    fate: LayerFate,
    metadata: LifecycleMetadata | None,
    kept: KeptLayers | None,
    progress: Progress,
) -> None:
    path = f"{context.layers}/{escape_id(fate.buildpack)}/{fate.layer}"
    if fate.fate is Fate.DROP:
        if context.environment.list_directory(path) is not None:
            progress.step(f"Removing {fate.full_name!r}, {fate.reason}")
            context.environment.remove(path)
        return
    remembered = metadata.layer(fate.buildpack, fate.layer) if metadata else None
    cached = kept.layer(fate.buildpack, fate.layer) if kept else None
    record = remembered or cached
    data = record.data if record is not None and record.data is not None else {}
    source = "app image" if remembered else "cache"
    progress.step(f"Restoring metadata for {fate.full_name!r} from {source}")
    context.write(f"{path}.toml", encode_restored_layer(data))
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
    fates: Iterable[LayerFate],
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
    wanted = {f"{escape_id(f.buildpack)}/{f.layer}" for f in fates if f.fate is not Fate.DROP}
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
