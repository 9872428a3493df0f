"""The default builder image, made from `builders/debian/builder.toml` on first need."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from hakobune import __version__
from hakobune.buildpack.builder_toml import BuilderToml, parse_builder_toml
from hakobune.builds.base import ensure_base_images
from hakobune.builds.base_definition import DEFINITION, base_inputs, check_architecture
from hakobune.builds.base_tree import BUILD_UID, GROUP_ID
from hakobune.builds.builder import Builder, read_builder
from hakobune.builds.builder_image import (
    PROGRAMS,
    REPOSITORY,
    BuilderContents,
    buildpack_layer,
    directory,
    program,
    publish_builder,
    shipped_files,
    stage_buildpack,
)
from hakobune.builds.platform_names import name_for_platform
from hakobune.builds.python_bytecode import compile_python
from hakobune.builds.request import DEFAULT_BUILDER
from hakobune.builds.scratch import scratch
from hakobune.builds.uv_program import find_uv
from hakobune.distribution.transfer import find_local
from hakobune.oci.digest import Digest
from hakobune.oci.layer import File, Owner, Part, write_layer
from hakobune.oci.manifest import Image
from hakobune.oci.platform import Platform
from hakobune.oci.snapshot import stacked_dirs
from hakobune.oci.store import Store
from hakobune.progress import Progress
from hakobune.support.locks import exclusive

INPUTS_LABEL: Final = "io.hakobune.builder.inputs"
# Changes when this module makes another image of the same inputs.
RECIPE: Final = 1

_NOT_SHIPPED: Final = frozenset(
    {"tests", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache"}
)


def ensure_default_builder(
    store: Store,
    home: Path,
    progress: Progress,
    *,
    folder: Path = DEFINITION,
    platform: Platform | None = None,
) -> Builder:
    """The default builder, made on first need and again when anything that it is made of has changed.

    Args:
        folder: where `builder.toml` is; the buildpacks' places are relative to it.
        platform: what it runs on; by default this machine's. Each has one of its own under the same name.

    Raises:
        HakoError: the base images or the builder cannot be made.
    """
    file = folder / "builder.toml"
    definition = parse_builder_toml(file.read_bytes(), name=str(file))
    buildpacks = tuple((folder / source.uri).resolve() for source in definition.buildpacks)
    platform = platform or Platform.host()
    check_architecture(platform)
    inputs = _inputs(file, buildpacks, platform)
    image = _find(store, inputs, platform)
    if image is None:
        with exclusive(home / "cache/builder.lock", waiting=lambda: _say_waiting(progress)):
            image = _find(store, inputs, platform) or _make(
                store, home, progress, definition, buildpacks, inputs, platform
            )
    return read_builder(store, image, name=DEFAULT_BUILDER.short)


def _say_waiting(progress: Progress) -> None:
    progress.step("waiting for another process that makes the builder")


def _find(store: Store, inputs: Digest, platform: Platform) -> Image | None:
    image = find_local(store, DEFAULT_BUILDER, platform)
    if image is None or image.config.labels.get(INPUTS_LABEL) != str(inputs):
        return None
    return image


def _inputs(definition: Path, buildpacks: Sequence[Path], platform: Platform) -> Digest:
    """Everything that the builder is made of, as one digest."""
    parts = [f"{RECIPE} {__version__} {base_inputs(DEFINITION, platform)}".encode()]
    files = (
        definition,
        REPOSITORY / "scripts/uv.txt",
        *(program(name, platform) for name in PROGRAMS),
    )
    parts += [file.read_bytes() for file in files]
    for folder in buildpacks:
        for path, mode in shipped_files(folder, left_out=_NOT_SHIPPED):
            parts += [f"{folder.name}/{path} {mode:o}".encode(), (folder / path).read_bytes()]
    return Digest.of(b"".join(bytes.fromhex(Digest.of(part).hex) for part in parts))


def _make(
    store: Store,
    home: Path,
    progress: Progress,
    definition: BuilderToml,
    sources: Sequence[Path],
    inputs: Digest,
    platform: Platform,
) -> Image:
    base = ensure_base_images(store, home, progress, platform=platform).build
    begun = time.monotonic()
    progress.phase(
        "Builder", f"{len(definition.buildpacks)} buildpacks on {definition.build_image}"
    )
    buildpacks = []
    with scratch(home / "cache", "builder") as folder:
        uv = write_layer(store, _uv_parts(find_uv(platform, folder)), owner=Owner(0, 0))
        staged = [stage_buildpack(source, folder, left_out=_NOT_SHIPPED) for source in sources]
        compile_python(
            stacked_dirs(store.snapshots(base)),
            folder / "cnb",
            Path("/cnb"),
            folder,
        )
        for buildpack in staged:
            buildpacks.append((buildpack, buildpack_layer(store, buildpack, folder)))
            progress.step(buildpack.full_name)
    contents = BuilderContents(
        base=base,
        definition=definition,
        user=Owner(BUILD_UID, GROUP_ID),
        tools=(uv,),
        buildpacks=buildpacks,
        labels={INPUTS_LABEL: str(inputs)},
    )
    image = publish_builder(store, contents, ())
    name_for_platform(store, image, DEFAULT_BUILDER)
    store.snapshots(image)
    progress.step(f"builder made in {time.monotonic() - begun:.1f} s")
    return image


def _uv_parts(uv: Path) -> Iterator[Part]:
    for name in ("/usr", "/usr/local", "/usr/local/bin"):
        yield directory(name)
    yield File(name="/usr/local/bin/uv", content=uv, mode=0o755)
