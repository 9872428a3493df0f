"""CNB buildpack.md "Phase #1: Detection", platform.md "detector": one test a MUST, with buildpacks that really run."""

import tomllib
from pathlib import Path

import pytest

from hakobune.buildpack.descriptor import BuildpackApiError, GroupElement, OrderGroup
from hakobune.buildpack.order import SystemBuildpacks, SystemSide
from hakobune.lifecycle.detect import Detected, detect
from hakobune.lifecycle.errors import DetectError, DetectionBrokenError, NoGroupPassedError
from hakobune.progress import RecordedProgress
from tests.lifecycle_world import World, read_catalog
from tests.plain_directories import PlainDirectories

REQUIRES = "printf '[[requires]]\\nname = \"%s\"\\n' {} >> $CNB_BUILD_PLAN_PATH"
PROVIDES = "printf '[[provides]]\\nname = \"%s\"\\n' {} >> $CNB_BUILD_PLAN_PATH"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.at(tmp_path)


def ids(detected: Detected) -> list[str]:
    return [e.id for e in detected.group]


def detect_in(
    world: World,
    environment: PlainDirectories,
    *,
    progress: RecordedProgress | None = None,
    system: SystemBuildpacks | None = None,
) -> Detected:
    return detect(
        world.context(environment, world.analyze()),
        order=world.groups(),
        catalog=read_catalog(environment),
        progress=progress or RecordedProgress(),
        system=system,
    )


def test_exit_code_0_passes_and_100_declines(world: World) -> None:
    world.add_buildpack("a", detect="exit 0")
    world.add_buildpack("b", detect="exit 100", optional=True)

    assert ids(world.detect()) == ["a"]


def test_a_required_buildpack_that_declines_fails_the_group_with_code_20(world: World) -> None:
    world.add_buildpack("a")
    world.add_buildpack("b", detect="exit 100")

    with pytest.raises(NoGroupPassedError) as caught:
        world.detect()

    assert caught.value.exit_code == 20


def test_any_other_exit_code_is_an_error_and_gives_code_21(world: World) -> None:
    world.add_buildpack("a", detect="echo broken; exit 3")

    with pytest.raises(DetectionBrokenError) as caught:
        world.detect()

    assert caught.value.exit_code == 21
    assert caught.value.why == "tried a: bin/detect failed with exit code 3: broken"


def test_an_error_of_an_optional_buildpack_does_not_fail_the_group(world: World) -> None:
    world.add_buildpack("a")
    world.add_buildpack("b", detect="exit 3", optional=True)

    assert ids(world.detect()) == ["a"]


def test_a_bin_detect_that_cannot_be_executed_is_an_error(world: World) -> None:
    folder = world.add_buildpack("a")
    del world.scripts[f"{folder}/bin/detect"]

    with pytest.raises(DetectionBrokenError, match="exit code 127"):
        world.detect()


def test_a_group_of_which_no_buildpack_passes_fails(world: World) -> None:
    world.add_buildpack("a", detect="exit 100", optional=True)

    with pytest.raises(NoGroupPassedError):
        world.detect()


def test_groups_are_tried_in_order_until_one_passes(world: World) -> None:
    world.add_buildpack("a", detect="exit 100")
    world.add_buildpack("b")
    order = tuple(OrderGroup(group=(e,)) for e in world.order)

    assert ids(world.detect(order)) == ["b"]


def test_a_buildpack_is_asked_once_whatever_number_of_groups_name_it(world: World) -> None:
    world.add_buildpack("a", detect='echo x >> "$CNB_PLATFORM_DIR/../asked"')
    world.add_buildpack("b", detect="exit 100")
    a, b = world.order
    environment = world.container()
    order = (OrderGroup(group=(a, b)), OrderGroup(group=(a,)))

    detect(
        world.context(environment, world.analyze()),
        order=order,
        catalog=read_catalog(environment),
        progress=RecordedProgress(),
    )

    assert (environment.root / "asked").read_text() == "x\n"


def test_who_declined_and_why_is_said_in_the_buildpacks_own_words(world: World) -> None:
    world.add_buildpack("hako/python", detect='echo looking; echo "no requirements.txt"; exit 100')
    world.add_buildpack("hako/procfile", detect='echo "procfile: no Procfile"; exit 100')
    order = tuple(OrderGroup(group=(e,)) for e in world.order)

    with pytest.raises(NoGroupPassedError, match="no buildpack knows this folder") as caught:
        world.detect(order)

    assert caught.value.why == (
        "tried hako/python: no requirements.txt · hako/procfile: no Procfile"
    )
    assert [v.buildpack.id for v in caught.value.verdicts] == ["hako/python", "hako/procfile"]


