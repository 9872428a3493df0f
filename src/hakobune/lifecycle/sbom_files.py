"""SBOM files: from beside the layers to `<layers>/sbom`, where the image and the next build take them from.

CNB buildpack.md "Software-Bill-of-Materials".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from hakobune.buildpack.descriptor import SBOM_MEDIA_TYPES, Buildpack
from hakobune.buildpack.layer_metadata import LayerMetadata
from hakobune.lifecycle.environment import BuildContext
from hakobune.lifecycle.errors import BuildError

_SBOM_FILE = re.compile(r"(?P<layer>.+)\.sbom\.(?P<extension>[^.]+(?:\.[^.]+)?)")


def collect_sboms(
    context: BuildContext,
    buildpack: Buildpack,
    folder: str,
    files: Iterable[str],
    layers: Sequence[LayerMetadata],
) -> None:
    """Copy SBOM files to `<layers>/sbom`, where the image and the next build take them from.

    Raises:
        BuildError: a format that the buildpack does not declare, or that nobody knows.
    """
    by_name = {layer.name: layer for layer in layers}
    escaped = folder.rpartition("/")[2]
    for file in sorted(files):
        match = _SBOM_FILE.fullmatch(file)
        if match is None:
            continue
        name, extension = match["layer"], match["extension"].removesuffix(".json")
        _check_sbom(buildpack, folder, file, extension)
        layer = by_name.get(name)
        if layer is None and name not in ("launch", "build"):
            continue  # of a layer that is not there any more
        data = context.environment.read_file(f"{folder}/{file}") or b""
        for place in _sbom_places(name, layer):
            target = f"{context.layers}/sbom/{place}/{escaped}" + (f"/{name}" if layer else "")
            context.make_directory(target)
            context.write(f"{target}/sbom.{extension}.json", data)


def _check_sbom(buildpack: Buildpack, folder: str, file: str, extension: str) -> None:
    if extension not in SBOM_MEDIA_TYPES or not file.endswith(".json"):
        known = ", ".join(f".sbom.{e}.json" for e in SBOM_MEDIA_TYPES)
        raise BuildError(
            f"the results of buildpack {buildpack.full_name} cannot be used",
            why=f"unsupported SBOM file format: {folder}/{file} (supported are {known})",
        )
    if not buildpack.declares_sbom(extension):
        raise BuildError(
            f"the results of buildpack {buildpack.full_name} cannot be used",
            why=f"undeclared SBOM media type: {folder}/{file} is {SBOM_MEDIA_TYPES[extension]!r}",
            fix="list it in sbom-formats of the buildpack's buildpack.toml",
        )


def _sbom_places(name: str, layer: LayerMetadata | None) -> tuple[str, ...]:
    if layer is None:
        return (name,)
    places = ("launch",) if layer.launch else ("build",)
    return (*places, "cache") if layer.cache else places
