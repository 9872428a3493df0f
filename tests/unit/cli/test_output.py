"""YAML as it is printed."""

from __future__ import annotations

import pytest

from hakobune.cli.output import yaml_lines


def text(value) -> str:
    return "\n".join(yaml_lines(value))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": "b", "count": 1, "t": True, "none": None}, "a: b\ncount: 1\nt: true\nnone: null"),
        ({"a": {"b": {"c": "d"}}}, "a:\n  b:\n    c: d"),
        ({"a": ["x", "y"]}, 'a:\n- x\n- "y"'),
        ({"a": [{"b": "c", "d": ["e"]}]}, "a:\n- b: c\n  d:\n  - e"),
        ({"a": [], "b": {}, "c": ""}, 'a: []\nb: {}\nc: ""'),
        ([], "[]"),
        ({}, "{}"),
        ({"a": "yes", "b": "1.5", "c": "x: y", "d": "x\ny", "e": "- x"}, 'a: "yes"\nb: "1.5"\nc: "x: y"\nd: "x\\ny"\ne: "- x"'),
        ({"a": "localhost:8080/p/r", "b": "2026-01-01T00:00:00Z"}, 'a: localhost:8080/p/r\nb: "2026-01-01T00:00:00Z"'),
        ({"dir%2Fx": "sha256:ab"}, '"dir%2Fx": sha256:ab'),
    ],
)  # fmt: skip
def test_documents_are_written_as_yaml(value, expected):
    assert text(value) == expected
