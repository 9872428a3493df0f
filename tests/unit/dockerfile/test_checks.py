from __future__ import annotations

import pytest

from hakobune.dockerfile.checks import Checks, page_of
from hakobune.dockerfile.errors import DockerfileError, TextError
from hakobune.dockerfile.parse import parse


def test_options_are_read_in_any_order():
    checks = Checks.parse(" error = true ; skip=A, B;experimental=all ")

    assert checks == Checks(frozenset({"A", "B"}), frozenset({"all"}), True)
    assert Checks.parse("") == Checks()
    assert not Checks.parse("error=0").error


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("foo=bar", "unknown check option 'foo'"),
        ("skipp=A", "unknown check option 'skipp'"),
        ("skip", "unknown check option 'skip'"),
        ("error=maybe", "error=maybe is neither true nor false"),
    ],
)
def test_an_unknown_option_is_refused(text: str, problem: str):
    with pytest.raises(TextError) as caught:
        Checks.parse(text)

    assert caught.value.problem == problem
    assert caught.value.fix


def test_a_wrong_directive_is_told_with_its_line():
    with pytest.raises(DockerfileError) as caught:
        parse("# syntax=x\n# check=error=yes\nFROM a\n", "Dockerfile")

    assert caught.value.what == "Dockerfile:2: error=yes is neither true nor false"


def test_a_skipped_rule_is_not_wanted_and_an_experimental_one_only_if_named():
    assert not Checks.parse("skip=StageNameCasing").wants("StageNameCasing")
    assert not Checks.parse("skip=all").wants("StageNameCasing")
    assert Checks().wants("StageNameCasing")
    assert not Checks().wants("InvalidDefinitionDescription")
    assert Checks.parse("experimental=all").wants("InvalidDefinitionDescription")


@pytest.mark.parametrize(
    ("rule", "page"),
    [
        ("JSONArgsRecommended", "json-args-recommended"),
        ("SecretsUsedInArgOrEnv", "secrets-used-in-arg-or-env"),
        ("FromPlatformFlagConstDisallowed", "from-platform-flag-const-disallowed"),
        ("UndefinedVar", "undefined-var"),
        ("FromAsCasing", "from-as-casing"),
    ],
)
def test_each_rule_has_a_page(rule: str, page: str):
    assert page_of(rule) == f"https://docs.docker.com/go/dockerfile/rule/{page}/"
