"""Filters of Artifact Registry's lists, as its documentation writes them."""

from __future__ import annotations

import pytest

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
    ],
)
def test_what_is_no_filter_is_refused_in_words(text, why):
    with pytest.raises(InvalidArgumentError, match="is no filter") as caught:
        parse_filter(text, FIELDS)
    assert why in caught.value.why
    assert "FIELD of name, owner, version, annotations" in caught.value.fix
