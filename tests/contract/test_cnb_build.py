"""CNB buildpack.md "Phase #3: Build": one test a MUST, with buildpacks that really run."""

import json
import tomllib
from pathlib import Path

import pytest

from hakobune.lifecycle.errors import BuildError, BuildpackFailedError
from tests.lifecycle_world import Outcome, World

PLAN = """
printf '[[provides]]\\nname = "{0}"\\n[[requires]]\\nname = "{0}"\\n[requires.metadata]\\nv = 1\\n' >> $CNB_BUILD_PLAN_PATH
"""


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.at(tmp_path)


def layer(name: str, *types: str, contents: str = "echo data > $L/file") -> str:
    """A build script's part that makes a layer."""
    flags = "".join(f"{t} = true\\n" for t in types)
    return (
        f"L=$CNB_LAYERS_DIR/{name}; mkdir -p $L; {contents}\nprintf '[types]\\n{flags}' > $L.toml\n"
    )


def text(outcome: Outcome, path: str) -> str:
    return outcome.environment.read_text(path) or ""


def test_bin_build_gets_layers_platform_and_plan_and_runs_in_the_app(world: World) -> None:
    world.add_buildpack(
        "a/b",
        build="""
[ -f main.py ] && [ -d "$1" ] && [ -d "$2/env" ] && [ -f "$3" ]
[ "$CNB_LAYERS_DIR" = "$1" ] && [ "${1##*/}" = a_b ]
[ "$CNB_PLATFORM_DIR" = "$2" ]
[ "$CNB_BP_PLAN_PATH" = "$3" ]
[ "$CNB_BUILDPACK_DIR" = "$(dirname "$(dirname "$0")")" ]
[ "$CNB_TARGET_OS$CNB_TARGET_ARCH$CNB_EXEC_ENV" = linuxamd64production ]
""",
    )
    world.files["/workspace/main.py"] = ""

    world.build()


def test_a_failing_bin_build_is_error_51_with_buildpack_code_and_telling_line(
    world: World,
) -> None:
    world.add_buildpack(
        "hako/python",
        version="0.4.0",
        build='echo start; echo "Error: pg_config executable not found."; echo; echo bye; exit 7',
    )

    with pytest.raises(BuildpackFailedError) as caught:
        world.build()

    error = caught.value
    assert error.exit_code == 51
    assert error.what == "build failed in buildpack hako/python 0.4.0"
    assert error.why == "its exit code is 7; it said: Error: pg_config executable not found."
    assert error.code == 7
    assert error.lines == ("start", "Error: pg_config executable not found.", "bye")


def test_a_bin_build_that_a_signal_ends_says_so(world: World) -> None:
    world.add_buildpack("a", build="kill -9 $$")

    with pytest.raises(BuildpackFailedError, match="ended by signal 9; it said nothing"):
        world.build()


def test_output_is_streamed_line_by_line(world: World) -> None:
    world.add_buildpack("a", build="printf 'one\\r\\ntwo'; echo ' three' >&2; printf last")

    assert world.build().progress.texts("output") == ("one", "two three", "last")


def test_later_buildpacks_do_not_run_after_a_failure(world: World) -> None:
    world.add_buildpack("a", build="exit 1")
    world.add_buildpack("b", build="touch $CNB_APP_DIR/ran")
    environment = world.container()

    with pytest.raises(BuildpackFailedError):
        world.build(environment=environment)

    assert not environment.exists("/workspace/ran")
    assert [c[0] for c in environment.commands if c[0].endswith("bin/build")] == [
        "/cnb/buildpacks/a/1.0.0/bin/build"
    ]


def test_the_plan_holds_what_the_buildpack_provides(world: World) -> None:
    world.add_buildpack("a", detect=PLAN.format("x"), build='cp "$3" $1/seen')

    outcome = world.build()

    assert tomllib.loads(text(outcome, "/layers/a/seen")) == {
        "entries": [{"name": "x", "metadata": {"v": 1}}]
    }


def test_met_requires_are_removed_from_later_plans_and_unmet_go_on(world: World) -> None:
    world.add_buildpack(
        "a",
        detect=PLAN.format("x") + PLAN.format("y"),
        build="printf '[[unmet]]\\nname = \"y\"\\n' > $CNB_LAYERS_DIR/build.toml",
    )
    world.add_buildpack("b", detect=PLAN.format("x") + PLAN.format("y"), build='cp "$3" $1/seen')

    outcome = world.build()

    seen = tomllib.loads(text(outcome, "/layers/b/seen"))
    assert {entry["name"] for entry in seen["entries"]} == {"y"}
    assert outcome.built.unmet == ()


