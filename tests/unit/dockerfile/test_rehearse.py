from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hakobune.dockerfile.errors import DockerfileError
from hakobune.dockerfile.graph import plan
from hakobune.dockerfile.ignore_file import IgnoreFile
from hakobune.dockerfile.instructions import LintWarning
from hakobune.dockerfile.parse import parse
from hakobune.dockerfile.rehearse import all_warnings, rehearse
from hakobune.oci.platform import Platform

AMD64 = Platform.parse("linux/amd64")


def rehearsed(text: str, **args: str) -> tuple[LintWarning, ...]:
    """All warnings of a file whose base images have PATH and BASE."""
    dockerfile = parse(text, "Dockerfile")
    planned = plan(dockerfile, args=args, build_platform=AMD64, target_platform=AMD64)
    found = rehearse(planned, lambda one: ["PATH=/bin", "BASE=b"], args, dockerfile.escape)
    return all_warnings(dockerfile, planned, found, platform=AMD64)


def messages(text: str, **args: str) -> list[str]:
    return [f"{one.at.line} {one.message}" for one in rehearsed(text, **args)]


def test_variables_come_from_the_base_from_env_and_from_args():
    text = "ARG G=1\nFROM a\nARG G\nARG X\nENV E=$BASE\nENV F=$E$G$X$PATH\nENV H=$E1\n"

    assert messages(text) == ["7 $E1 is not set; did you mean E?"]


def test_a_stage_made_from_a_stage_has_its_variables():
    text = "FROM a AS x\nENV E=1\nARG A=2\nFROM x\nENV F=$E$A$NOPE_AT_ALL\n"

    assert messages(text) == ["5 $NOPE_AT_ALL is not set"]


def test_a_value_in_the_last_line_is_wrong_before_anything_runs():
    with pytest.raises(DockerfileError) as caught:
        rehearsed("FROM a\nRUN sleep 100\nARG P=80x\nEXPOSE $P\n")

    assert caught.value.what == "Dockerfile:4: '80x' is not a port number"


def test_a_build_arg_can_mend_it():
    assert rehearsed("FROM a\nARG P=80x\nEXPOSE $P\n", P="80") == ()


def test_a_stage_nobody_needs_is_not_looked_at():
    assert rehearsed("FROM a\nSTOPSIGNAL NONE\nFROM b\n") == ()


def test_a_default_that_uses_what_is_not_set_is_told():
    text = "FROM a\nARG A=$NOPE_AT_ALL\nARG B=$A C=$B$BASE D=$X1 X1\n"

    assert messages(text) == ["2 $NOPE_AT_ALL is not set", "3 $X1 is not set"]
    assert messages(text, A="1", D="1") == []


def test_a_default_that_cannot_be_read_is_an_error_with_its_line():
    with pytest.raises(DockerfileError) as caught:
        rehearsed("FROM a\nARG A=${B\n")

    assert caught.value.line == 2


def test_a_base_that_is_none_without_build_args_is_told():
    text = "ARG BASE\nARG TAG=1\nFROM $BASE AS x\nFROM a:$TAG\nFROM x\n"

    found = rehearsed(text, BASE="b")

    assert [(one.rule, one.at.line) for one in found] == [("InvalidDefaultArgInFrom", 3)]
    assert "${" not in found[0].message
    assert rehearsed(text.replace("ARG BASE", "ARG BASE=b")) == ()


def test_a_variable_of_a_declared_arg_may_be_empty_in_from():
    assert rehearsed("ARG DEBUG\nFROM a${DEBUG:+-debug}\n") == ()
    assert [one.rule for one in rehearsed("FROM a${DEBUG:+-debug}\n")] == ["UndefinedArgInFrom"]


def test_a_source_that_the_ignore_file_leaves_out_is_told():
    text = (
        "FROM a AS b\nARG D=dist\nCOPY --from=0 dist /\nFROM b\n"
        "COPY ./$D/ x /\nADD https://h/dist dist/a /\nCOPY . /\n"
    )
    ignore = IgnoreFile.parse("dist\n", ".dockerignore")
    dockerfile = parse(text.replace("--from=0 ", ""), "Dockerfile")
    planned = plan(dockerfile, args={}, build_platform=AMD64, target_platform=AMD64)

    found = rehearse(planned, lambda one: (), {}, dockerfile.escape, left_out=ignore.left_out)

    assert [str(one) for one in found] == [
        "Dockerfile:3: COPY dist: .dockerignore:1 (dist) leaves it out (CopyIgnoredFile)",
        "Dockerfile:5: COPY ./dist/: .dockerignore:1 (dist) leaves it out (CopyIgnoredFile)",
        "Dockerfile:6: ADD dist/a: .dockerignore:1 (dist) leaves it out (CopyIgnoredFile)",
    ]
    some = IgnoreFile.parse("dist\n!dist/a\n", ".dockerignore")
    assert rehearse(planned, lambda one: (), {}, dockerfile.escape, left_out=some.left_out) == ()


def test_nothing_is_said_about_variables_on_a_base_that_nobody_knows():
    dockerfile = parse("FROM a AS b\nENV A=$NOPE_AT_ALL\nFROM b\nENV B=$NOR_THIS\n", "Dockerfile")
    planned = plan(dockerfile, args={}, build_platform=AMD64, target_platform=AMD64)

    assert rehearse(planned, lambda one: None, {}, dockerfile.escape) == ()


def test_warnings_are_in_order_of_lines_and_can_be_turned_off():
    text = "FROM a\nENV A=$NOPE_AT_ALL\nCMD x\n"

    assert [one.rule for one in rehearsed(text)] == ["UndefinedVar", "JSONArgsRecommended"]
    skipped = f"# check=skip=UndefinedVar\n{text}"
    assert [one.rule for one in rehearsed(skipped)] == ["JSONArgsRecommended"]


def test_a_file_can_want_no_warnings():
    with pytest.raises(DockerfileError) as caught:
        rehearsed("# check=error=true\nFROM a\nCMD x\nMAINTAINER y\n")

    assert caught.value.line == 3
    assert "JSONArgsRecommended" in caught.value.what
    assert rehearsed("# check=skip=all;error=true\nFROM a\nCMD x\n") == ()


_PIECES = st.sampled_from(
    ["FROM a AS b\n", "FROM b\n", "FROM scratch\n", "COPY --from=b x y\n", "COPY --from=0 x y\n", "RUN --mount=from=b,target=/x y\n", "ARG A",
     "ENV A=", "$A", "${A", "${A:-", "}", "${A#", "${A/", "/", "*", "\\", "'", '"', "EXPOSE ", "STOPSIGNAL ", "VOLUME ", "--chmod=", "9" * 5000,
     "ADD ", "https://h/x.git", "#", "?", "=", " ", "\n", "u=rwX", "RUN --mount=type=", "cache,target=", "size=1g", "--checksum=", "ONBUILD ",
     "FROM --platform=", "linux/", "<<E\n", "E\n", "\ud800", "80-90", ":"]
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(_PIECES, max_size=25).map("".join))
def test_any_file_is_rehearsed_or_refused(text: str):
    try:
        rehearsed(f"FROM a\n{text}")
    except DockerfileError as caught:
        error = caught
    else:
        return

    assert error.what.startswith("Dockerfile")
