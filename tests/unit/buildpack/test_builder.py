import json
import tomllib

import pytest

from hakobune.buildpack.builder_files import (
    encode_order,
    encode_run,
    encode_system,
    parse_order_toml,
    parse_run_toml,
    parse_system_toml,
)
from hakobune.buildpack.builder_labels import (
    BUILDER_LABEL,
    LAYERS_LABEL,
    ORDER_LABEL,
    SYSTEM_LABEL,
    builder_labels,
    read_builder_labels,
)
from hakobune.buildpack.builder_toml import BuildVariable, build_config_files, parse_builder_toml
from hakobune.buildpack.descriptor import Buildpack, BuildpackTable, GroupElement, OrderGroup
from hakobune.buildpack.document import InvalidDocumentError
from hakobune.buildpack.order import SystemBuildpacks, SystemSide
from hakobune.buildpack.run_image import RunImage, choose_run_image
from hakobune.buildpack.target import Target
from hakobune.errors import HakoError

BUILDER = """
description = "Debian"
[[buildpacks]]
uri = "../../buildpacks/python"
[[order]]
[[order.group]]
id = "hako/python"
[build]
image = "hako/base-build:13"
[[build.env]]
name = "TZ"
value = "UTC"
suffix = "default"
[[run.images]]
image = "hako/base-run:13"
mirrors = ["mirror.test/run"]
"""
ORDER = (OrderGroup(group=(GroupElement(id="a", version="1", optional=True),)),)


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(InvalidDocumentError) as caught:
        parse_builder_toml(text.encode(), name="builder.toml")
    return caught.value.problems


def labels() -> dict[str, str]:
    table = BuildpackTable(id="a", version="1", homepage="https://a.test", name="A")
    buildpack = Buildpack(api="0.12", buildpack=table, targets=(Target(os="linux"),))
    return builder_labels(
        description="d",
        order=ORDER,
        buildpacks=[(buildpack, "sha256:1")],
        run_images=[RunImage(image="run", mirrors=("m/run",))],
        lifecycle_version="0.1.0",
        system=SystemBuildpacks(pre=SystemSide(buildpacks=(GroupElement(id="s", version="1"),))),
    )


def test_a_builder_names_its_base_images() -> None:
    builder = parse_builder_toml(BUILDER.encode(), name="builder.toml")

    assert builder.build_image == "hako/base-build:13"
    assert builder.run_images == (RunImage(image="hako/base-run:13", mirrors=("mirror.test/run",)),)
    assert builder.buildpacks[0].uri == "../../buildpacks/python"
    assert build_config_files(builder.build_env) == {"TZ.default": b"UTC"}


def test_a_stack_says_the_same_in_the_older_way() -> None:
    text = 'order = []\n[stack]\nid = "s"\nbuild-image = "b"\nrun-image = "r"\nrun-image-mirrors = ["m"]\n'

    builder = parse_builder_toml(text.encode(), name="builder.toml")

    assert builder.build_image == "b"
    assert builder.run_images == (RunImage(image="r", mirrors=("m",)),)


def test_a_builder_without_a_base_is_refused() -> None:
    assert problems("") == (
        "builder.toml: the table [build] is missing",
        "builder.toml: the table [run] is missing",
    )


def test_a_stack_may_stand_beside_build_and_run_if_it_says_the_same() -> None:
    both = (
        BUILDER
        + '[stack]\nid = "s"\nbuild-image = "hako/base-build:13"\nrun-image = "hako/base-run:13"\n'
    )

    builder = parse_builder_toml(both.encode(), name="builder.toml")

    assert builder.stack is not None
    assert builder.stack.id == "s"
    assert builder.run_images == (RunImage(image="hako/base-run:13", mirrors=("mirror.test/run",)),)
    assert problems(both.replace('-image = "hako/base-', '-image = "other/')) == (
        "builder.toml:19: stack.build-image: [build] has another image: 'hako/base-build:13'",
        "builder.toml:20: stack.run-image: [run] has another image: 'hako/base-run:13'",
    )


def test_a_stack_fills_in_what_is_not_said_otherwise() -> None:
    text = 'order = []\n[build]\nimage = "b"\n[stack]\nid = "s"\nrun-image = "r"\n'

    builder = parse_builder_toml(text.encode(), name="builder.toml")

    assert (builder.build_image, builder.run_images) == ("b", (RunImage(image="r"),))
    assert problems('order = []\n[stack]\nbuild-image = "b"\n') == (
        "builder.toml:2: stack: the key 'run-image' is missing, and so is [run]",
        "builder.toml:2: stack: the key 'id' is missing",
    )


def test_unknown_keys_are_refused_with_what_was_meant() -> None:
    found = problems(BUILDER.replace("mirrors", "mirors"))

    assert found == (
        "builder.toml:16: run.images[1].mirors: there is no such key (did you mean 'mirrors'?)",
    )


def test_a_buildpack_needs_one_place() -> None:
    text = BUILDER.replace('uri = "../../buildpacks/python"', 'id = "x"')

    assert problems(text) == ("builder.toml:3: buildpacks[1]: needs either uri or image",)


def test_build_variables_become_files() -> None:
    files = build_config_files(
        [
            BuildVariable(name="A", value="x", suffix="append", delim=":"),
            BuildVariable(name="B", value="y"),
        ]
    )

    assert files == {"A.append": b"x", "A.delim": b":", "B": b"y"}


