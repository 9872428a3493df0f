from __future__ import annotations

import pytest

from hakobune.dockerfile.errors import DockerfileError
from hakobune.dockerfile.instructions import Arg, KeyValue
from hakobune.dockerfile.parse import parse
from hakobune.dockerfile.scope import Scope, global_args, platform_args, proxy_environment
from hakobune.oci.platform import Platform

AMD64, ARM64 = Platform.parse("linux/amd64"), Platform.parse("linux/arm64/v8")


def arg(line: str) -> Arg:
    (instruction,) = parse(f"FROM a\n{line}\n", "Dockerfile").stages[0].instructions
    assert isinstance(instruction, Arg)
    return instruction


def test_platforms_are_args_of_the_global_scope():
    values = platform_args(AMD64, ARM64, "")

    assert values == {
        "BUILDPLATFORM": "linux/amd64",
        "BUILDOS": "linux",
        "BUILDOSVERSION": "",
        "BUILDARCH": "amd64",
        "BUILDVARIANT": "",
        "TARGETPLATFORM": "linux/arm64/v8",
        "TARGETOS": "linux",
        "TARGETOSVERSION": "",
        "TARGETARCH": "arm64",
        "TARGETVARIANT": "v8",
        "TARGETSTAGE": "default",
    }


def test_args_before_from_see_each_other_and_what_is_given_wins():
    meta = parse("ARG A=1\nARG B=${A}2 C\nARG D=$C-\nFROM x\n", "Dockerfile").meta_args

    assert global_args(meta, {}, {}) == {"A": "1", "B": "12", "D": "-"}
    assert global_args(meta, {"A": "9", "C": "c"}, {}) == {"A": "9", "B": "92", "C": "c", "D": "c-"}


def test_a_default_that_cannot_be_expanded_names_its_line():
    meta = parse("ARG A=1\nARG B=${C:?needed}\nFROM x\n", "Dockerfile").meta_args

    with pytest.raises(DockerfileError) as caught:
        global_args(meta, {}, {})

    assert caught.value.what == "Dockerfile:2: C: needed"
    assert "--build-arg C=" in caught.value.fix


@pytest.mark.parametrize(
    ("line", "given", "value"),
    [
        ("ARG X", {}, None),
        ("ARG X", {"X": "given"}, "given"),
        ("ARG X=default", {}, "default"),
        ("ARG X=default", {"X": ""}, ""),
        ("ARG G", {}, "global"),
        ("ARG G=local", {}, "local"),
        ("ARG X=$ENV", {}, "env"),
        ("ARG X=$G", {}, ""),
    ],
)
def test_an_arg_takes_the_nearest_value(line: str, given: dict[str, str], value: str | None):
    scope = Scope.of_base(["ENV=env"]).with_args(arg(line), given, {"G": "global"})

    (declared,) = scope.args
    assert declared.value == value
    assert scope.variables.get(declared.key) == value


def test_args_of_one_line_see_each_other():
    scope = Scope().with_args(arg("ARG A=1 B=$A$A"), {}, {})

    assert scope.variables == {"A": "1", "B": "11"}
    assert scope.declared == {"A", "B"}


def test_the_later_of_env_and_arg_wins():
    scope = Scope().with_args(arg("ARG X=arg"), {}, {}).with_env([KeyValue("X", "env")])

    assert scope.variables == {"X": "env"}
    assert scope.arg_values == {"X": "env"}
    assert scope.with_args(arg("ARG X=again"), {}, {}).variables == {"X": "again"}


def test_a_stage_from_a_stage_has_its_args_but_the_images_env_wins():
    base = Scope.of_base(["P=1"]).with_args(arg("ARG A=1 P=arg"), {}, {})

    scope = Scope.of_base(["P=1"], base)

    assert scope.variables == {"P": "1", "A": "1"}
    assert scope.declared == {"A", "P"}


def test_a_scope_is_never_changed_in_place():
    scope = Scope.of_base(["A=1"])

    scope.with_env([KeyValue("A", "2")])
    scope.with_args(arg("ARG A=3"), {}, {})

    assert scope.variables == {"A": "1"}


def test_proxies_come_in_both_cases():
    assert proxy_environment({"http_proxy": "p", "OTHER": "x"}) == {
        "HTTP_PROXY": "p",
        "http_proxy": "p",
    }
