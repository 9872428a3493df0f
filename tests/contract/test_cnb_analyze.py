"""CNB platform.md "analyzer", "Target data": one test a MUST."""

import tomllib
from pathlib import Path

import msgspec
import pytest

from hakobune.buildpack.run_image import RunImage
from hakobune.buildpack.target import Distribution, ImageTarget
from hakobune.lifecycle.analyze import (
    Analyzed,
    analyze,
    image_target,
    parse_os_release,
    write_analyzed,
)
from hakobune.lifecycle.errors import AnalyzeError
from hakobune.oci.manifest import Image
from hakobune.oci.reference import Reference
from hakobune.progress import RecordedProgress
from tests.lifecycle_world import APP, RUN, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.at(tmp_path)


def look(
    world: World,
    *,
    run: Reference = RUN,
    build_image: Image | None = None,
    os_release: bytes | None = None,
    progress: RecordedProgress | None = None,
) -> Analyzed:
    return analyze(
        world.store,
        previous=APP,
        run=RunImage(image="hako/base-run:13"),
        run_reference=run,
        build_image=build_image,
        os_release=os_release,
        exec_env="production",
        progress=progress or RecordedProgress(),
    )


def test_a_missing_previous_image_is_fine_and_said(world: World) -> None:
    progress = RecordedProgress()

    analyzed = look(world, progress=progress)

    assert analyzed.previous is None
    assert analyzed.metadata is None
    assert progress.events == [
        ("phase", "ANALYZING"),
        ("step", "Image with name 'hako/apps/shop' not found"),
    ]


def test_the_previous_image_gives_its_metadata(world: World) -> None:
    world.add_buildpack("a")
    image = world.build().exported.image

    analyzed = look(world)

    assert analyzed.previous == image
    assert analyzed.metadata is not None
    assert analyzed.metadata.app[0].sha == str(image.diff_ids[2])


def test_a_label_that_cannot_be_read_is_ignored(world: World) -> None:
    world.publish_run_image(name=APP, labels={"io.buildpacks.lifecycle.metadata": "{"})

    assert look(world).previous is not None
    assert look(world).metadata is None


def test_a_corrupt_previous_image_is_ignored_and_said(world: World) -> None:
    world.add_buildpack("a")
    image = world.build().exported.image
    world.store.blob_path(image.manifest.config.digest).write_bytes(b"{}")
    progress = RecordedProgress()

    analyzed = look(world, progress=progress)

    assert analyzed.previous is None
    assert "Ignoring image 'hako/apps/shop' because it was corrupt" in progress.texts("note")[0]


def test_a_missing_run_image_is_error_32(world: World) -> None:
    with pytest.raises(AnalyzeError, match="the run image other/run cannot be found") as caught:
        look(world, run=Reference.parse("other/run"))

    assert caught.value.exit_code == 32


def test_the_target_comes_from_the_run_images_config_and_labels(world: World) -> None:
    assert look(world).target == ImageTarget(
        os="linux", arch="amd64", distro=Distribution(name="debian", version="13")
    )


def test_a_run_image_without_distribution_labels_gets_the_build_containers(world: World) -> None:
    world.publish_run_image(labels={"io.buildpacks.base.id": "t"})

    target = look(world, os_release=b'ID=ubuntu\nVERSION_ID="24.04"\n').target

    assert target.distro == Distribution(name="ubuntu", version="24.04")
    assert target.id == "t"


@pytest.mark.parametrize("text", [b"", b"PRETTY_NAME=x\n", b"ID=\n"])
def test_an_os_release_without_an_id_names_no_distribution(text: bytes) -> None:
    assert parse_os_release(text) is None


def test_a_run_image_for_another_processor_than_the_builders_is_refused_naming_both(
    world: World,
) -> None:
    build_image = world.publish_run_image(name=Reference.parse("b"), architecture="arm64")

    with pytest.raises(AnalyzeError) as caught:
        look(world, build_image=build_image)

    assert caught.value.why == (
        "it is linux/amd64 (debian 13), the builder's build image is linux/arm64 (debian 13)"
    )


def test_a_run_image_of_another_distribution_is_refused_naming_both_and_their_stacks(
    world: World,
) -> None:
    labels = {
        "io.buildpacks.base.distro.name": "ubuntu",
        "io.buildpacks.base.distro.version": "24.04",
        "io.buildpacks.stack.id": "noble",
    }
    build_image = world.publish_run_image(name=Reference.parse("b"), labels=labels)

    with pytest.raises(AnalyzeError, match=r"ubuntu 24\.04\) with the stack id 'noble'"):
        look(world, build_image=build_image)


def test_bases_without_distribution_labels_agree(world: World) -> None:
    build_image = world.publish_run_image(name=Reference.parse("b"), labels={})

    assert look(world, build_image=build_image).target.os == "linux"


def test_analyzed_toml_holds_images_metadata_and_target(world: World) -> None:
    world.add_buildpack("a")
    image = world.build().exported.image
    analyzed = look(world)
    environment = world.container()

    write_analyzed(environment, analyzed, layers="/layers")

    document = tomllib.loads(environment.read_text("/layers/analyzed.toml") or "")
    assert document["image"] == {"reference": str(image.digest)}
    assert document["run-image"] == {
        "reference": f"docker.io/hako/base-run@{analyzed.run_image.digest}",
        "image": "hako/base-run:13",
        "target": {
            "os": "linux",
            "arch": "amd64",
            "distro": {"name": "debian", "version": "13"},
        },
    }
    assert document["metadata"]["run-image"]["top-layer"] == str(image.diff_ids[0])
    assert document["metadata"]["process-types"] == {"sha": ""}


def test_analyzed_toml_without_a_previous_image_has_an_empty_reference(world: World) -> None:
    environment = world.container()

    write_analyzed(environment, look(world), layers="/layers")

    document = tomllib.loads(environment.read_text("/layers/analyzed.toml") or "")
    assert document["image"] == {"reference": ""}
    assert "metadata" not in document


def test_the_variant_is_part_of_the_target(world: World) -> None:
    image = world.publish_run_image(architecture="arm64")
    config = msgspec.structs.replace(image.config, variant="v8")
    arm = Image(image.digest, image.raw, image.manifest, config, image.raw_config)

    assert image_target(arm).arch_variant == "v8"
