"""What a buildpack's `bin/build` has left in its layers folder (CNB buildpack.md "Phase #3: Build"): layers, launch.toml, build.toml, store.toml."""

from __future__ import annotations

import errno
from typing import Any

import msgspec

from hakobune.buildpack.descriptor import Buildpack
from hakobune.buildpack.document import read_document
from hakobune.buildpack.launch import (
    LaunchToml,
    parse_launch_toml,
)
from hakobune.buildpack.layer_metadata import LayerMetadata, parse_layer_toml
from hakobune.lifecycle.environment import BuildContext

_NOT_LAYERS = ("launch", "build", "store")


class _Unmet(msgspec.Struct, frozen=True, kw_only=True):
    name: str


class _BuildToml(msgspec.Struct, frozen=True, kw_only=True):
    unmet: tuple[_Unmet, ...] = ()


class _StoreToml(msgspec.Struct, frozen=True, kw_only=True):
    metadata: dict[str, Any] = {}


def ignore_layer(context: BuildContext, layer: str) -> None:
    """Rename a layer that is wanted nowhere to `<layer>.ignore`."""
    context.environment.remove(f"{layer}.ignore")
    try:
        context.environment.rename(layer, f"{layer}.ignore")
    except OSError as error:
        # Overlays without redirects cannot rename what lies below their top.
        if error.errno != errno.EXDEV:
            raise
        context.environment.remove(layer)


def read_layers(context: BuildContext, folder: str, files: set[str]) -> tuple[LayerMetadata, ...]:
    """The layers that the TOML files among *files* of *folder* are about, by name.

    Raises:
        DocumentError, InvalidDocumentError: it cannot be read.
    """
    layers: list[LayerMetadata] = []
    for file in sorted(files):
        name = file.removesuffix(".toml")
        if name == file or not name or name in _NOT_LAYERS:
            continue
        path = f"{folder}/{file}"
        data = context.environment.read_file(path)
        if data is not None:
            layers.append(parse_layer_toml(data, name=path, layer=name))
    return tuple(sorted(layers, key=lambda layer: layer.name))


def read_launch(context: BuildContext, folder: str, buildpack: Buildpack) -> LaunchToml:
    """`launch.toml`; an empty one if there is none.

    Raises:
        DocumentError, InvalidDocumentError: it cannot be read.
    """
    path = f"{folder}/launch.toml"
    data = context.environment.read_file(path)
    if data is None:
        return LaunchToml()
    return parse_launch_toml(data, name=path, api=buildpack.api_version, buildpack_id=buildpack.id)


def read_unmet(context: BuildContext, folder: str) -> tuple[str, ...]:
    """The requirements that `build.toml` passes on to later buildpacks, by name.

    Raises:
        DocumentError, InvalidDocumentError: it cannot be read.
    """
    path = f"{folder}/build.toml"
    data = context.environment.read_file(path)
    if data is None:
        return ()
    return tuple(u.name for u in read_document(data, _BuildToml, name=path).unmet)


def read_store(context: BuildContext, folder: str) -> dict[str, Any] | None:
    """What `store.toml` keeps for the next build; `None` if there is none.

    Raises:
        DocumentError, InvalidDocumentError: it cannot be read.
    """
    path = f"{folder}/store.toml"
    data = context.environment.read_file(path)
    return None if data is None else read_document(data, _StoreToml, name=path).metadata
