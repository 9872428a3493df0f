"""What a build keeps for the next one: its top's layer directories become snapshots, noted in a `KeptLayers`.

A build is a transaction: until this runs, everything that was kept is as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from hakobune.lifecycle.documents import KeptBuildpack, KeptLayer, KeptLayers
from hakobune.lifecycle.environment import BuildContext
from hakobune.lifecycle.export import Exported
from hakobune.lifecycle.image_layers import ExportedLayer
from hakobune.oci.kept_layer import BuiltLayer, keep_layers
from hakobune.oci.layer import Owner
from hakobune.oci.settle import Settled, settle
from hakobune.oci.snapshot import Snapshot
from hakobune.oci.store import Store


class OverlayChanges(msgspec.Struct, frozen=True):
    """Reads from an overlay's top what a build changed.

    Args:
        upper: the top's `up`.
        snapshots: the kept layers that were mounted, by key.
    """

    upper: Path
    snapshots: Mapping[str, Snapshot]

    def settle(self, path: str, snapshot: str | None, *, launch: bool) -> Settled:
        """See `LayerChanges`."""
        kept = self.snapshots.get(snapshot) if snapshot is not None else None
        return settle(self.upper, path, kept, launch=launch)


def keep(
    exported: Exported,
    context: BuildContext,
    store: Store,
    *,
    upper: Path,
    lowers: Sequence[Path],
    snapshots: Mapping[str, Snapshot],
) -> KeptLayers:
    """Make snapshots of the layers that *upper* holds. The container must be closed; its top can go afterwards.

    Launch layers that are not cached become snapshots too, so that the image runs without being unpacked.

    Args:
        lowers: everything that was mounted under the top, uppermost first.
        snapshots: the kept layers that were mounted, by key.
    """
    layers = [
        BuiltLayer(
            path=layer.path,
            kept=snapshots.get(layer.kept.snapshot) if layer.kept else None,
            changed=layer.changed,
            launch=layer.metadata.launch,
            diff_id=layer.diff_id,
        )
        for layer in exported.layers
    ]
    made = keep_layers(store, upper, layers, owner=Owner(context.uid, context.gid), lowers=lowers)
    pairs = [(layer, s.key) for layer, s in zip(exported.layers, made, strict=True) if s]
    return kept_layers(exported, context, pairs)


def kept_layers(
    exported: Exported, context: BuildContext, kept: Sequence[tuple[ExportedLayer, str]]
) -> KeptLayers:
    """The note for the next build: the cached ones among *kept*, each with its snapshot's key."""
    buildpacks: dict[str, KeptBuildpack] = {}
    for layer, key in kept:
        if not layer.metadata.cache:
            continue
        element = layer.buildpack
        buildpack = buildpacks.setdefault(
            element.id, KeptBuildpack(key=element.id, version=element.version, layers={})
        )
        buildpack.layers[layer.metadata.name] = KeptLayer(
            sha=str(layer.diff_id or ""),
            data=layer.metadata.metadata,
            build=layer.metadata.build,
            launch=layer.metadata.launch,
            cache=layer.metadata.cache,
            snapshot=key,
        )
    return KeptLayers(
        uid=context.uid,
        gid=context.gid,
        exec_env=context.exec_env,
        sbom=str(exported.sbom or ""),
        buildpacks=tuple(buildpacks.values()),
    )


def roots_of(kept: KeptLayers) -> tuple[str, ...]:
    """The snapshot keys and blobs that must stay for the next build."""
    keys = tuple(layer.snapshot for _, _, layer in kept.layers())
    return (*keys, kept.sbom) if kept.sbom else keys