def test_what_nobody_meets_is_reported_as_unmet(world: World) -> None:
    world.add_buildpack(
        "a",
        detect=PLAN.format("x"),
        build="printf '[[unmet]]\\nname = \"x\"\\n' > $CNB_LAYERS_DIR/build.toml",
    )

    assert world.build().built.unmet == ("x",)


def test_an_unmet_name_that_is_not_in_the_plan_is_error_52(world: World) -> None:
    world.add_buildpack(
        "a", build="printf '[[unmet]]\\nname = \"z\"\\n' > $CNB_LAYERS_DIR/build.toml"
    )

    with pytest.raises(BuildError, match="says that z is unmet") as caught:
        world.build()

    assert caught.value.exit_code == 52


def test_build_layers_are_in_the_environment_of_later_buildpacks_only(world: World) -> None:
    world.add_buildpack(
        "a",
        build='[ -z "${MADE+x}" ]\n'
        + layer(
            "tool",
            "build",
            contents="mkdir -p $L/bin $L/lib $L/env $L/env.build; echo -n 1 > $L/env/MADE; echo -n '[2]' > $L/env.build/MADE.append; mkdir $L/env.launch; echo -n 3 > $L/env.launch/MADE",
        ),
    )
    world.add_buildpack(
        "b",
        build="""
[ "$MADE" = "1[2]" ]
case "$PATH" in */layers/a/tool/bin:/usr/bin:/bin) ;; *) exit 1;; esac
case "$LD_LIBRARY_PATH:$LIBRARY_PATH" in */layers/a/tool/lib:*/layers/a/tool/lib) ;; *) exit 1;; esac
""",
    )

    world.build()


def test_layers_without_the_build_type_are_not_in_the_environment(world: World) -> None:
    world.add_buildpack(
        "a",
        build=layer("tool", "launch", "cache", contents="mkdir -p $L/env; echo -n 1 > $L/env/MADE"),
    )
    world.add_buildpack("b", build='[ -z "${MADE+x}" ]')

    world.build()


def test_later_layers_and_later_buildpacks_come_first_in_paths(world: World) -> None:
    world.add_buildpack(
        "a",
        build=layer("y", "build", contents="mkdir -p $L/bin")
        + layer("x", "build", contents="mkdir -p $L/bin"),
    )
    world.add_buildpack("b", build=layer("z", "build", contents="mkdir -p $L/bin"))
    world.add_buildpack(
        "c",
        build='case "$PATH" in */b/z/bin:*/a/y/bin:*/a/x/bin:/usr/bin:/bin) ;; *) exit 1;; esac',
    )

    world.build()


def test_the_users_environment_wins_over_layers(world: World) -> None:
    world.add_buildpack(
        "a", build=layer("tool", "build", contents="mkdir -p $L/env; echo -n layer > $L/env/V")
    )
    world.add_buildpack("b", build='[ "$V" = user ]')
    world.files["/platform/env/V"] = "user"

    world.build()


def test_a_layer_without_types_is_renamed_to_ignore(world: World) -> None:
    world.add_buildpack("a", build=layer("scratch"))

    outcome = world.build()

    assert outcome.environment.exists("/layers/a/scratch.ignore/file")
    assert not outcome.environment.exists("/layers/a/scratch")


def test_flags_at_the_top_of_a_layer_toml_are_error_52(world: World) -> None:
    world.add_buildpack("a", build="echo 'launch = true' > $CNB_LAYERS_DIR/x.toml")

    with pytest.raises(BuildError, match="layer types belong under") as caught:
        world.build()

    assert "buildpack a 1.0.0" in caught.value.what


def test_a_layer_toml_that_cannot_be_read_is_error_52(world: World) -> None:
    world.add_buildpack("a", build="echo 'x = ' > $CNB_LAYERS_DIR/x.toml")

    with pytest.raises(BuildError, match=r"/layers/a/x\.toml"):
        world.build()


def test_launch_build_and_store_are_no_layers(world: World) -> None:
    world.add_buildpack(
        "a",
        build="cd $CNB_LAYERS_DIR; touch launch.toml build.toml; printf '[metadata]\\nk=1\\n' > store.toml",
    )

    outcome = world.build()

    assert outcome.built.buildpacks[0].layers == ()
    assert outcome.built.buildpacks[0].store == {"k": 1}


