"""The files that phases write for platforms, buildpacks and the next build (CNB platform.md "Data Format").

`analyzed.toml`, `group.toml`, `plan.toml`, `report.toml`, and `KeptLayers`, our form of
`io.buildpacks.lifecycle.cache.metadata`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import tomli_w

from hakobune.buildpack.descriptor import GroupElement
from hakobune.buildpack.layer_metadata import LayerRecord, LifecycleMetadata, without_nulls
from hakobune.buildpack.plan import BuildPlan
from hakobune.buildpack.target import ImageTarget
from hakobune.oci.manifest import Image


class KeptLayer(LayerRecord, frozen=True, kw_only=True, omit_defaults=True):
    """A cached layer of the last build: what its TOML said and the snapshot that holds it.

    `sha` is the diff_id of a launch layer, and empty for others, which nobody hashes.
    """

    snapshot: str


class KeptBuildpack(msgspec.Struct, frozen=True, kw_only=True):
    """The cached layers of one buildpack, by name, and the version that made them."""

    key: str
    version: str
    layers: dict[str, KeptLayer]


class KeptLayers(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything that the last successful build of an image kept for the next one.

    Args:
        uid: the build user for whom the files were made; another one cannot use them.
        sbom: the blob of a layer with the SBOM files of cached layers, if there are any.
    """

    uid: int
    gid: int
    exec_env: str = "production"
    sbom: str = ""
    buildpacks: tuple[KeptBuildpack, ...] = ()

    def is_usable_by(self, uid: int, gid: int, *, exec_env: str) -> bool:
        """Whether a build as that user, for that execution environment, may start from it."""
        return (self.uid, self.gid, self.exec_env) == (uid, gid, exec_env)

    def layers(self) -> Iterator[tuple[str, str, KeptLayer]]:
        """Every kept layer as `(buildpack id, layer name, layer)`."""
        for buildpack in self.buildpacks:
            for name, layer in buildpack.layers.items():
                yield buildpack.key, name, layer

    def layer(self, buildpack_id: str, name: str) -> KeptLayer | None:
        return next((k for b, n, k in self.layers() if (b, n) == (buildpack_id, name)), None)


def encode_kept_layers(kept: KeptLayers) -> bytes:
    return msgspec.json.encode(kept)


def decode_kept_layers(data: bytes) -> KeptLayers | None:
    """What `encode_kept_layers` wrote; `None` if it cannot be read (the next build then starts from nothing)."""
    try:
        return msgspec.json.decode(data, type=KeptLayers)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def encode_analyzed(
    *,
    previous: str,
    metadata: LifecycleMetadata | None,
    run_reference: str,
    run_image: str,
    target: ImageTarget,
) -> bytes:
    """`analyzed.toml`.

    Args:
        previous: the previous image's reference, empty if there is none.
        run_image: the run image's name as it was given; *run_reference* is what it was resolved to.
    """
    document: dict[str, Any] = {"image": {"reference": previous}}
    if metadata is not None:
        document["metadata"] = _kebab(msgspec.to_builtins(metadata))
    document["run-image"] = {
        "reference": run_reference,
        "image": run_image,
        "target": msgspec.to_builtins(target),
    }
    return tomli_w.dumps(without_nulls(document)).encode()


def encode_group(group: Sequence[GroupElement]) -> bytes:
    """`group.toml`."""
    tables = [
        {"id": e.id, "version": e.version, "api": e.api}
        | ({"homepage": e.homepage} if e.homepage else {})
        for e in group
    ]
    return tomli_w.dumps({"group": tables}).encode()


def encode_plan(plan: BuildPlan, group: Sequence[GroupElement]) -> bytes:
    """`plan.toml`."""
    versions = {e.id: e.version for e in group}
    entries = [
        {
            "providers": [{"id": p, "version": versions.get(p, "")} for p in entry.providers],
            "requires": [msgspec.to_builtins(r) for r in entry.requires],
        }
        for entry in plan
    ]
    return tomli_w.dumps({"entries": entries}).encode()


def encode_report(image: Image, names: Sequence[str]) -> bytes:
    """`report.toml`."""
    table = {"tags": list(names), "digest": str(image.digest), "manifest-size": len(image.raw)}
    return tomli_w.dumps({"image": table}).encode()


def _kebab(metadata: dict[str, Any]) -> dict[str, Any]:
    """The label's document with the keys that it has in TOML."""
    result = dict(metadata)
    run = result.pop("runImage")
    result["run-image"] = {("top-layer" if k == "topLayer" else k): v for k, v in run.items()}
    if "stack" in result:
        result["stack"] = {"run-image": result["stack"]["runImage"]}
    return result