def test_what_a_broken_buildpack_printed_is_shown(world: World) -> None:
    world.add_buildpack("a", detect="echo one; echo two >&2; exit 3")
    world.add_buildpack("b", detect="echo declined; exit 100")
    progress = RecordedProgress()

    with pytest.raises(DetectionBrokenError):
        detect_in(world, world.container(), progress=progress)

    assert progress.texts("output") == ("======== Output: a@1.0.0 ========", "one", "two")


def test_bin_detect_gets_platform_and_plan_as_arguments_and_runs_in_the_app(world: World) -> None:
    world.add_buildpack(
        "a", detect='[ -f main.py ] && [ -d "$1/env" ] && [ -f "$2" ] && [ ! -s "$2" ]'
    )
    world.files["/workspace/main.py"] = ""

    assert ids(world.detect()) == ["a"]


def test_the_variables_of_api_0_12_are_set(world: World) -> None:
    world.add_buildpack(
        "a",
        detect="""
[ "$CNB_BUILDPACK_DIR" = "$(dirname "$(dirname "$0")")" ]
[ "$CNB_PLATFORM_DIR" = "$1" ]
[ "$CNB_BUILD_PLAN_PATH" = "$2" ]
[ "$CNB_TARGET_OS" = linux ]
[ "$CNB_TARGET_ARCH" = amd64 ]
[ "$CNB_TARGET_DISTRO_NAME" = debian ]
[ "$CNB_TARGET_DISTRO_VERSION" = 13 ]
[ -z "${CNB_TARGET_ARCH_VARIANT+set}" ]
[ "$CNB_EXEC_ENV" = production ]
""",
    )

    assert ids(world.detect()) == ["a"]


def test_variables_of_newer_apis_are_not_set_for_older_buildpacks(world: World) -> None:
    older = '[ -z "${CNB_TARGET_OS+x}${CNB_EXEC_ENV+x}" ] && [ -n "$CNB_BUILD_PLAN_PATH" ]'
    world.add_buildpack("a", api="0.9", detect=older)
    world.add_buildpack(
        "b", api="0.11", detect='[ -n "$CNB_TARGET_OS" ] && [ -z "${CNB_EXEC_ENV+x}" ]'
    )

    assert ids(world.detect()) == ["a", "b"]


def test_the_users_environment_is_given_unless_the_buildpack_clears_it(world: World) -> None:
    world.add_buildpack("a", detect='[ "$MINE" = "x y" ] && [ "${PATH%%:*}" = /mine ]')
    world.add_buildpack("b", detect='[ -z "${MINE+x}" ]', clear_env="true")
    world.files["/platform/env/MINE"] = "x y"
    world.files["/platform/env/PATH"] = "/mine"

    assert ids(world.detect()) == ["a", "b"]


def test_the_operators_environment_fills_in_and_can_override(world: World) -> None:
    world.add_buildpack("a", detect='[ "$A$B" = user+operator ] && [ "$D" = forced ]')
    world.files["/platform/env/A"] = "user"
    world.files["/platform/env/D"] = "user"
    world.files["/cnb/build-config/env/A"] = "operator"
    world.files["/cnb/build-config/env/B"] = "+operator"
    world.files["/cnb/build-config/env/D.override"] = "forced"

    assert ids(world.detect()) == ["a"]


def test_the_build_plan_is_resolved_over_provides_and_requires(world: World) -> None:
    world.add_buildpack("node", detect=PROVIDES.format("node"))
    world.add_buildpack("npm", detect=REQUIRES.format("node"))

    detected = world.detect()

    assert ids(detected) == ["node", "npm"]
    assert [(e.name, e.providers, len(e.requires)) for e in detected.plan] == [
        ("node", ("node",), 1)
    ]


def test_an_optional_buildpack_that_is_not_needed_is_dropped(world: World) -> None:
    world.add_buildpack("node", detect=PROVIDES.format("node"), optional=True)
    world.add_buildpack("static")

    assert ids(world.detect()) == ["static"]


def test_a_plan_that_does_not_hold_fails_and_says_what_is_missing(world: World) -> None:
    world.add_buildpack("npm", detect=REQUIRES.format("node"))

    with pytest.raises(NoGroupPassedError) as caught:
        world.detect()

    assert caught.value.exit_code == 20
    assert caught.value.why == "tried npm requires 'node', which nothing up to it provides"


def test_a_plan_that_cannot_be_read_is_an_error(world: World) -> None:
    world.add_buildpack("a", detect="echo '[[' > $CNB_BUILD_PLAN_PATH")

    with pytest.raises(DetectionBrokenError, match="the build plan of a 1"):
        world.detect()