def test_processes_are_merged_by_type_and_the_later_buildpack_wins(world: World) -> None:
    process = 'printf \'[[processes]]\\ntype="{}"\\ncommand=["{}"]\\ndefault={}\\n\' >> $CNB_LAYERS_DIR/launch.toml\n'
    world.add_buildpack(
        "a", build=process.format("web", "one", "true") + process.format("worker", "w", "false")
    )
    world.add_buildpack("b", build=process.format("web", "two", "false"))

    outcome = world.build()

    processes = outcome.built.processes
    assert [(p.type, p.command) for p in processes.processes] == [
        ("web", ("two",)),
        ("worker", ("w",)),
    ]
    assert processes.default == ""
    assert outcome.progress.texts("warning") == (
        "b 1.0.0 redefines the default process 'web' as one that is not the default",
    )


def test_metadata_toml_is_written_for_the_launcher(world: World) -> None:
    world.add_buildpack(
        "a",
        build='printf \'[[processes]]\\ntype="web"\\ncommand=["run"]\\ndefault=true\\n\' > $CNB_LAYERS_DIR/launch.toml',
    )

    outcome = world.build()

    metadata = tomllib.loads(text(outcome, "/layers/config/metadata.toml"))
    assert metadata["buildpack-default-process-type"] == "web"
    assert metadata["buildpacks"] == [{"id": "a", "version": "1.0.0", "api": "0.12"}]
    assert metadata["processes"][0]["command"] == ["run"]


def test_sbom_files_are_collected_by_where_their_layers_go(world: World) -> None:
    world.add_buildpack(
        "a/b",
        sbom_formats='["application/vnd.cyclonedx+json", "application/spdx+json"]',
        build="cd $CNB_LAYERS_DIR\n"
        + layer("run", "launch", "cache")
        + layer("tool", "build", "cache")
        + "for n in run tool launch build; do echo '{}' > $CNB_LAYERS_DIR/$n.sbom.cdx.json; done",
    )

    environment = world.build().environment

    for path in (
        "launch/a_b/run/sbom.cdx.json",
        "build/a_b/tool/sbom.cdx.json",
        "cache/a_b/run/sbom.cdx.json",
        "cache/a_b/tool/sbom.cdx.json",
        "launch/a_b/sbom.cdx.json",
        "build/a_b/sbom.cdx.json",
    ):
        assert environment.exists(f"/layers/sbom/{path}"), path
    assert not environment.exists("/layers/sbom/launch/a_b/tool")


def test_an_sbom_of_an_undeclared_media_type_is_error_52(world: World) -> None:
    world.add_buildpack("a", build="echo '{}' > $CNB_LAYERS_DIR/launch.sbom.cdx.json")

    with pytest.raises(BuildError, match="undeclared SBOM media type"):
        world.build()


def test_an_sbom_of_an_unknown_format_is_error_52(world: World) -> None:
    world.add_buildpack("a", build="echo '{}' > $CNB_LAYERS_DIR/launch.sbom.txt.json")

    with pytest.raises(BuildError, match="unsupported SBOM file format"):
        world.build()


def test_the_legacy_sbom_is_always_there(world: World) -> None:
    world.add_buildpack("a")

    outcome = world.build()

    for kind in ("launch", "build"):
        assert json.loads(text(outcome, f"/layers/sbom/{kind}/sbom.legacy.json")) == []


def test_what_an_earlier_build_left_in_the_sbom_folder_is_removed(world: World) -> None:
    world.add_buildpack("a")
    world.files["/layers/sbom/launch/a/sbom.cdx.json"] = "old"

    assert not world.build().environment.exists("/layers/sbom/launch/a/sbom.cdx.json")


def test_buildpacks_of_every_supported_api_build_together(world: World) -> None:
    for api in ("0.8", "0.9", "0.10", "0.11", "0.12"):
        command = '"run"' if api == "0.8" else '["run"]'
        world.add_buildpack(
            f"a{api}",
            api=api,
            build=layer("l", "launch")
            + f"printf '[[processes]]\\ntype=\"p{api}\"\\ncommand={command}\\n' > $CNB_LAYERS_DIR/launch.toml",
        )

    outcome = world.build()

    assert len(outcome.exported.image.diff_ids) == 1 + 5 + 5
    assert [p.direct for p in outcome.built.processes.processes if p.type == "p0.8"] == [False]
