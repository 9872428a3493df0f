"""Reading builder images, whoever made them (CNB distribution.md "Builder"). `default_builder` makes ours."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path

import msgspec

from hakobune.buildpack.builder_labels import read_builder_labels
from hakobune.buildpack.descriptor import (
    BUILDPACKS_DIRECTORY,
    Buildpack,
    Order,
    escape_id,
    parse_buildpack,
)
from hakobune.buildpack.order import Catalog, SystemBuildpacks, resolve_order
from hakobune.buildpack.run_image import RunImage
from hakobune.errors import HakoError
from hakobune.oci.manifest import Image
from hakobune.oci.merged import find
from hakobune.oci.snapshot import stacked_dirs
from hakobune.oci.store import Store


class Builder(msgspec.Struct, frozen=True, kw_only=True):
    """A builder image and what it says.

    Attributes:
        order: with every version filled in.
        uid, gid: of the user that runs the buildpacks (`CNB_USER_ID`, `CNB_GROUP_ID`).
        run_images: the default first; names and mirrors.
    """

    image: Image
    order: Order
    buildpacks: tuple[Buildpack, ...]
    run_images: tuple[RunImage, ...]
    system: SystemBuildpacks
    uid: int
    gid: int

    @property
    def catalog(self) -> Catalog:
        return Catalog.of(self.buildpacks)


def read_builder(store: Store, image: Image, *, name: str) -> Builder:
    """What the builder *image* holds; its buildpacks' descriptions are read from its layers.

    Raises:
        HakoError: it is no builder, its user is not said, or its order names buildpacks that it lacks.
    """
    labels = read_builder_labels(image.config.labels, image=name)
    trees = stacked_dirs(store.snapshots(image))
    buildpacks = tuple(
        read_buildpack(trees, buildpack_id, version, name)
        for buildpack_id, versions in labels.layers.items()
        for version in versions
    )
    return Builder(
        image=image,
        order=resolve_order(labels.order, Catalog.of(buildpacks)),
        buildpacks=buildpacks,
        run_images=labels.run_images,
        system=labels.system,
        uid=user_id(image, "CNB_USER_ID", name),
        gid=user_id(image, "CNB_GROUP_ID", name),
    )


def read_buildpack(trees: Sequence[Path], buildpack_id: str, version: str, image: str) -> Buildpack:
    """The description of a buildpack that *image*, whose folders are *trees*, has by its labels.

    Raises:
        HakoError: it is not there, or wrong.
    """
    path = f"{BUILDPACKS_DIRECTORY}/{escape_id(buildpack_id)}/{version}/buildpack.toml"
    shown = find(trees, path[1:])
    if shown is None or not stat.S_ISREG(shown.status.st_mode):
        raise HakoError(
            f"{image} is damaged",
            why=f"its labels name {buildpack_id} {version}, but {path} is not in it",
            fix="make it again",
        )
    return parse_buildpack(Path(shown.path).read_bytes(), name=f"{image}:{path}")


def user_id(image: Image, variable: str, name: str) -> int:
    """What the build image says of its user in `CNB_USER_ID` or `CNB_GROUP_ID`.

    Raises:
        HakoError: it does not say.
    """
    value = image.config.env.get(variable, "")
    if not value.isdecimal():
        raise HakoError(
            f"{name} cannot be used to build",
            why=f"its variable {variable} must be a number, and is {value!r}",
            fix=f'set {variable} in the build image (CNB platform.md "Build Image")',
        )
    return int(value)
