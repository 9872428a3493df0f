"""CNB platform.md "exporter", buildpack.md "Layers": one test a MUST, over the image that comes out."""

import gzip
import io
import json
import tarfile
import tomllib
from pathlib import Path

import pytest

from hakobune.lifecycle.errors import ExportError
from hakobune.lifecycle.fate import Fate
from hakobune.oci.digest import Digest
from hakobune.oci.manifest import Image
from tests.lifecycle_world import APP, Outcome, World

WEB = 'printf \'[[processes]]\\ntype="web"\\ncommand=["run"]\\ndefault=true\\n\' > $CNB_LAYERS_DIR/launch.toml\n'
EPOCH = 315532801


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World.at(tmp_path)
    world.files["/workspace/main.py"] = "print(1)"
    return world


def layer(name: str, *types: str, contents: str = "echo data > $L/file") -> str:
    flags = "".join(f"{t} = true\\n" for t in types)
    return (
        f"L=$CNB_LAYERS_DIR/{name}; mkdir -p $L; {contents}\n"
        f"printf '[types]\\n{flags}[metadata]\\nv = 1\\n' > $L.toml\n"
    )


def toml_only(name: str, *types: str) -> str:
    flags = "".join(f"{t} = true\\n" for t in types)
    return f"printf '[types]\\n{flags}' > $CNB_LAYERS_DIR/{name}.toml\n"


def tars(world: World, image: Image) -> list[list[tarfile.TarInfo]]:
    """The entries of the layers above the run image."""
    result = []
    for descriptor in image.manifest.layers[1:]:
        data = gzip.decompress(world.store.blob_path(descriptor.digest).read_bytes())
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            result.append(tar.getmembers())
    return result


def names(world: World, image: Image) -> list[list[str]]:
    return [["/" + m.name.lstrip("/") for m in members] for members in tars(world, image)]


def created_by(image: Image) -> list[str]:
    return [h.created_by for h in image.config.history]


def label(image: Image, name: str) -> dict[str, object]:
    value = json.loads(image.config.labels[f"io.buildpacks.{name}"])
    assert isinstance(value, dict)
    return value


def fates(outcome: Outcome) -> dict[str, Fate]:
    return {f.full_name: f.fate for f in outcome.exported.fates}


def test_layers_are_in_the_specified_order(world: World) -> None:
    world.add_buildpack("b", build=layer("y", "launch") + layer("x", "launch") + WEB)
    world.add_buildpack("a", build=layer("z", "launch"))

    image = world.build().exported.image

    assert created_by(image) == [
        "base",
        "Layer: 'x', Created by buildpack: b@1.0.0",
        "Layer: 'y', Created by buildpack: b@1.0.0",
        "Layer: 'z', Created by buildpack: a@1.0.0",
        "Software Bill-of-Materials",
        "Application Layer",
        "Buildpacks Application Launcher",
        "Buildpacks Launcher Config",
        "Buildpacks Process Types",
    ]
    assert len(image.config.history) == len(image.diff_ids)


def test_a_layer_tar_names_its_parents_first_and_everything_absolutely(world: World) -> None:
    world.add_buildpack(
        "hako/a",
        build=layer("x", "launch", contents="mkdir $L/d; echo 1 > $L/d/f; ln -s d $L/link"),
    )

    assert names(world, world.build().exported.image)[0] == [
        "/layers",
        "/layers/hako_a",
        "/layers/hako_a/x",
        "/layers/hako_a/x/d",
        "/layers/hako_a/x/d/f",
        "/layers/hako_a/x/link",
    ]


def test_everything_has_the_build_users_ids_and_the_time_of_1980(world: World) -> None:
    world.add_buildpack("a", build=layer("x", "launch") + WEB)

    for members in tars(world, world.build().exported.image):
        for member in members:
            assert member.mtime == EPOCH
            mine = member.name.lstrip("/").startswith(("layers", "workspace"))
            assert (member.uid, member.gid) == ((1001, 1000) if mine else (0, 0)), member.name
            assert member.uname == member.gname == ""