def test_order_run_and_system_are_read_as_they_were_written() -> None:
    images = (RunImage(image="r", mirrors=("m",)),)
    system = SystemBuildpacks(post=SystemSide(buildpacks=(GroupElement(id="s", version="1"),)))

    assert parse_order_toml(encode_order(ORDER), name="order.toml") == ORDER
    assert parse_run_toml(encode_run(images), name="run.toml") == images
    assert parse_system_toml(encode_system(system), name="system.toml") == system
    assert tomllib.loads(encode_order(ORDER).decode()) == {
        "order": [{"group": [{"id": "a", "version": "1", "optional": True}]}]
    }


def test_a_builders_labels_are_those_that_pack_writes() -> None:
    written = labels()
    metadata = json.loads(written[BUILDER_LABEL])

    assert metadata["stack"] == {"runImage": {"image": "run", "mirrors": ["m/run"]}}
    assert metadata["images"] == [{"image": "run", "mirrors": ["m/run"]}]
    assert metadata["buildpacks"] == [{"id": "a", "version": "1", "homepage": "https://a.test"}]
    assert metadata["lifecycle"]["apis"]["buildpack"]["supported"][-1] == "0.12"
    assert json.loads(written[ORDER_LABEL]) == [
        {"group": [{"id": "a", "version": "1", "optional": True}]}
    ]
    assert json.loads(written[LAYERS_LABEL]) == {
        "a": {
            "1": {
                "api": "0.12",
                "targets": [{"os": "linux"}],
                "layerDiffID": "sha256:1",
                "homepage": "https://a.test",
                "name": "A",
            }
        }
    }
    assert json.loads(written[SYSTEM_LABEL])["pre"]["buildpacks"] == [{"id": "s", "version": "1"}]


def test_a_builders_labels_are_read_back() -> None:
    read = read_builder_labels(labels(), image="builder")

    assert read.order == ORDER
    assert read.run_images == (RunImage(image="run", mirrors=("m/run",)),)
    assert read.description == "d"
    assert read.system.pre.buildpacks[0].id == "s"
    assert read.layers["a"]["1"].layer_diff_id == "sha256:1"


def test_a_builder_of_older_tools_has_its_run_image_in_the_stack() -> None:
    old = {BUILDER_LABEL: json.dumps({"stack": {"runImage": {"image": "r"}}})}

    read = read_builder_labels(old, image="builder")

    assert read.run_images == (RunImage(image="r"),)
    assert read.order == ()


def test_an_image_without_the_label_is_no_builder() -> None:
    with pytest.raises(HakoError, match="web is not a builder"):
        read_builder_labels({}, image="web")


def test_a_damaged_label_is_named() -> None:
    with pytest.raises(HakoError, match=r"the label io\.buildpacks\.buildpack\.order of b"):
        read_builder_labels(labels() | {ORDER_LABEL: "{"}, image="b")


IMAGES = (RunImage(image="a.test/run", mirrors=("b.test/run", "c.test/run")), RunImage(image="x"))


def test_a_run_image_in_the_outputs_registry_is_preferred() -> None:
    assert choose_run_image(IMAGES, output_registry="b.test", exists=lambda _: True) == "b.test/run"


def test_the_first_run_image_that_exists_is_chosen() -> None:
    chosen = choose_run_image(
        IMAGES, output_registry="docker.io", exists=lambda name: name.startswith("c.")
    )

    assert chosen == "c.test/run"


def test_no_place_is_asked_twice_or_without_need() -> None:
    asked: list[str] = []

    def exists(name: str) -> bool:
        asked.append(name)
        return name == "a.test/run"

    choose_run_image(IMAGES, output_registry="c.test", exists=exists)

    assert asked == ["c.test/run", "a.test/run"]


def test_a_run_image_that_is_nowhere_is_an_error_that_lists_where() -> None:
    with pytest.raises(HakoError) as caught:
        choose_run_image(IMAGES, output_registry="d.test", exists=lambda _: False)

    assert caught.value.why == "tried a.test/run, b.test/run, c.test/run"


def test_a_builder_without_run_images_needs_one_to_be_chosen() -> None:
    with pytest.raises(HakoError, match="no run image is known"):
        choose_run_image((), output_registry="", exists=lambda _: True)


def test_base_images_may_be_made_from_dockerfiles_and_labels_do_not_tell() -> None:
    text = (
        BUILDER.replace(
            'image = "hako/base-build:13"',
            'image = "mine/build"\ndockerfile = "Dockerfile"\ntarget = "build"',
        )
        + 'dockerfile = "run/Dockerfile"\n'
    )

    builder = parse_builder_toml(text.encode(), name="builder.toml")

    assert builder.build_source.dockerfile == "Dockerfile"
    assert builder.build_source.target == "build"
    assert builder.run_sources[0].dockerfile == "run/Dockerfile"
    assert builder.run_images == (RunImage(image="hako/base-run:13", mirrors=("mirror.test/run",)),)


def test_a_stage_needs_a_dockerfile() -> None:
    found = problems(BUILDER + 'target = "run"\n')

    assert found == (
        "builder.toml:17: run.images[1].target: it is a stage of a dockerfile, and none is named",
    )
