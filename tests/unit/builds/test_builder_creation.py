"""Which base images a builder is made on, and what is said of those that do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from hakobune.buildpack.builder_toml import BaseSource, BuilderToml, parse_builder_toml
from hakobune.buildpack.descriptor import Buildpack, BuildpackTable
from hakobune.buildpack.target import Distribution, ImageTarget, Target
from hakobune.builds.builder_bases import (
    CreationRequest,
    base_sources,
    check_build_image,
    check_run_image,
)
from hakobune.builds.builder_creation import check_target
from hakobune.errors import HakoError, UsageError
from hakobune.oci.config import ContainerConfig, ImageConfig, RootFs, encode_config
from hakobune.oci.descriptor import CONFIG, Descriptor, encode_document
from hakobune.oci.digest import Digest
from hakobune.oci.manifest import Image, make_manifest
from hakobune.oci.platform import Platform

TOML = """
order = []
[build]
image = "mine/build"
[[run.images]]
image = "mine/run"
mirrors = ["other/run"]
[[run.images]]
image = "mine/tiny"
dockerfile = "tiny/Dockerfile"
"""
STACK = 'order = []\n[stack]\nid = "mine"\nbuild-image = "b"\nrun-image = "r"\n'
BUILD, RUN = BaseSource(image="mine/build"), BaseSource(image="mine/run")
DEBIAN_12, DEBIAN_13 = (
    ImageTarget(os="linux", arch="amd64", distro=Distribution(name="debian", version=version))
    for version in ("12", "13")
)


def definition(text: str = TOML) -> BuilderToml:
    return parse_builder_toml(text.encode(), name="builder.toml")


def request(**changes: object) -> CreationRequest:
    return CreationRequest(
        config=Path("/etc/builder.toml"),
        names=(),
        platform=Platform("linux", "amd64"),
        **changes,  # type: ignore[arg-type] # what a test says
    )


def image(*env: str, labels: dict[str, str] | None = None) -> Image:
    config = ImageConfig(
        os="linux",
        architecture="amd64",
        config=ContainerConfig(env=env, labels=labels or {}),
        rootfs=RootFs(),
    )
    raw = encode_config(config)
    blob = Descriptor(media_type=CONFIG, digest=Digest.of(raw), size=len(raw))
    return Image.from_raw(encode_document(make_manifest(blob, (), {})), raw)


USER = ("CNB_USER_ID=1001", "CNB_GROUP_ID=1000")


def test_images_come_from_where_builder_toml_says() -> None:
    build, runs = base_sources(definition(), request())

    assert build.image == "mine/build"
    assert not build.dockerfile
    assert [(run.image, run.dockerfile) for run in runs] == [
        ("mine/run", ""),
        ("mine/tiny", "tiny/Dockerfile"),
    ]


def test_dockerfiles_of_the_request_make_the_build_image_and_the_first_run_image() -> None:
    both = request(
        build_dockerfile=Path("/src/Dockerfile"),
        build_target="build",
        run_dockerfile=Path("/src/Dockerfile"),
        run_target="run",
    )

    build, (first, second) = base_sources(definition(), both)

    assert build == BaseSource(image="mine/build", dockerfile="/src/Dockerfile", target="build")
    assert first == BaseSource(image="mine/run", dockerfile="/src/Dockerfile", target="run")
    assert second.dockerfile == "tiny/Dockerfile"


def test_a_stack_can_be_made_from_dockerfiles_too() -> None:
    build, (run,) = base_sources(definition(STACK), request(build_dockerfile=Path("/a")))

    assert (build.image, build.dockerfile, run.image, run.dockerfile) == ("b", "/a", "r", "")


def test_a_stage_without_a_dockerfile_is_refused() -> None:
    with pytest.raises(UsageError, match="--run-target x is a stage"):
        base_sources(definition(), request(run_target="x"))


@pytest.mark.parametrize(
    ("env", "is_root", "why"),
    [
        (("CNB_USER_ID=1001",), False, "its variable CNB_GROUP_ID must be a number, and is ''"),
        (("CNB_USER_ID=me", USER[1]), False, "its variable CNB_USER_ID must be a number, and is 'me'"),
        (USER, True, "it runs as root; buildpacks may not"),
        (("CNB_USER_ID=0", USER[1]), False, "it runs as root; buildpacks may not"),
    ],
)  # fmt: skip
def test_an_image_that_cannot_be_a_build_image_is_refused(
    env: tuple[str, ...], is_root: bool, why: str
) -> None:
    with pytest.raises(HakoError) as refused:
        check_build_image(image(*env), BUILD, definition(), is_root=is_root)

    assert refused.value.what == "mine/build is no build image"
    assert refused.value.why == why


def test_images_of_another_stack_than_builder_toml_says_are_refused() -> None:
    label = "io.buildpacks.stack.id"
    check_build_image(image(*USER, labels={label: "mine"}), BUILD, definition(STACK), is_root=False)
    with pytest.raises(HakoError) as without:
        check_build_image(image(*USER), BUILD, definition(STACK), is_root=False)
    with pytest.raises(HakoError) as other:
        check_run_image(image(labels={label: "x"}), RUN, DEBIAN_13, BUILD, DEBIAN_13, definition(STACK))  # fmt: skip

    assert without.value.why == f"it has no label {label}"
    assert other.value.why == f"its label {label} is 'x'"


def test_a_run_image_of_another_system_or_cpu_is_refused_and_one_of_unknown_system_is_not() -> None:
    check_run_image(image(), RUN, ImageTarget(os="linux", arch="amd64"), BUILD, DEBIAN_13, definition())  # fmt: skip
    with pytest.raises(HakoError) as refused:
        check_run_image(image(), RUN, DEBIAN_12, BUILD, DEBIAN_13, definition())
    arm64 = ImageTarget(os="linux", arch="arm64")
    with pytest.raises(HakoError, match="does not fit"):
        check_run_image(image(), RUN, arm64, BUILD, DEBIAN_13, definition())

    assert refused.value.what == "the run image mine/run does not fit the build image mine/build"
    assert (
        "linux/amd64 (debian 12), the build image is linux/amd64 (debian 13)" in refused.value.why
    )


def test_a_buildpack_for_another_system_is_refused() -> None:
    table = BuildpackTable(id="a", version="1")
    fits = Buildpack(api="0.10", buildpack=table, targets=(Target(os="linux"),))
    foreign = Buildpack(api="0.10", buildpack=table, targets=(Target(os="linux", arch="arm64"),))

    check_target(fits, DEBIAN_13, "mine/build")
    with pytest.raises(HakoError) as refused:
        check_target(foreign, DEBIAN_13, "mine/build")

    assert refused.value.why == "it is for linux/arm64; the build image is linux/amd64 (debian 13)"
