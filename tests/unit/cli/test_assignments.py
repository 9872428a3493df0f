"""Variables and labels on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from hakobune.cli.assignments import (
    BUILDPACK_NAME,
    SHELL_NAME,
    parse_env_file,
    parse_pairs,
    parse_variables,
    read_env_file,
)
from hakobune.errors import UsageError


def test_a_variable_without_value_is_copied_from_the_caller() -> None:
    found = parse_variables(["A=1=2", "HOME", "B=", "A=3"], {"HOME": "/root"}, "-e")

    assert found == {"A": "3", "HOME": "/root", "B": ""}


def test_a_variable_that_the_caller_lacks_is_left_out_or_refused() -> None:
    assert parse_variables(["NOPE"], {}, "-e") == {}
    with pytest.raises(UsageError) as refused:
        parse_variables(["NOPE"], {}, "--env", must_exist=True)

    assert refused.value.what == "--env NOPE copies a variable that is not set here"
    assert refused.value.fix == "--env NOPE=VALUE"


@pytest.mark.parametrize("text", ["=x", "", "1A=x", "A-B=x"])
def test_what_begins_with_no_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="does not begin with a variable's name"):
        parse_variables([text], {}, "--env", name=SHELL_NAME)


def test_a_label_may_have_any_name_and_no_value() -> None:
    assert parse_pairs(["a.b/c=d=e", "empty"], "--label") == {"a.b/c": "d=e", "empty": ""}
    with pytest.raises(UsageError, match="--label '=x'"):
        parse_pairs(["=x"], "--label")


def test_a_file_of_variables_has_one_a_line_without_quotes() -> None:
    text = "\ufeff# comment\n\nA=1=2\n  HOME\nB='x y' \r\nNOPE\nA.b-c=\n"

    found = parse_env_file(text, {"HOME": "/root"}, "vars", name=BUILDPACK_NAME)

    assert found == {"A": "1=2", "HOME": "/root", "B": "'x y' ", "A.b-c": ""}


def test_a_file_and_an_option_are_refused_in_the_same_words(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as option:
        parse_variables(["=x"], {}, "--env", name=BUILDPACK_NAME)
    with pytest.raises(UsageError) as file:
        parse_env_file("A=1\n=x\n", {}, "vars", name=BUILDPACK_NAME)

    assert option.value.what == "--env '=x' does not begin with a variable's name"
    assert option.value.fix == "--env NAME=VALUE"
    assert file.value.what == "vars:2: '=x' does not begin with a variable's name"
    assert file.value.fix == "NAME=VALUE"
    (tmp_path / "latin").write_bytes(b"A=\xe9")
    for path, what in (("latin", "is not UTF-8"), ("nowhere", "cannot read")):
        with pytest.raises(UsageError, match=what) as refused:
            read_env_file(str(tmp_path / path), {}, "--env-file")
        assert refused.value.fix