def test_launcher_config_and_process_types_have_layers_of_their_own(world: World) -> None:
    world.add_buildpack("a", build=WEB)

    image = world.build().exported.image

    assert names(world, image)[2:] == [
        ["/cnb", "/cnb/lifecycle", "/cnb/lifecycle/launcher"],
        ["/layers", "/layers/config", "/layers/config/metadata.toml"],
        ["/cnb", "/cnb/process", "/cnb/process/web"],
    ]
    link = tars(world, image)[4][2]
    assert link.linkname == "/cnb/lifecycle/launcher"
    assert tars(world, image)[2][2].mode == 0o755


def test_without_processes_there_is_no_process_types_layer(world: World) -> None:
    world.add_buildpack("a")

    image = world.build().exported.image

    assert created_by(image)[-1] == "Buildpacks Launcher Config"
    assert image.config.config.entrypoint == ("/cnb/lifecycle/launcher",)
    assert label(image, "lifecycle.metadata")["process-types"] == {"sha": ""}


def test_only_launch_layers_are_in_the_image(world: World) -> None:
    world.add_buildpack("a", build=layer("c", "cache") + layer("b", "build") + layer("n"))

    image = world.build().exported.image

    assert not any(
        "/layers/a" in name for layer_names in names(world, image) for name in layer_names
    )


def test_the_config_is_the_run_images_with_what_the_app_adds(world: World) -> None:
    world.add_buildpack("a", build=WEB)

    config = world.build().exported.image.config

    assert config.created == "1980-01-01T00:00:01Z"
    assert (config.os, config.architecture) == ("linux", "amd64")
    assert config.config.user == "1002:1000"
    assert config.config.entrypoint == ("/cnb/process/web",)
    assert config.config.cmd == ()
    assert config.config.working_dir == "/workspace"
    assert config.config.env == (
        "PATH=/cnb/process:/cnb/lifecycle:/usr/bin:/bin",
        "LANG=C.UTF-8",
        "CNB_LAYERS_DIR=/layers",
        "CNB_APP_DIR=/workspace",
        "CNB_PLATFORM_API=0.15",
        "CNB_DEPRECATION_MODE=quiet",
    )
    assert config.labels["io.buildpacks.rebasable"] == "true"
    assert config.labels["io.buildpacks.exec-env"] == "production"


def test_the_lifecycle_label_remembers_layers_store_and_run_image(world: World) -> None:
    world.add_buildpack(
        "a",
        build=layer("x", "launch", "cache")
        + "printf '[metadata]\\nk=1\\n' > $CNB_LAYERS_DIR/store.toml",
    )

    outcome = world.build()
    image = outcome.exported.image
    metadata = label(image, "lifecycle.metadata")

    diff_ids = [str(d) for d in image.diff_ids]
    assert metadata["buildpacks"] == [
        {
            "key": "a",
            "version": "1.0.0",
            "layers": {
                "x": {
                    "sha": diff_ids[1],
                    "data": {"v": 1},
                    "build": False,
                    "launch": True,
                    "cache": True,
                }
            },
            "store": {"metadata": {"k": 1}},
        }
    ]
    assert metadata["sbom"] == {"sha": diff_ids[2]}
    assert metadata["app"] == [{"sha": diff_ids[3]}]
    assert metadata["launcher"] == {"sha": diff_ids[4]}
    assert metadata["config"] == {"sha": diff_ids[5]}
    assert metadata["runImage"] == {
        "topLayer": diff_ids[0],
        "reference": f"docker.io/hako/base-run@{outcome.analyzed.run_image.digest}",
        "image": "hako/base-run:13",
    }
    assert metadata["stack"] == {"runImage": {"image": "hako/base-run:13"}}


def test_the_build_label_names_buildpacks_and_processes(world: World) -> None:
    world.add_buildpack("a", build=WEB)

    metadata = label(world.build().exported.image, "build.metadata")

    assert metadata["buildpacks"] == [{"id": "a", "version": "1.0.0"}]
    assert metadata["buildpack-default-process-type"] == "web"


def test_a_project_descriptor_becomes_a_label(world: World) -> None:
    world.add_buildpack("a")

    image = world.build(project={"source": {"type": "git"}}).exported.image

    assert label(image, "project.metadata") == {"source": {"type": "git"}}


