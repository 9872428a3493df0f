"""CNB platform.md "restorer", buildpack.md "Layer Types": one test a MUST, over two real builds."""

import tomllib
from pathlib import Path

import msgspec
import pytest

from hakobune.lifecycle.fate import Fate
from tests.lifecycle_world import APP, Outcome, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.at(tmp_path)


def remember(*types: str) -> str:
    """A build script that notes what it finds in `found`, then makes the layer `l` with *types*."""
    flags = "".join(f"{t} = true\\n" for t in types)
    return f"""
cd $CNB_LAYERS_DIR
found=
[ -f l.toml ] && found="toml"
[ -d l ] && found="$found data"
[ -f l.toml ] && cp l.toml old
[ -f l.sbom.cdx.json ] && found="$found sbom"
[ -f store.toml ] && found="$found store"
echo "found:$found"
mkdir -p l; echo data > l/file
echo '{{}}' > l.sbom.cdx.json
printf '[metadata]\\nk = 1\\n' > store.toml
printf '[types]\\n{flags}[metadata]\\nlock = "abc"\\n' > l.toml
"""


def found(outcome: Outcome) -> str:
    return outcome.progress.texts("output")[0].removeprefix("found:")


def add(world: World, *types: str) -> None:
    world.add_buildpack(
        "a", build=remember(*types), sbom_formats='["application/vnd.cyclonedx+json"]'
    )


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        (("launch",), "toml sbom store"),
        (("launch", "cache"), "toml data sbom store"),
        (("launch", "build", "cache"), "toml data sbom store"),
        (("build", "cache"), "toml data sbom store"),
        (("cache",), "toml data sbom store"),
        (("build",), " store"),
        (("launch", "build"), " store"),
    ],
)
def test_what_comes_back_follows_from_a_layers_types(
    world: World, types: tuple[str, ...], expected: str
) -> None:
    add(world, *types)
    first = world.build()

    assert found(first) == ""
    assert found(world.build(last=first)) == expected


def test_a_restored_layer_toml_has_the_metadata_and_no_types(world: World) -> None:
    add(world, "launch", "cache")
    second = world.build(last=world.build())

    assert tomllib.loads(second.environment.read_text("/layers/a/old") or "") == {
        "metadata": {"lock": "abc"}
    }


def test_a_cached_launch_layer_without_an_app_image_comes_from_the_cache(world: World) -> None:
    add(world, "launch", "cache")
    first = world.build()
    world.store.untag(APP)

    second = world.build(last=first)

    assert found(second) == "toml data sbom"
    assert [f.fate for f in second.restored.fates] == [Fate.KEEP]


def test_a_cached_layer_whose_sha_differs_from_the_images_is_removed(world: World) -> None:
    add(world, "launch", "cache")
    first = world.build()
    kept = first.kept.buildpacks[0]
    other = msgspec.structs.replace(kept.layers["l"], sha="sha256:other")
    first.kept = msgspec.structs.replace(
        first.kept, buildpacks=(msgspec.structs.replace(kept, layers={"l": other}),)
    )

    second = world.build(last=first)

    assert found(second) == " store"
    assert "Removing 'a:l', wrong sha" in second.progress.texts("step")


def test_a_launch_and_cache_layer_that_the_cache_lost_is_not_restored_at_all(world: World) -> None:
    add(world, "launch", "cache")
    world.build()

    assert found(world.build(last=None)) == " store"


def test_layers_of_buildpacks_that_do_not_take_part_are_removed(world: World) -> None:
    add(world, "cache")
    first = world.build()
    world.order.clear()
    world.add_buildpack("b", build="ls $CNB_LAYERS_DIR/..; exit 0")

    second = world.build(last=first)

    assert not second.environment.exists("/layers/a/l")
    assert [(f.buildpack, f.fate) for f in second.restored.fates] == [("a", Fate.DROP)]


def test_images_of_another_execution_environment_are_not_restored_from(world: World) -> None:
    add(world, "launch")
    world.build()
    world.exec_env = "test"

    assert found(world.build()) == ""


def test_sbom_files_of_the_launch_level_are_not_restored(world: World) -> None:
    world.add_buildpack(
        "a",
        sbom_formats='["application/vnd.cyclonedx+json"]',
        build="cd $CNB_LAYERS_DIR; ls; echo '{}' > launch.sbom.cdx.json",
    )
    first = world.build()

    assert world.build(last=first).progress.texts("output") == ()


def test_what_is_restored_is_told(world: World) -> None:
    add(world, "launch", "cache")
    world.add_buildpack(
        "b", build=remember("build", "cache"), sbom_formats='["application/vnd.cyclonedx+json"]'
    )

    second = world.build(last=world.build())

    steps = second.progress.texts("step")
    assert "Restoring metadata for 'a:l' from app image" in steps
    assert "Restoring data for 'a:l' from cache" in steps
    assert "Restoring metadata for 'b:l' from cache" in steps