def test_a_buildpack_for_another_target_is_not_run(world: World) -> None:
    world.add_buildpack("a", toml='[[targets]]\nos = "linux"\narch = "arm64"\n')

    with pytest.raises(DetectionBrokenError) as caught:
        world.detect()

    assert caught.value.why == (
        "tried a: it is for linux/arm64, the run image is linux/amd64 (debian 13)"
    )


def test_an_optional_buildpack_for_another_target_is_left_out(world: World) -> None:
    world.add_buildpack("a", toml='[[targets]]\narch = "arm64"\n', optional=True)
    world.add_buildpack(
        "b", toml='[[targets]]\nos = "linux"\n[[targets.distros]]\nname = "debian"\n'
    )

    assert ids(world.detect()) == ["b"]


def test_an_unsupported_api_fails_with_code_12_even_in_a_group_that_is_never_tried(
    world: World,
) -> None:
    world.add_buildpack("a")
    world.add_buildpack("old", api="0.2")
    order = tuple(OrderGroup(group=(e,)) for e in world.order)

    with pytest.raises(BuildpackApiError) as caught:
        world.detect(order)

    assert caught.value.exit_code == 12


def test_an_unsupported_api_of_a_buildpack_that_the_order_does_not_name_is_fine(
    world: World,
) -> None:
    world.add_buildpack("a")
    world.add_buildpack("old", api="0.2", in_order=False)

    assert ids(world.detect()) == ["a"]


def test_an_unsupported_api_inside_a_composite_is_refused_when_it_is_reached(
    world: World,
) -> None:
    world.add_buildpack("old", api="0.2", in_order=False)
    world.add_buildpack("meta", toml='[[order]]\n[[order.group]]\nid = "old"\n')

    with pytest.raises(BuildpackApiError):
        world.detect()


def test_composites_are_expanded(world: World) -> None:
    world.add_buildpack("x", in_order=False)
    world.add_buildpack("y", in_order=False)
    world.add_buildpack(
        "meta", toml='[[order]]\n[[order.group]]\nid = "x"\n[[order.group]]\nid = "y"\n'
    )

    assert ids(world.detect()) == ["x", "y"]


def test_a_buildpack_that_is_not_in_the_builder_is_error_22_with_a_suggestion(
    world: World,
) -> None:
    world.add_buildpack("hako/python")
    order = (OrderGroup(group=(GroupElement(id="hako/phyton", version="1.0.0"),)),)

    with pytest.raises(DetectError, match="did you mean 'hako/python'") as caught:
        world.detect(order)

    assert caught.value.exit_code == 22


def test_system_buildpacks_take_part_in_every_group(world: World) -> None:
    world.add_buildpack("a")
    world.add_buildpack("before", in_order=False)
    world.add_buildpack("after", in_order=False)
    system = SystemBuildpacks(
        pre=SystemSide(buildpacks=(GroupElement(id="before", version="1.0.0"),)),
        post=SystemSide(buildpacks=(GroupElement(id="after", version="1.0.0", optional=True),)),
    )

    assert ids(detect_in(world, world.container(), system=system)) == ["before", "a", "after"]


def test_a_buildpack_for_another_execution_environment_is_dropped(world: World) -> None:
    world.add_buildpack("a")
    world.add_buildpack("tests", exec_env='["test"]')

    assert ids(world.detect()) == ["a"]
    world.exec_env = "test"
    assert ids(world.detect()) == ["a", "tests"]


def test_group_toml_and_plan_toml_are_written(world: World) -> None:
    world.add_buildpack("node", detect=PROVIDES.format("node"), homepage='"https://n.test"')
    world.add_buildpack("npm", api="0.10", detect=REQUIRES.format("node"), optional=True)
    environment = world.container()

    detect_in(world, environment)

    group = tomllib.loads(environment.read_text("/layers/group.toml") or "")
    plan = tomllib.loads(environment.read_text("/layers/plan.toml") or "")
    assert group == {
        "group": [
            {"id": "node", "version": "1.0.0", "api": "0.12", "homepage": "https://n.test"},
            {"id": "npm", "version": "1.0.0", "api": "0.10"},
        ]
    }
    assert plan == {
        "entries": [
            {"providers": [{"id": "node", "version": "1.0.0"}], "requires": [{"name": "node"}]}
        ]
    }


def test_the_participating_buildpacks_are_told(world: World) -> None:
    world.add_buildpack("hako/python", version="0.4.0")
    world.add_buildpack("b", detect="exit 100", optional=True)
    progress = RecordedProgress()

    detect_in(world, world.container(), progress=progress)

    assert progress.events == [
        ("phase", "DETECTING"),
        ("step", "1 of 2 buildpacks participating"),
        ("step", "hako/python 0.4.0"),
    ]
