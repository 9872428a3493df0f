"""The base images of Debian 13: build, run and tiny, made from packages on first need and kept in the store."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from hakobune.builds.base_definition import (
    DEFINITION,
    LOCK_FILE,
    Definition,
    base_inputs,
    check_architecture,
)
from hakobune.builds.base_layers import BaseLayers, make_layers
from hakobune.builds.base_packages import fetch_locked
from hakobune.builds.base_tree import BUILD_UID, GROUP_ID, RUN_UID
from hakobune.builds.package_lock import PackageLock, parse_lock
from hakobune.builds.platform_names import name_for_platform
from hakobune.builds.scratch import scratch
from hakobune.distribution.transfer import find_local
from hakobune.errors import HakoError
from hakobune.oci.blobs import room_for
from hakobune.oci.config import ContainerConfig, History, ImageConfig, RootFs
from hakobune.oci.digest import Digest
from hakobune.oci.layer import Layer
from hakobune.oci.manifest import Image
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from hakobune.progress import Progress
from hakobune.runtime.emulation import check_can_run
from hakobune.support.locks import exclusive

BUILD_IMAGE: Final = Reference.parse("hako/base-build:13")
RUN_IMAGE: Final = Reference.parse("hako/base-run:13")
TINY_IMAGE: Final = Reference.parse("hako/base-tiny:13")
OURS: Final = (BUILD_IMAGE, RUN_IMAGE, TINY_IMAGE)
INPUTS_LABEL: Final = "io.hakobune.base.inputs"
PATH: Final = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TOOLS: Final = {
    "mmdebstrap": "mmdebstrap",
    "dpkg-deb": "dpkg",
    "setpriv": "util-linux",
    "unshare": "util-linux",
}
# The downloads, the trees while they are made, and the compressed layers.
NEEDED_BYTES: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class BaseImages:
    """The three images. Layers: `run` and `tiny` have one; `build` is run's and one more."""

    build: Image
    run: Image
    tiny: Image


def ensure_base_images(
    store: Store,
    home: Path,
    progress: Progress,
    *,
    folder: Path = DEFINITION,
    platform: Platform | None = None,
) -> BaseImages:
    """The base images for a CPU, made from Debian's packages if they are not in *store*.

    Downloaded packages stay in `cache/apt` below *home*, so that making the images again needs no network.
    Processes that need them at once make them once.

    Args:
        folder: where `base.toml` and `packages.lock` are.
        platform: by default this machine's. Each has images of its own under the same names, which are indexes then.

    Raises:
        ForeignPlatformError: the kernel does not run its programs.
        HakoError: there are no packages for it, a tool is missing, the packages cannot be downloaded, the disk is full, or the bootstrap failed.
    """
    definition = Definition.read(folder)
    platform = platform or Platform.host()
    check_architecture(platform)
    inputs = base_inputs(folder, platform)
    if found := _find(store, inputs, platform):
        return found
    with exclusive(home / "cache/base.lock", waiting=lambda: _say_waiting(progress)):
        if found := _find(store, inputs, platform):
            return found
        _check_machine(home)
        check_can_run(platform, name="the base images to be made")
        with room_for("the base images", home):
            return _make(store, home, progress, definition, folder / LOCK_FILE, inputs, platform)


def _say_waiting(progress: Progress) -> None:
    progress.step("waiting for another process that makes the base images")


def _foreign(platform: Platform) -> str:
    """What makes it take minutes."""
    return (
        ""
        if platform.matches(Platform.host())
        else f" for {platform} (emulated: this takes minutes, once)"
    )


def _check_machine(home: Path) -> None:
    """Say before the first minute is spent that it would be in vain."""
    if os.geteuid() != 0:
        raise HakoError(
            "the base images cannot be made",
            why="only root may give files to other users and mount file systems",
            fix="sudo ./hako …",
        )
    for tool, package in TOOLS.items():
        if shutil.which(tool) is None:
            raise HakoError(
                "the base images cannot be made",
                why=f"{tool} is not installed",
                fix=f"apt-get install -y {package}",
            )
    free = shutil.disk_usage(home).free
    if free < NEEDED_BYTES:
        raise HakoError(
            "the base images cannot be made",
            why=f"they take {NEEDED_BYTES / 1e9:.1f} GB, and {home} has {free / 1e9:.1f} GB left",
            fix="make room there, or set HAKO_HOME to a folder on a larger disk",
        )


