from __future__ import annotations

from typing import Any

import pytest

from hakobune.dockerfile.checks import wanted
from hakobune.dockerfile.errors import DockerfileError
from hakobune.dockerfile.graph import (
    ContextSource,
    ImageSource,
    Plan,
    ScratchSource,
    StageSource,
    levels,
    plan,
)
from hakobune.dockerfile.parse import parse, parse_triggers
from hakobune.oci.platform import Platform

AMD64, ARM64 = Platform.parse("linux/amd64"), Platform.parse("linux/arm64")


def planned(text: str, **options: Any) -> Plan:
    defaults: dict[str, Any] = {"args": {}, "build_platform": AMD64, "target_platform": AMD64}
    return plan(parse(text, "Dockerfile"), **{**defaults, **options})


def shape(plan: Plan) -> dict[int, tuple[int, ...]]:
    return {one.stage.index: one.needs for one in plan.stages}


def test_only_what_the_target_needs_is_built():
    text = "FROM a AS base\nFROM base AS test\nFROM c AS tools\nFROM base\nCOPY --from=tools x y\n"

    assert shape(planned(text)) == {0: (), 2: (), 3: (0, 2)}
    assert shape(planned(text, target="test")) == {0: (), 1: (0,)}
    assert shape(planned(text, target="TOOLS")) == {2: ()}
    assert planned(text, target="1").target == 1


def test_a_stage_nobody_needs_may_be_wrong():
    text = "FROM a AS x\nCOPY --from=later a b\nFROM ${NOPE}\nFROM c AS later\n"

    assert shape(planned(text)) == {2: ()}


def test_bases_and_sources():
    text = (
        "ARG IMG=alpine\nFROM ${IMG}:3 AS Base\nFROM base AS mid\nFROM scratch\n"
        "COPY --from=BASE a b\nCOPY --from=1 a b\nCOPY --from=busybox a b\nCOPY --from=scratch a b\n"
        "COPY --from=extra a b\nRUN --mount=from=mid,target=/m --mount=type=cache,target=/c x\n"
    )

    result = planned(text, named_contexts=["Extra"])

    assert [one.base for one in result.stages] == [
        ImageSource("alpine:3"),
        StageSource(0),
        ScratchSource(),
    ]
    assert result.stages[2].sources == {
        "BASE": StageSource(0),
        "1": StageSource(1),
        "busybox": ImageSource("busybox"),
        "scratch": ScratchSource(),
        "extra": ContextSource("extra"),
        "mid": StageSource(1),
    }
    assert result.stages[2].needs == (0, 1)


def test_a_number_in_a_mount_is_an_image():
    result = planned("FROM a\nFROM b\nRUN --mount=from=0,target=/m x\n")

    assert result.stages[0].sources == {"0": ImageSource("0")}


def test_a_named_context_replaces_a_stage_of_that_name():
    result = planned("FROM a AS base\nRUN x\nFROM base\n", named_contexts=["base"])

    assert [one.base for one in result.stages] == [ContextSource("base"), StageSource(0)]


def test_of_two_stages_with_one_name_from_takes_the_nearest_above():
    result = planned("FROM a AS x\nFROM b AS x\nFROM x\n")

    assert shape(result) == {1: (), 2: (1,)}


def test_platforms_are_expanded_and_inherited():
    text = "FROM --platform=$BUILDPLATFORM a AS tool\nFROM tool AS more\nFROM b\nCOPY --from=more x y\n"

    result = planned(text, target_platform=ARM64)

    assert [str(one.platform) for one in result.stages] == [
        "linux/amd64",
        "linux/amd64",
        "linux/arm64",
    ]


@pytest.mark.parametrize(
    ("written", "platform"),
    [("linux", "linux/amd64"), ("arm64", "linux/arm64"), ("linux/arm/v7", "linux/arm/v7")],
)
def test_half_a_platform_is_filled_up(written: str, platform: str):
    (stage,) = planned(f"FROM --platform={written} a\n").stages

    assert str(stage.platform) == platform


def test_global_args_hold_platforms_and_the_targets_name():
    result = planned("ARG V=1\nFROM a:$V AS last\n", args={"V": "2"})

    assert result.global_args["V"] == "2"
    assert result.global_args["TARGETSTAGE"] == "last"
    assert result.stages[0].base == ImageSource("a:2")


