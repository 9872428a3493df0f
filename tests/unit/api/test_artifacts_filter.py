"""Filters of Artifact Registry's lists, as its documentation writes them."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hakobune.api.artifacts_filter import parse_filter
from hakobune.serving.errors import InvalidArgumentError

FIELDS = ("name", "owner", "version", "annotations")
WEB = {
    "name": "projects/p/locations/l/repositories/r/packages/web",
    "annotations": {"external_link": "x", "external.link": "https://example.com/my-version"},
}


@pytest.mark.parametrize(
    "text",
    [
        "",
        'name="projects/p/locations/l/repositories/r/packages/web"',
        'name = "PROJECTS/p/locations/l/repositories/r/packages/WEB"',
        'name="projects/p/locations/l/repositories/r/packages/w*"',
        "name=*/packages/web",
        'name="*/packages/*e*"',
        'name!="*/packages/api"',
        "annotations.external_link:x",
        "annotations.external_link",
        "annotations.`external.link`:`https://example.com/my-version`",
        "annotations.*_link:`x*`",
        'name="*web" AND annotations.external_link:x',
        'name="*web" annotations.external_link:x',
        'name="*api" OR name="*web"',
        'NOT name="*api"',
        '(name="*api" OR name="*web") AND NOT annotations.team',
        'name="*web" AND name="*web" OR name="*no"',
    ],
)
def test_a_filter_finds_what_it_says(text):
    assert parse_filter(text, FIELDS)(WEB)


@pytest.mark.parametrize(
    "text",
    [
        'name="*/packages/we"',
        'name!="*web"',
        "annotations.team",
        "annotations.external_link:y",
        "NOT annotations.external_link",
        'name="*web" AND name="*api"',
        'name="*api" AND name="*web" OR name="*web"',
    ],
)
def test_a_filter_leaves_out_the_rest(text):
    assert not parse_filter(text, FIELDS)(WEB)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('size="3"', "'size' cannot be filtered by"),
        ("name", "name is compared with = or !="),
        ("name=", "a value is missing at the end"),
        ('(name="x"', "a parenthesis is not closed"),
        ('name="x")', "nothing is expected at ')'"),
        ('name="x', "cannot be read"),
        ("annotations:x", "an annotation is named by annotations.KEY"),
        ("NOT", "it ends too soon"),
        ("NOT " * 60 + 'name="x"', "it is nested too deeply"),
        ("(" * 60 + 'name="x"' + ")" * 60, "it is nested too deeply"),
    ],
)
def test_what_is_no_filter_is_refused_in_words(text, why):
    with pytest.raises(InvalidArgumentError, match="is no filter") as caught:
        parse_filter(text, FIELDS)
    assert why in caught.value.why
    assert "FIELD of name, owner, version, annotations" in caught.value.fix


def test_a_long_filter_is_refused():
    with pytest.raises(InvalidArgumentError, match="too long"):
        parse_filter("x" * 9000, FIELDS)


def test_many_stars_take_no_time():
    matches = parse_filter('name="' + "*a" * 500 + 'b"', FIELDS)

    assert not matches({"name": "a" * 5000})


@given(st.text('ab*"`()=!: .NOTandORname', max_size=40))
def test_any_text_is_a_filter_or_refused(text):
    with contextlib.suppress(InvalidArgumentError):
        parse_filter(text, FIELDS)(WEB)


@given(st.text("ab*", max_size=8), st.text("abAB", max_size=8))
def test_stars_stand_for_any_text(pattern, value):
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), value, re.IGNORECASE)

    assert parse_filter(f'name="{pattern}"', FIELDS)({"name": value}) == bool(expected)
