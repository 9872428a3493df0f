from __future__ import annotations

from pathlib import Path

import pytest

from hakobune.builds.image_extension import (
    Extension,
    Kind,
    check_extension,
    describe_extension,
    read_extension,
)
from hakobune.dockerfile.errors import DockerfileError
from hakobune.oci import descriptor as media
from hakobune.oci.config import ContainerConfig, ImageConfig, RootFs, encode_config
from hakobune.oci.descriptor import Descriptor, encode_document
from hakobune.oci.digest import Digest
from hakobune.oci.manifest import Image, Manifest
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference

RUN = Reference.parse("hako/base-run:13")
DEBIAN_13 = b'ID=debian\nVERSION_ID="13"\n'


def an_image(
    *layers: int,
    version: str = "13",
    user: str = "1002:1000",
    arch: str = "",
    builder: bool = False,
) -> Image:
    """An image of Debian with layers of these sizes; no *version*: without labels."""
    labels = {"io.buildpacks.base.distro.name": "debian", "io.buildpacks.base.distro.version": version}  # fmt: skip
    if builder:
        labels["io.buildpacks.builder.metadata"] = "{}"
    blobs = [
        Descriptor(media_type=media.LAYER_GZIP, digest=Digest.of(str(n).encode()), size=n)
        for n in layers
    ]
    config = encode_config(
        ImageConfig(
            os="linux",
            architecture=arch or Platform.host().architecture,
            config=ContainerConfig(user=user, labels=labels if version else {}),
            rootfs=RootFs(type="layers", diff_ids=tuple(blob.digest for blob in blobs)),
        )
    )
    manifest = Manifest(
        schema_version=2,
        media_type=media.MANIFEST,
        config=Descriptor(media_type=media.CONFIG, digest=Digest.of(config), size=len(config)),
        layers=tuple(blobs),
    )
    return Image.from_raw(encode_document(manifest), config)


def read(folder: Path, text: str, kind: Kind = Kind.RUN) -> Extension:
    (folder / kind.file).write_text(text)
    found = read_extension(folder, kind, RUN)
    assert found is not None
    return found


def check(extension: Extension, base: Image, *, os_release: bytes | None = None, **more: bool) -> None:  # fmt: skip
    check_extension(
        extension,
        base,
        base_os_release=os_release,
        given=RUN,
        given_user="1002:1000",
        build_image=an_image(),
        allow_root=more.get("allow_root", False),
    )


def refused(extension: Extension, base: Image, **more: bytes) -> DockerfileError:
    with pytest.raises(DockerfileError) as raised:
        check(extension, base, **more)
    return raised.value


def test_a_folder_without_one_has_none(tmp_path: Path) -> None:
    assert read_extension(tmp_path, Kind.RUN, RUN) is None


@pytest.mark.parametrize(
    "head",
    [
        "FROM hako/base-run:13",
        "ARG base_image\nFROM ${base_image}",
        "FROM ${base_image:-x} AS base\nFROM base",
    ],
)
def test_the_image_to_extend_is_named_or_given(tmp_path: Path, head: str) -> None:
    text = head.replace("FROM ${base_image:-x}", "ARG base_image\nFROM ${base_image:-x}")

    extension = read(tmp_path, f"{text}\nUSER root\nRUN apt-get install -y jq\nUSER cnb\n")

    assert extension.base == RUN
    assert extension.user is not None
    assert extension.user.user == "cnb"
    check(extension, an_image())


def test_the_line_of_a_base_of_another_system_is_named(tmp_path: Path) -> None:
    extension = read(tmp_path, "# packages\nFROM hako/base-run:12\nRUN x\n")

    error = refused(extension, an_image(version="12"))

    assert error.what == "run.Dockerfile:2: hako/base-run:12 is no base for this builder"
    assert "(debian 12)" in error.why
    assert "(debian 13)" in error.why
    assert error.fix == "FROM hako/base-run:13"


def test_a_base_for_another_processor_is_refused(tmp_path: Path) -> None:
    assert "riscv64" in refused(read(tmp_path, "FROM other\n"), an_image(arch="riscv64")).why


def test_a_base_without_labels_is_known_by_its_os_release(tmp_path: Path) -> None:
    extension = read(tmp_path, "FROM other\n")

    check(extension, an_image(version=""), os_release=DEBIAN_13)
    error = refused(extension, an_image(version=""), os_release=b"ID=alpine\nVERSION_ID=3.20\n")
    assert "(alpine 3.20)" in error.why
    assert refused(extension, an_image(version="")).line == 1


@pytest.mark.parametrize("user", ["root", "0", "0:0", "root:root"])
def test_a_run_image_that_ends_as_root_is_refused_at_that_line(tmp_path: Path, user: str) -> None:
    extension = read(tmp_path, f"FROM hako/base-run:13\nUSER {user}\nRUN x\n")

    error = refused(extension, an_image())

    assert error.what == "run.Dockerfile:2: the app would run as root"
    assert error.fix == "end the file with USER 1002:1000, or allow it with --allow-root"
    check(extension, an_image(), allow_root=True)


def test_a_base_that_runs_as_root_needs_a_user(tmp_path: Path) -> None:
    error = refused(read(tmp_path, "FROM other\nRUN x\n"), an_image(user=""))

    assert (error.line, error.why) == (1, "other runs as root")
    check(read(tmp_path, "FROM other\nUSER 1002\n"), an_image(user=""))


def test_a_build_image_may_end_as_root_but_must_hold_buildpacks(tmp_path: Path) -> None:
    extension = read(tmp_path, "FROM x\nUSER root\n", Kind.BUILD)

    check(extension, an_image(builder=True))
    assert refused(extension, an_image()).what == "build.Dockerfile:1: x is no builder"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("FROM hako/base-run:13\nRUN x\nUSER\n", "run.Dockerfile:3: USER needs a value"),
        ("FROM scratch\n", "run.Dockerfile:1: run.Dockerfile starts from nothing, not from a run image"),
        ("FROM $base_image\n", "run.Dockerfile:1: the base image $base_image is empty"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line_before_anything_is_built(
    tmp_path: Path, text: str, what: str
) -> None:
    with pytest.raises(DockerfileError) as raised:
        read(tmp_path, text)

    assert raised.value.what == what


def test_only_what_is_new_counts_as_the_extension(tmp_path: Path) -> None:
    extension = read(tmp_path, "FROM hako/base-run:13\n")
    base = an_image(30_000_000)

    assert describe_extension(extension, an_image(30_000_000, 14_200_000), base) == (
        "run image extended by run.Dockerfile: 1 layer, 14 MB"
    )
    assert describe_extension(extension, an_image(30_000_000, 1_000_000, 2_000_000), base) == (
        "run image extended by run.Dockerfile: 2 layers, 3 MB"
    )