def test_buildpacks_labels_are_added_and_the_later_wins_but_not_over_the_lifecycles(
    world: World,
) -> None:
    text = 'printf \'[[labels]]\\nkey="{}"\\nvalue="{}"\\n\' >> $CNB_LAYERS_DIR/launch.toml\n'
    world.add_buildpack(
        "a", build=text.format("k", "1") + text.format("io.buildpacks.exec-env", "x")
    )
    world.add_buildpack("b", build=text.format("k", "2"))

    labels = world.build().exported.image.config.labels

    assert labels["k"] == "2"
    assert labels["io.buildpacks.exec-env"] == "production"


def test_the_default_process_can_be_chosen(world: World) -> None:
    world.add_buildpack(
        "a",
        build=WEB
        + 'printf \'[[processes]]\\ntype="job"\\ncommand=["j"]\\n\' >> $CNB_LAYERS_DIR/launch.toml',
    )

    outcome = world.build(process_type="job")

    assert outcome.exported.image.config.config.entrypoint == ("/cnb/process/job",)
    assert "Setting default process type 'job'" in outcome.progress.texts("step")


def test_a_chosen_process_that_does_not_exist_is_error_62_and_publishes_nothing(
    world: World,
) -> None:
    world.add_buildpack("a", build=WEB)

    with pytest.raises(ExportError, match="tried to set job to default") as caught:
        world.build(process_type="job")

    assert caught.value.exit_code == 62
    assert caught.value.why == "the buildpacks made these process types: web"
    assert world.store.find_image(APP) is None


def test_an_unchanged_launch_layer_is_reused(world: World) -> None:
    world.add_buildpack("a", build=layer("x", "launch", "cache"))
    first = world.build()

    second = world.build(last=first)

    assert fates(second) == {"a:x": Fate.KEEP}
    assert "Reusing layer 'a:x'" in second.progress.texts("step")
    assert second.exported.image.digest == first.exported.image.digest
    assert second.exported.layers[0].changed is False


def test_a_changed_launch_layer_is_added(world: World) -> None:
    world.add_buildpack("a", build=layer("x", "launch", "cache"))
    first = world.build()
    world.add_buildpack(
        "a", build=layer("x", "launch", "cache", contents="echo new > $L/file"), in_order=False
    )

    second = world.build(last=first)

    assert fates(second) == {"a:x": Fate.ADD}
    assert "Adding layer 'a:x'" in second.progress.texts("step")
    assert second.exported.layers[0].changed is True


def test_a_launch_layer_that_is_made_anew_with_equal_contents_is_reused(world: World) -> None:
    world.add_buildpack("a", build=layer("x", "launch"))
    first = world.build()

    second = world.build(last=first)

    assert fates(second) == {"a:x": Fate.REUSE}
    assert second.exported.image.digest == first.exported.image.digest


def test_a_launch_layer_without_contents_is_reused_from_the_previous_image(world: World) -> None:
    world.add_buildpack("a", build=layer("x", "launch"))
    first = world.build()
    world.add_buildpack("a", build=toml_only("x", "launch"), in_order=False)

    second = world.build(last=first)

    assert second.exported.image.diff_ids[1] == first.exported.image.diff_ids[1]
    assert fates(second) == {"a:x": Fate.REUSE}
    assert second.exported.layers == ()


def test_a_launch_layer_without_contents_that_no_image_has_is_error_62(world: World) -> None:
    world.add_buildpack("a", build=toml_only("x", "launch"))

    with pytest.raises(ExportError, match="cannot reuse 'a:x'") as caught:
        world.build()

    assert "previous image has no metadata for layer 'a:x'" in caught.value.why


def test_a_cached_launch_layer_without_contents_is_error_62(world: World) -> None:
    world.add_buildpack("a", build=toml_only("x", "launch", "cache"))

    with pytest.raises(ExportError, match="cache=true but has no contents"):
        world.build()


def test_a_cache_layer_without_contents_is_a_warning(world: World) -> None:
    world.add_buildpack("a", build=toml_only("x", "cache"))

    assert world.build().progress.texts("warning") == (
        "Failed to cache layer 'a:x' because it has no contents",
    )


def test_a_layer_that_its_buildpack_no_longer_asks_for_is_dropped(world: World) -> None:
    world.add_buildpack("a", build=layer("x", "launch", "cache"))
    first = world.build()
    world.add_buildpack("a", build="rm $CNB_LAYERS_DIR/x.toml", in_order=False)

    second = world.build(last=first)

    assert fates(second) == {"a:x": Fate.DROP}
    assert second.exported.layers == ()
    assert second.kept.buildpacks == ()
    assert label(second.exported.image, "lifecycle.metadata")["buildpacks"] == [
        {"key": "a", "version": "1.0.0", "layers": {}}
    ]


