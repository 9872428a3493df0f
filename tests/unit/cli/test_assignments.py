"""Variables and labels on the command line."""

from __future__ import annotations

import pytest

from hakobune.cli.assignments import SHELL_NAME, parse_pairs, parse_variables
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
