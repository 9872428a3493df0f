from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hakobune.dockerfile.shell_pattern import remove_prefix, remove_suffix, replace

_TEXT = st.text("ab\n", max_size=8)
_PATTERN = st.text("ab*?", max_size=5)


def fits(pattern: str, text: str) -> bool:
    expression = "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern)
    return re.fullmatch(expression, text) is not None


@given(_TEXT, _PATTERN, st.booleans())
def test_a_prefix_is_the_shortest_or_longest_that_fits(text: str, pattern: str, longest: bool):
    lengths = [n for n in range(len(text) + 1) if fits(pattern, text[:n])]

    cut = (max(lengths) if longest else min(lengths)) if lengths else 0

    assert remove_prefix(text, pattern, longest=longest) == text[cut:]


@given(_TEXT, _PATTERN, st.booleans())
def test_a_suffix_is_the_shortest_or_longest_that_fits(text: str, pattern: str, longest: bool):
    starts = [n for n in range(len(text) + 1) if fits(pattern, text[n:])]

    cut = (min(starts) if longest else max(starts)) if starts else len(text)

    assert remove_suffix(text, pattern, longest=longest) == text[:cut]


@pytest.mark.parametrize(
    ("text", "pattern", "once", "everywhere"),
    [
        ("abab", "a", "Xbab", "XbXb"),
        ("abab", "b*", "aX", "aX"),
        ("abab", "z", "abab", "abab"),
        ("ab", "", "Xab", "XaXbX"),
        ("ab", "*", "X", "X"),
        ("", "*", "X", "X"),
        ("a/b", r"\/", "aXb", "aXb"),
        ("a*b", r"\*", "aXb", "aXb"),
    ],
)
def test_replacing_takes_the_leftmost_longest_match(
    text: str, pattern: str, once: str, everywhere: str
):
    assert replace(text, pattern, "X", everywhere=False) == once
    assert replace(text, pattern, "X", everywhere=True) == everywhere


def test_a_hostile_pattern_takes_no_time():
    begin = time.monotonic()

    assert remove_prefix("a" * 2000, "*a" * 40 + "b", longest=True) == "a" * 2000

    assert time.monotonic() - begin < 5
