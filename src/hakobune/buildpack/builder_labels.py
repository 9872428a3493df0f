"""The labels by which a builder image, or a buildpack's package, says what is in it (CNB distribution.md "Builder")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from hakobune.buildpack.descriptor import Buildpack, Order, Stack
from hakobune.buildpack.layer_metadata import encode_label
from hakobune.buildpack.order import SystemBuildpacks
from hakobune.buildpack.run_image import RunImage
from hakobune.buildpack.target import Target
from hakobune.errors import HakoError

BUILDER_LABEL = "io.buildpacks.builder.metadata"
ORDER_LABEL = "io.buildpacks.buildpack.order"
LAYERS_LABEL = "io.buildpacks.buildpack.layers"
SYSTEM_LABEL = "io.buildpacks.buildpack.system"
PACKAGE_LABEL = "io.buildpacks.buildpackage.metadata"


class LayerInfo(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={"layer_diff_id": "layerDiffID"},
):
    """A buildpack in `io.buildpacks.buildpack.layers`: enough to resolve orders without its files."""

    api: str
    stacks: tuple[Stack, ...] = ()
    targets: tuple[Target, ...] = ()
    order: Order = ()
    layer_diff_id: str = ""
    homepage: str = ""
    name: str = ""


class BuilderLabels(msgspec.Struct, frozen=True, kw_only=True):
    """What a builder image says about itself."""

    order: Order
    layers: dict[str, dict[str, LayerInfo]]
    run_images: tuple[RunImage, ...]
    description: str = ""
    system: SystemBuildpacks = SystemBuildpacks()


def builder_labels(
    *,
    description: str,
    order: Order,
    buildpacks: Sequence[tuple[Buildpack, str]],
    run_images: Sequence[RunImage],
    lifecycle_version: str,
    system: SystemBuildpacks | None = None,
) -> dict[str, str]:
    """The labels of a builder image.

    Args:
        buildpacks: each buildpack with its layer's diff_id.
        run_images: the first is the default.
    """
    apis = {
        "buildpack": {"deprecated": [], "supported": ["0.8", "0.9", "0.10", "0.11", "0.12"]},
        "platform": {"deprecated": [], "supported": ["0.15"]},
    }
    metadata: dict[str, Any] = {
        "description": description,
        "buildpacks": [
            {"id": b.id, "version": b.version}
            | ({"homepage": b.buildpack.homepage} if b.buildpack.homepage else {})
            for b, _ in buildpacks
        ],
        "stack": {"runImage": run_images[0] if run_images else RunImage(image="")},
        "lifecycle": {
            "version": lifecycle_version,
            "api": {"buildpack": "0.8", "platform": "0.15"},
            "apis": apis,
        },
        "createdBy": {"name": "hakobune", "version": lifecycle_version},
        "images": list(run_images),
    }
    layers: dict[str, dict[str, LayerInfo]] = {}
    for buildpack, diff_id in buildpacks:
        layers.setdefault(buildpack.id, {})[buildpack.version] = _layer_info(buildpack, diff_id)
    labels = {
        BUILDER_LABEL: _compact(metadata),
        ORDER_LABEL: _compact(order),
        LAYERS_LABEL: _compact(layers),
    }
    if system is not None and (system.pre.buildpacks or system.post.buildpacks):
        labels[SYSTEM_LABEL] = _compact(system)
    return labels


def read_builder_labels(labels: Mapping[str, str], *, image: str) -> BuilderLabels:
    """What the labels of the builder *image* say.

    Raises:
        HakoError: the image is no builder, or a label cannot be understood; the label is named.
    """
    if BUILDER_LABEL not in labels:
        raise HakoError(
            f"{image} is not a builder",
            why=f"it has no label {BUILDER_LABEL}",
            fix="name a builder image, or leave --builder away to use the default one",
        )
    metadata = _label(labels, BUILDER_LABEL, _BuilderMetadata, image)
    first = metadata.stack.run_image
    return BuilderLabels(
        order=_label(labels, ORDER_LABEL, Order, image) if ORDER_LABEL in labels else (),
        layers=_label(labels, LAYERS_LABEL, dict[str, dict[str, LayerInfo]], image)
        if LAYERS_LABEL in labels
        else {},
        run_images=metadata.images or ((first,) if first.image else ()),
        description=metadata.description,
        system=_label(labels, SYSTEM_LABEL, SystemBuildpacks, image)
        if SYSTEM_LABEL in labels
        else SystemBuildpacks(),
    )


def read_package_labels(
    labels: Mapping[str, str], *, image: str
) -> dict[str, dict[str, LayerInfo]]:
    """The buildpacks in the package *image* (CNB distribution.md "Buildpackage"), by id and version.

    Raises:
        HakoError: the image is no package, or a label cannot be understood.
    """
    if PACKAGE_LABEL not in labels or LAYERS_LABEL not in labels:
        raise HakoError(
            f"{image} is not a buildpack's package",
            why=f"it has no label {PACKAGE_LABEL if PACKAGE_LABEL not in labels else LAYERS_LABEL}",
            fix="name an image that `pack buildpack package` has made, or a folder with uri",
        )
    found: dict[str, dict[str, LayerInfo]] = _label(
        labels, LAYERS_LABEL, dict[str, dict[str, LayerInfo]], image
    )
    return found


class _BuilderStack(msgspec.Struct, frozen=True, kw_only=True, rename={"run_image": "runImage"}):
    run_image: RunImage = RunImage(image="")


class _BuilderMetadata(msgspec.Struct, frozen=True, kw_only=True):
    description: str = ""
    stack: _BuilderStack = _BuilderStack()
    images: tuple[RunImage, ...] = ()


def _layer_info(buildpack: Buildpack, diff_id: str) -> LayerInfo:
    return LayerInfo(
        api=buildpack.api,
        stacks=buildpack.stacks,
        targets=buildpack.targets,
        order=buildpack.order,
        layer_diff_id=diff_id,
        homepage=buildpack.buildpack.homepage,
        name=buildpack.buildpack.name,
    )


def _compact(document: Any) -> str:
    return encode_label(msgspec.to_builtins(document))


def _label(labels: Mapping[str, str], key: str, type_: Any, image: str) -> Any:
    try:
        return msgspec.json.decode(labels[key], type=type_)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise HakoError(f"the label {key} of {image} cannot be read", why=str(error)) from error
