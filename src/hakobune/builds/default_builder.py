"""The default builder image, made from `builders/debian/builder.toml` on first need."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from hakobune import __version__
from hakobune.buildpack.builder import (
    BUILD_CONFIG_PATH,
    ORDER_PATH,
    RUN_PATH,
    SYSTEM_PATH,
    BuilderToml,
    build_config_files,
    builder_labels,
    encode_order,
    encode_run,
    encode_system,
    parse_builder_toml,
)
from hakobune.buildpack.descriptor import (
    BUILDPACKS_DIRECTORY,
    Buildpack,
    escape_id,
    parse_buildpack,
)
from hakobune.buildpack.order import Catalog, SystemBuildpacks, resolve_order
from hakobune.builds.base import DEFINITION, base_inputs, ensure_base_images
from hakobune.builds.bootstrap import BUILD_UID, GROUP_ID, compile_python, scratch
from hakobune.builds.builder import Builder, read_builder
from hakobune.builds.request import DEFAULT_BUILDER
from hakobune.errors import HakoError
from hakobune.oci.config import History
from hakobune.oci.digest import Digest
from hakobune.oci.layer import Directory, File, Layer, Owner, Part, Symlink, Tree, write_layer
from hakobune.oci.manifest import Image
from hakobune.oci.platform import Platform
from hakobune.oci.snapshot import stacked_dirs
from hakobune.oci.store import Store
from hakobune.progress import Progress
from hakobune.support.locks import exclusive

INPUTS_LABEL: Final = "io.hakobune.builder.inputs"
LIFECYCLE: Final = "/cnb/lifecycle"
# What `launcher/` builds: the entry point of every app image, and a helper that buildpacks put into exec.d.
PROGRAMS: Final = ("launcher", "port-adapter")
REPOSITORY: Final = Path(__file__).parents[3]
# Changes when this module makes another image of the same inputs.
RECIPE: Final = 1

_ROOT: Final = Owner(0, 0)
_BUILD_USER: Final = Owner(BUILD_UID, GROUP_ID)
_NOT_SHIPPED: Final = frozenset(
    {"tests", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache"}
)


def ensure_default_builder(
    store: Store, home: Path, progress: Progress, *, folder: Path = DEFINITION
) -> Builder:
    """The default builder, made on first need and again when anything that it is made of has changed.

    Args:
        folder: where `builder.toml` is; the buildpacks' places are relative to it.

    Raises:
        HakoError: the base images or the builder cannot be made.
    """
    file = folder / "builder.toml"
    definition = parse_builder_toml(file.read_bytes(), name=str(file))
    buildpacks = tuple((folder / source.uri).resolve() for source in definition.buildpacks)
    inputs = _inputs(file, buildpacks)
    image = _find(store, inputs)
    if image is None:
        with exclusive(home / "cache/builder.lock", waiting=lambda: _say_waiting(progress)):
            image = _find(store, inputs) or _make(
                store, home, progress, definition, buildpacks, inputs
            )
    return read_builder(store, image, name=DEFAULT_BUILDER.short)


def _say_waiting(progress: Progress) -> None:
    progress.step("waiting for another process that makes the builder")


def _find(store: Store, inputs: Digest) -> Image | None:
    image = store.find_image(DEFAULT_BUILDER)
    if image is None or image.config.labels.get(INPUTS_LABEL) != str(inputs):
        return None
    return image


def _inputs(definition: Path, buildpacks: Sequence[Path]) -> Digest:
    """Everything that the builder is made of, as one digest."""
    parts = [f"{RECIPE} {__version__} {base_inputs()}".encode()]
    files = (definition, REPOSITORY / "scripts/uv.txt", *map(_program, PROGRAMS))
    parts += [file.read_bytes() for file in files]
    for folder in buildpacks:
        for path, mode in _shipped_files(folder):
            parts += [f"{folder.name}/{path} {mode:o}".encode(), (folder / path).read_bytes()]
    return Digest.of(b"".join(bytes.fromhex(Digest.of(part).hex) for part in parts))


def _shipped_files(folder: Path) -> Iterator[tuple[str, int]]:
    """A buildpack's files in order, with modes that do not depend on who cloned it."""
    for directory, names, files in os.walk(folder):
        names[:] = sorted(set(names) - _NOT_SHIPPED)
        for name in sorted(files):
            path = os.path.join(directory, name)
            executable = os.lstat(path).st_mode & stat.S_IXUSR
            if not name.endswith(".pyc"):
                yield os.path.relpath(path, folder), 0o755 if executable else 0o644


def _program(name: str) -> Path:
    """A program of `launcher/`, for this machine's CPU.

    Raises:
        HakoError: it is not in the checkout.
    """
    file = REPOSITORY / f"launcher/bin/{name}-{Platform.host().architecture}"
    if not file.exists():
        raise HakoError(
            "the builder cannot be made",
            why=f"{file} is missing; it belongs to the repository",
            fix="git checkout launcher/bin, or launcher/build",
        )
    return file