def test_a_layer_that_is_not_to_be_cached_any_more_is_dropped(world: World) -> None:
    world.add_buildpack("a", build=layer("x", "cache"))
    first = world.build()
    world.add_buildpack("a", build=layer("x", "build"), in_order=False)

    assert fates(world.build(last=first)) == {"a:x": Fate.DROP}


def test_the_app_is_one_layer_and_reused_when_equal(world: World) -> None:
    world.add_buildpack("a")
    first = world.build()
    second = world.build(last=first)
    world.files["/workspace/main.py"] = "print(2)"
    third = world.build(last=second)

    assert "Added 1/1 app layer(s)" in first.progress.texts("step")
    assert "Reused 1/1 app layer(s)" in second.progress.texts("step")
    assert "Added 1/1 app layer(s)" in third.progress.texts("step")
    assert names(world, third.exported.image)[1] == ["/workspace", "/workspace/main.py"]


def test_slices_become_layers_and_the_rest_another(world: World) -> None:
    world.add_buildpack(
        "a",
        build='printf \'[[slices]]\\npaths=["static"]\\n[[slices]]\\npaths=["*.py"]\\n\' > $CNB_LAYERS_DIR/launch.toml',
    )
    world.files["/workspace/static/x.js"] = "x"
    world.files["/workspace/README"] = "r"

    outcome = world.build()

    image = outcome.exported.image
    assert created_by(image)[2:5] == [
        "Application Slice: 1",
        "Application Slice: 2",
        "Application Slice: 3",
    ]
    assert names(world, image)[1:4] == [
        ["/workspace", "/workspace/static", "/workspace/static/x.js"],
        ["/workspace", "/workspace/main.py"],
        ["/workspace", "/workspace/README"],
    ]
    assert "Added 3/3 app layer(s)" in outcome.progress.texts("step")


def test_when_slices_take_everything_the_rest_is_an_empty_layer(world: World) -> None:
    world.add_buildpack(
        "a", build="printf '[[slices]]\\npaths=[\"*\"]\\n' > $CNB_LAYERS_DIR/launch.toml"
    )

    assert names(world, world.build().exported.image)[2] == []


def test_the_sbom_layer_holds_what_belongs_to_the_image(world: World) -> None:
    world.add_buildpack(
        "a",
        sbom_formats='["application/spdx+json"]',
        build=layer("x", "launch")
        + "echo '{}' > $CNB_LAYERS_DIR/x.sbom.spdx.json\necho '{}' > $CNB_LAYERS_DIR/build.sbom.spdx.json",
    )
    world.files["/cnb/lifecycle/launcher.sbom.spdx.json"] = "{}"

    files = names(world, world.build().exported.image)[1]

    assert files[:3] == ["/layers", "/layers/sbom", "/layers/sbom/launch"]
    assert "/layers/sbom/launch/a/x/sbom.spdx.json" in files
    assert "/layers/sbom/launch/buildpacksio_lifecycle/launcher/sbom.spdx.json" in files
    assert not any("/sbom/build/" in name for name in files)


def test_the_report_names_tags_digest_and_size(world: World) -> None:
    world.add_buildpack("a")

    exported = world.build().exported

    assert tomllib.loads(exported.report.decode()) == {
        "image": {
            "tags": ["docker.io/hako/apps/shop:latest"],
            "digest": str(exported.image.digest),
            "manifest-size": len(exported.image.raw),
        }
    }


def test_two_builds_of_the_same_source_have_the_same_digest(tmp_path: Path) -> None:
    digests: set[Digest] = set()
    for place in ("one", "two"):
        world = World.at(tmp_path / place)
        world.files["/workspace/main.py"] = "print(1)"
        world.add_buildpack(
            "a", build=layer("x", "launch", contents="date +%N > /dev/null; echo 1 > $L/f") + WEB
        )
        digests.add(world.build().exported.image.digest)

    assert len(digests) == 1


def test_the_images_time_can_be_given(world: World) -> None:
    world.add_buildpack("a")

    assert world.build(created="2026-01-02T03:04:05Z").exported.image.config.created == (
        "2026-01-02T03:04:05Z"
    )