def test_triggers_of_a_stage_or_image_come_first_and_bring_their_needs():
    text = "FROM a AS base\nONBUILD COPY --from=tool x y\nRUN own\nFROM t AS tool\nFROM base\nRUN last\n"
    result = planned(text)

    assert shape(result) == {0: (), 1: (), 2: (0, 1)}
    assert [one.keyword for one in result.stages[2].stage.instructions] == ["COPY", "RUN"]

    text = "FROM t AS tool\nFROM image\nRUN x\n"
    stage = parse(text, "Dockerfile").stages[1]
    triggers = {1: parse_triggers(["COPY --from=tool a b"], stage, "image")}

    assert shape(planned(text)) == {1: ()}
    assert shape(planned(text, triggers=triggers)) == {0: (), 1: (0,)}


def test_independent_stages_stand_in_one_level():
    text = "FROM a AS x\nFROM b AS y\nFROM x AS z\nCOPY --from=y p q\nFROM scratch\nCOPY --from=z a b\n"

    groups = levels(planned(text).stages)

    assert [[one.stage.index for one in group] for group in groups] == [[0, 1], [2], [3]]


@pytest.mark.parametrize(
    ("text", "options", "what", "fix"),
    [
        ("FROM a AS builder\n", {"target": "bilder"}, "Dockerfile: there is no stage 'bilder'", "did you mean builder?"),
        ("FROM a AS x\n", {"target": "zzz"}, "Dockerfile: there is no stage 'zzz'", "stages are x"),
        ("FROM a\n", {"target": "7"}, "Dockerfile: there is no stage '7'", "FROM IMAGE AS NAME"),
        ("FROM a\nCOPY --from=3 x y\n", {}, "Dockerfile:2: there is no stage 3", "numbered from 0 to 0"),
        ("FROM a AS x\nCOPY --from=x a b\n", {}, "Dockerfile:2: the stage 'x' reads from itself", "before it"),
        ("FROM a\nCOPY --from=0 a b\n", {}, "Dockerfile:2: the stage '0' reads from itself", "before it"),
        ("FROM a AS x\nCOPY --from=y a b\nFROM b AS y\nCOPY --from=x a b\n", {}, "Dockerfile:4: these stages need each other: y → x → y", "before it"),
        ("FROM a AS x\nRUN --mount=from=y,target=/m z\nFROM b AS y\nFROM x\n", {}, "Dockerfile:2: the stage 'y' comes later than line 2", "move the stage y up"),
        ("ARG I\nFROM $I\n", {}, "Dockerfile:2: the base image $I is empty", "--build-arg"),
        ("FROM --platform=linux/ a\n", {}, "Dockerfile:1: 'linux/' is not a platform", "linux/amd64"),
        ("FROM --platform=$X a\n", {"args": {}}, "Dockerfile:1: --platform=$X is '', which is not a platform", "linux/amd64"),
        ("FROM ${A\n", {}, "Dockerfile:1: } is missing in '${A'", "add }"),
    ],
)  # fmt: skip
def test_what_cannot_be_planned_is_told(text: str, options: dict[str, Any], what: str, fix: str):
    with pytest.raises(DockerfileError) as caught:
        planned(text, **options)

    assert caught.value.what.startswith(what)
    assert fix in caught.value.fix


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("ARG VERSION=1\nFROM a:$VERSON\n", "UndefinedArgInFrom"),
        ("FROM --platform=$TARGETPLATFORM a\n", "RedundantTargetPlatform"),
        ("FROM --platform=linux/amd64 a\n", "FromPlatformFlagConstDisallowed"),
    ],
)
def test_from_lines_are_warned_about(text: str, rule: str):
    (warning,) = planned(text).warnings

    assert warning.rule == rule
    if rule == "UndefinedArgInFrom":
        assert "did you mean VERSION?" in warning.message
    skipping = parse(f"# check=skip={rule}\n{text}", "Dockerfile")
    assert wanted(skipping, [warning]) == ()


def test_a_long_chain_of_stages_is_no_problem():
    text = "FROM a AS s0\n" + "".join(f"FROM s{i} AS s{i + 1}\n" for i in range(300))

    assert len(planned(text).stages) == 301


def test_a_named_context_stands_for_an_image_however_its_name_is_written():
    text = "FROM docker.io/library/alpine:latest\nCOPY --from=alpine /a /\n"

    result = planned(text, named_contexts=["alpine"])

    assert result.stages[0].base == ContextSource("alpine")
    assert result.stages[0].sources == {"alpine": ContextSource("alpine")}


def test_of_a_stage_that_a_context_replaces_nothing_is_carried_out():
    result = planned(
        "FROM a AS base\nCOPY --from=x /y /\nRUN z\nFROM base\n", named_contexts=["base"]
    )

    assert result.stages[0].stage.instructions == ()
    assert result.stages[0].sources == {}
