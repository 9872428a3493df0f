"""Reading builder images, whoever made them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from hakobune.buildpack.builder_labels import builder_labels
from hakobune.buildpack.descriptor import Buildpack, BuildpackTable, GroupElement, OrderGroup
from hakobune.buildpack.run_image import RunImage
from hakobune.builds.builder import read_builder
from hakobune.errors import HakoError
from hakobune.oci.config import ContainerConfig, ImageConfig, RootFs
from hakobune.oci.layer import File, Owner, write_layer
from hakobune.oci.manifest import Image
from hakobune.oci.store import Store

BUILDPACK = Buildpack(api="0.10", buildpack=BuildpackTable(id="a/b", version="1.0", name="B"))
ORDER = (OrderGroup(group=(GroupElement(id="a/b"),)),)
USER = ("CNB_USER_ID=1000", "CNB_GROUP_ID=1001")
FILE = "/cnb/buildpacks/a_b/1.0/buildpack.toml"
TOML = b'api = "0.10"\n[buildpack]\nid = "a/b"\nversion = "1.0"\nname = "B"\nclear-env = true\n'


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path) as store:
        yield store


def labels(run_images: tuple[RunImage, ...] = (RunImage(image="run"),)) -> Mapping[str, str]:
    return builder_labels(
        description="",
        order=ORDER,
        buildpacks=((BUILDPACK, "sha256:" + "0" * 64),),
        run_images=run_images,
        lifecycle_version="1.0",
    )


def an_image(
    store: Store, labels: Mapping[str, str], *, env: tuple[str, ...] = USER, path: str = FILE
) -> Image:
    layer = write_layer(store, [File(name=path, content=TOML)], owner=Owner(0, 0))
    config = ImageConfig(
        os="linux",
        architecture="amd64",
        config=ContainerConfig(env=env, labels=labels),
        rootfs=RootFs(),
    )
    return store.publish_image(config=config, layers=[layer])


def test_a_builder_is_read_from_its_labels_and_its_buildpacks_files(store: Store) -> None:
    builder = read_builder(store, an_image(store, labels()), name="mine")

    assert (builder.uid, builder.gid) == (1000, 1001)
    assert [run.image for run in builder.run_images] == ["run"]
    # The label does not have this key: the file has been read.
    assert [b.buildpack.clear_env for b in builder.buildpacks] == [True]


def test_an_order_without_versions_gets_them(store: Store) -> None:
    builder = read_builder(store, an_image(store, labels()), name="mine")

    assert [[str(e) for e in group.group] for group in builder.order] == [["a/b 1.0"]]


def test_an_ordinary_image_is_no_builder(store: Store) -> None:
    with pytest.raises(HakoError, match="mine is not a builder"):
        read_builder(store, an_image(store, {}), name="mine")


@pytest.mark.parametrize("env", [(), ("CNB_USER_ID=cnb", "CNB_GROUP_ID=1000")])
def test_a_builder_must_say_who_builds(store: Store, env: tuple[str, ...]) -> None:
    with pytest.raises(HakoError) as caught:
        read_builder(store, an_image(store, labels(), env=env), name="mine")

    assert caught.value.what == "mine cannot be used to build"
    assert caught.value.why.startswith("its variable CNB_USER_ID must be a number, and is ")


def test_a_builder_without_a_buildpack_that_it_names_is_damaged(store: Store) -> None:
    image = an_image(store, labels(), path="/cnb/other")

    with pytest.raises(HakoError) as caught:
        read_builder(store, image, name="mine")

    assert caught.value.why == f"its labels name a/b 1.0, but {FILE} is not in it"