def _make(
    store: Store,
    home: Path,
    progress: Progress,
    definition: BuilderToml,
    sources: Sequence[Path],
    inputs: Digest,
) -> Image:
    base = ensure_base_images(store, home, progress).build
    begun = time.monotonic()
    progress.phase(
        "Builder", f"{len(definition.buildpacks)} buildpacks on {definition.build_image}"
    )
    layers = [
        write_layer(store, _default_directories(), owner=_ROOT),
        write_layer(store, _lifecycle_parts(), owner=_ROOT),
        write_layer(store, _uv_parts(), owner=_ROOT),
    ]
    with scratch(home / "cache", "builder") as folder:
        buildpacks = [_stage_buildpack(source, folder) for source in sources]
        compile_python(
            stacked_dirs(store.snapshots(base)),
            folder / "cnb",
            Path("/cnb"),
            folder,
        )
        described = []
        for buildpack in buildpacks:
            layer = write_layer(store, _buildpack_parts(buildpack, folder), owner=_ROOT)
            described.append((buildpack, str(layer.diff_id)))
            layers.append(layer)
            progress.step(buildpack.full_name)
    order = resolve_order(definition.order, Catalog.of(buildpacks))
    layers.append(_file_layer(store, ORDER_PATH, encode_order(order)))
    layers.append(_file_layer(store, RUN_PATH, encode_run(definition.run_images)))
    if definition.system != SystemBuildpacks():
        layers.append(_file_layer(store, SYSTEM_PATH, encode_system(definition.system)))
    for name, content in build_config_files(definition.build_env).items():
        layers.append(_file_layer(store, f"{BUILD_CONFIG_PATH}/env/{name}", content))
    labels = builder_labels(
        description=definition.description,
        order=order,
        buildpacks=described,
        run_images=definition.run_images,
        lifecycle_version=__version__,
        system=definition.system,
    )
    image = _publish(store, base, layers, labels | {INPUTS_LABEL: str(inputs)})
    store.snapshots(image)
    progress.step(f"builder made in {time.monotonic() - begun:.1f} s")
    return image


def _default_directories() -> Iterator[Part]:
    for name in ("/layers", "/workspace"):
        yield Directory(name=name, owner=_BUILD_USER)
    yield from map(
        _directory,
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


def _directory(name: str) -> Directory:
    return Directory(name=name)


def _lifecycle_parts() -> Iterator[Part]:
    yield _directory("/cnb")
    yield _directory(LIFECYCLE)
    for name in PROGRAMS:
        yield File(name=f"{LIFECYCLE}/{name}", content=_program(name), mode=0o755)
    yield Symlink(name="/lifecycle", target=LIFECYCLE)


def _uv_parts() -> Iterator[Part]:
    """The installer of Python packages: the one that set up our own environment, pinned by `scripts/uv.txt`."""
    uv = Path(sys.prefix) / "bin/uv"
    if not uv.exists():
        raise HakoError(
            "the builder cannot be made", why=f"{uv} is missing", fix="scripts/bootstrap true"
        )
    for name in ("/usr", "/usr/local", "/usr/local/bin"):
        yield _directory(name)
    yield File(name="/usr/local/bin/uv", content=uv, mode=0o755)


def _stage_buildpack(source: Path, folder: Path) -> Buildpack:
    """Copy a buildpack's files to where the image has them, below *folder*."""
    descriptor = source / "buildpack.toml"
    buildpack = parse_buildpack(descriptor.read_bytes(), name=str(descriptor))
    target = folder / buildpack.directory[1:]
    for path, mode in _shipped_files(source):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / path, target / path)
        (target / path).chmod(mode)
    for directory, _, _ in os.walk(folder / "cnb"):
        os.chmod(directory, 0o755)
    return buildpack


def _buildpack_parts(buildpack: Buildpack, folder: Path) -> Iterator[Part]:
    for name in ("/cnb", BUILDPACKS_DIRECTORY, f"{BUILDPACKS_DIRECTORY}/{escape_id(buildpack.id)}"):
        yield _directory(name)
    yield Tree(name=buildpack.directory, directory=folder / buildpack.directory[1:])


def _file_layer(store: Store, path: str, content: bytes) -> Layer:
    above = path.split("/")[1:-1]
    parts: list[Part] = [_directory("/" + "/".join(above[: i + 1])) for i in range(len(above))]
    parts.append(File(name=path, content=content))
    return write_layer(store, parts, owner=_ROOT)


def _publish(store: Store, base: Image, layers: Sequence[Layer], labels: dict[str, str]) -> Image:
    config = base.config
    below = [
        Layer(blob, diff_id)
        for blob, diff_id in zip(base.manifest.layers, base.diff_ids, strict=True)
    ]
    return store.publish_image(
        config=msgspec.structs.replace(
            config,
            config=msgspec.structs.replace(
                config.config,
                labels=dict(sorted({**config.labels, **labels}.items())),
                working_dir="/layers",
            ),
            rootfs=msgspec.structs.replace(config.rootfs, diff_ids=()),
            history=(
                *config.history,
                *(History(created=config.created, created_by="hakobune builder") for _ in layers),
            ),
        ),
        layers=[*below, *layers],
        names=(DEFAULT_BUILDER,),
    )