def _find(store: Store, inputs: Digest, platform: Platform) -> BaseImages | None:
    images = [find_local(store, name, platform) for name in (BUILD_IMAGE, RUN_IMAGE, TINY_IMAGE)]
    current = [
        image
        for image in images
        if image is not None and image.config.labels.get(INPUTS_LABEL) == str(inputs)
    ]
    return BaseImages(*current) if len(current) == len(images) else None


def _make(
    store: Store,
    home: Path,
    progress: Progress,
    definition: Definition,
    lock_file: Path,
    inputs: Digest,
    platform: Platform,
) -> BaseImages:
    begun = time.monotonic()
    architecture = platform.architecture
    cache = home / "cache/apt"
    lock = parse_lock(lock_file.read_text(), architecture)
    megabytes = lock.size_bytes / 1e6
    progress.phase(
        "Base images",
        f"Debian {definition.version}{_foreign(platform)} from {len(lock.packages)} packages ({megabytes:.0f} MB)",
    )
    lock, files = fetch_locked(lock, definition.archive, architecture, cache, progress)
    with scratch(home / "cache", "base") as folder:
        layers = make_layers(
            store, definition.tree_plan(lock.epoch, architecture), lock, files, folder, progress
        )
    images = _publish(store, definition, lock, layers, architecture, inputs)
    sizes = ", ".join(
        f"{name} {sum(layer.size for layer in image.manifest.layers) / 1e6:.0f} MB"
        for name, image in (("build", images.build), ("run", images.run), ("tiny", images.tiny))
    )
    progress.step(f"base images made in {time.monotonic() - begun:.1f} s: {sizes} compressed")
    return images


def _publish(
    store: Store,
    definition: Definition,
    lock: PackageLock,
    layers: BaseLayers,
    architecture: str,
    inputs: Digest,
) -> BaseImages:
    made = _ImageMaker(
        store, definition, datetime.fromtimestamp(lock.epoch, UTC), architecture, inputs
    )
    return BaseImages(
        build=made.image(
            BUILD_IMAGE,
            "build image: a compiler, git and Python on the run image",
            (layers.run, layers.build),
            user=f"{BUILD_UID}:{GROUP_ID}",
            env=(
                f"CNB_USER_ID={BUILD_UID}",
                f"CNB_GROUP_ID={GROUP_ID}",
                f"CNB_STACK_ID={definition.stack}",
            ),
        ),
        run=made.image(
            RUN_IMAGE,
            "run image: the essential system, apt and common libraries",
            (layers.run,),
            user=f"{RUN_UID}:{GROUP_ID}",
            labels={"io.buildpacks.base.id": "io.hakobune.run", "io.buildpacks.rebasable": "true"},
        ),
        tiny=made.image(
            TINY_IMAGE,
            "run image without shell and package manager",
            (layers.tiny,),
            user=f"{RUN_UID}:{GROUP_ID}",
            labels={"io.buildpacks.base.id": "io.hakobune.tiny", "io.buildpacks.rebasable": "true"},
        ),
    )


@dataclass(frozen=True, slots=True)
class _ImageMaker:
    """Publishes images that share origin and dates (CNB platform.md "Build Image", "Run Image")."""

    store: Store
    definition: Definition
    created: datetime
    architecture: str
    inputs: Digest

    def image(
        self,
        name: Reference,
        description: str,
        layers: tuple[Layer, ...],
        *,
        user: str,
        env: tuple[str, ...] = (),
        labels: Mapping[str, str] = {},
    ) -> Image:
        created = self.created.strftime("%Y-%m-%dT%H:%M:%SZ")
        config = ImageConfig(
            created=created,
            architecture=self.architecture,
            os="linux",
            config=ContainerConfig(
                user=user,
                env=(PATH, "LANG=C.UTF-8", *env),
                labels=dict(sorted({**self._labels(description, created), **labels}.items())),
            ),
            rootfs=RootFs(),
            history=tuple(
                History(created=created, created_by="hakobune base image") for _ in layers
            ),
        )
        image = self.store.publish_image(config=config, layers=layers)
        name_for_platform(self.store, image, name)
        return image

    def _labels(self, description: str, released: str) -> dict[str, str]:
        stack, version = self.definition.stack, self.definition.version
        return {
            "io.buildpacks.base.maintainer": "Hakobune",
            "io.buildpacks.base.description": f"Debian {version}, {description}",
            "io.buildpacks.base.released": released[:10],
            "io.buildpacks.base.distro.name": "debian",
            "io.buildpacks.base.distro.version": version,
            "io.buildpacks.stack.id": stack,
            "io.buildpacks.stack.distro.name": "debian",
            "io.buildpacks.stack.distro.version": version,
            INPUTS_LABEL: str(self.inputs),
        }
