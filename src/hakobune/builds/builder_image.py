"""Puts a builder image together: its folders, files, labels and configuration (CNB distribution.md "Builder").

What goes in is decided elsewhere: `default_builder` for ours, `builder_creation` for those that people describe.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from hakobune import __version__
from hakobune.buildpack.builder_files import (
    BUILD_CONFIG_PATH,
    ORDER_PATH,
    RUN_PATH,
    SYSTEM_PATH,
    encode_order,
    encode_run,
    encode_system,
)
from hakobune.buildpack.builder_labels import builder_labels
from hakobune.buildpack.builder_toml import BuilderToml, build_config_files
from hakobune.buildpack.descriptor import (
    BUILDPACKS_DIRECTORY,
    Buildpack,
    escape_id,
    parse_buildpack,
)
from hakobune.buildpack.order import Catalog, SystemBuildpacks, resolve_order
from hakobune.errors import HakoError
from hakobune.oci.config import History
from hakobune.oci.layer import Directory, File, Layer, Owner, Part, Symlink, Tree, write_layer
from hakobune.oci.manifest import Image
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store

LIFECYCLE: Final = "/cnb/lifecycle"
# What `launcher/` builds: the entry point of every app image, and a helper that buildpacks put into exec.d.
PROGRAMS: Final = ("launcher", "port-adapter")
REPOSITORY: Final = Path(__file__).parents[3]

_ROOT: Final = Owner(0, 0)


class BuilderContents(msgspec.Struct, frozen=True, kw_only=True):
    """What a builder is put together from.

    Attributes:
        base: the build image.
        definition: its description, order, run images, system buildpacks and variables are used.
        user: of the build image, who gets the folders that a build writes into.
        tools: layers between the lifecycle and the buildpacks.
        buildpacks: each with its layer.
        labels: beside those that every builder has.
    """

    base: Image
    definition: BuilderToml
    user: Owner
    tools: tuple[Layer, ...] = ()
    buildpacks: Sequence[tuple[Buildpack, Layer]]
    labels: Mapping[str, str] = {}


def publish_builder(store: Store, contents: BuilderContents, names: Sequence[Reference]) -> Image:
    """Write the layers and give the image its names; equal contents give the same image.

    Raises:
        OrderError: the order names buildpacks that are not among them.
        HakoError: the launcher for its CPU is missing.
    """
    definition = contents.definition
    buildpacks = [buildpack for buildpack, _ in contents.buildpacks]
    order = resolve_order(definition.order, Catalog.of(buildpacks))
    layers = [
        write_layer(store, _default_directories(contents.user), owner=_ROOT),
        write_layer(store, _lifecycle_parts(contents.base.platform), owner=_ROOT),
        *contents.tools,
        # A package may hold several buildpacks in one layer.
        *{layer.diff_id: layer for _, layer in contents.buildpacks}.values(),
        _file_layer(store, ORDER_PATH, encode_order(order)),
        _file_layer(store, RUN_PATH, encode_run(definition.run_images)),
    ]
    if definition.system != SystemBuildpacks():
        layers.append(_file_layer(store, SYSTEM_PATH, encode_system(definition.system)))
    for name, content in build_config_files(definition.build_env).items():
        layers.append(_file_layer(store, f"{BUILD_CONFIG_PATH}/env/{name}", content))
    labels = builder_labels(
        description=definition.description,
        order=order,
        buildpacks=[(buildpack, str(layer.diff_id)) for buildpack, layer in contents.buildpacks],
        run_images=definition.run_images,
        lifecycle_version=__version__,
        system=definition.system,
    )
    return _publish(store, contents.base, layers, {**labels, **contents.labels}, names)


def shipped_files(folder: Path, *, left_out: frozenset[str]) -> Iterator[tuple[str, int]]:
    """A buildpack's files in order, with modes that do not depend on who cloned it.

    Args:
        left_out: names of files and folders, wherever they are.
    """
    for directory, names, files in os.walk(folder):
        names[:] = sorted(set(names) - left_out)
        links = [name for name in names if os.path.islink(os.path.join(directory, name))]
        for name in sorted({*files, *links} - left_out):
            path = os.path.join(directory, name)
            executable = os.lstat(path).st_mode & stat.S_IXUSR
            if not name.endswith(".pyc"):
                yield os.path.relpath(path, folder), 0o755 if executable else 0o644


def stage_buildpack(source: Path, folder: Path, *, left_out: frozenset[str]) -> Buildpack:
    """Copy a buildpack's files to where the image has them, below *folder*.

    Raises:
        HakoError: its description cannot be read, or is wrong.
    """
    descriptor = source / "buildpack.toml"
    buildpack = parse_buildpack(descriptor.read_bytes(), name=str(descriptor))
    target = folder / buildpack.directory[1:]
    for path, mode in shipped_files(source, left_out=left_out):
        place = target / path
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / path, place, follow_symlinks=False)
        if not place.is_symlink():
            place.chmod(mode)
    for directory, _, _ in os.walk(folder / "cnb"):
        os.chmod(directory, 0o755)
    return buildpack


def buildpack_layer(store: Store, buildpack: Buildpack, folder: Path) -> Layer:
    """The layer of a buildpack that has been staged below *folder*."""
    return write_layer(store, _buildpack_parts(buildpack, folder), owner=_ROOT)


def program(name: str, platform: Platform) -> Path:
    """A program of `launcher/`, for that CPU.

    Raises:
        HakoError: it is not in the checkout.
    """
    file = REPOSITORY / f"launcher/bin/{name}-{platform.architecture}"
    if not file.exists():
        raise HakoError(
            f"a builder for {platform} cannot be made",
            why=f"{file} is missing; it belongs to the repository",
            fix="git checkout launcher/bin, or launcher/build",
        )
    return file


def directory(name: str) -> Directory:
    """A folder that belongs to root."""
    return Directory(name=name)


def _default_directories(user: Owner) -> Iterator[Part]:
    for name in ("/layers", "/workspace"):
        yield Directory(name=name, owner=user)
    yield from map(
        directory,
        (
            "/cnb",
            "/cnb/build-config",
            "/cnb/build-config/env",
            "/cnb/buildpacks",
            "/cnb/extensions",
            "/platform",
            "/platform/env",
        ),
    )


def _lifecycle_parts(platform: Platform) -> Iterator[Part]:
    yield directory("/cnb")
    yield directory(LIFECYCLE)
    for name in PROGRAMS:
        yield File(name=f"{LIFECYCLE}/{name}", content=program(name, platform), mode=0o755)
    yield Symlink(name="/lifecycle", target=LIFECYCLE)


def _buildpack_parts(buildpack: Buildpack, folder: Path) -> Iterator[Part]:
    for name in ("/cnb", BUILDPACKS_DIRECTORY, f"{BUILDPACKS_DIRECTORY}/{escape_id(buildpack.id)}"):
        yield directory(name)
    yield Tree(name=buildpack.directory, directory=folder / buildpack.directory[1:])


def _file_layer(store: Store, path: str, content: bytes) -> Layer:
    above = path.split("/")[1:-1]
    parts: list[Part] = [directory("/" + "/".join(above[: i + 1])) for i in range(len(above))]
    parts.append(File(name=path, content=content))
    return write_layer(store, parts, owner=_ROOT)


def _publish(
    store: Store,
    base: Image,
    layers: Sequence[Layer],
    labels: Mapping[str, str],
    names: Sequence[Reference],
) -> Image:
    config = base.config
    below = [
        Layer(blob, diff_id)
        for blob, diff_id in zip(base.manifest.layers, base.diff_ids, strict=True)
    ]
    return store.publish_image(
        config=replace(
            config,
            config=replace(
                config.config,
                labels=dict(sorted({**config.labels, **labels}.items())),
                working_dir="/layers",
                entrypoint=(),
                cmd=(),
            ),
            rootfs=replace(config.rootfs, diff_ids=()),
            history=(
                *config.history,
                *(History(created=config.created, created_by="hakobune builder") for _ in layers),
            ),
        ),
        layers=[*below, *layers],
        names=names,
    )
