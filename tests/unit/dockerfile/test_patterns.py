from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hakobune.dockerfile import patterns
from hakobune.dockerfile.errors import DockerfileError, TextError
from hakobune.dockerfile.ignore_file import IgnoreFile, find_ignore_file, read_ignore_file
from hakobune.dockerfile.patterns import Pattern, PatternSet, glob_matcher, has_wildcards


@pytest.mark.parametrize(
    ("pattern", "fitting", "others"),
    [
        ("*.md", ["a.md", ".md"], ["a/b.md", "a.mdx"]),
        ("a?c", ["abc"], ["a/c", "ac"]),
        ("[a-c]x", ["ax", "cx"], ["dx", "x"]),
        ("[^a-c]x", ["dx"], ["ax"]),
        (r"a\*", ["a*"], ["ab"]),
        ("src/*/x", ["src/a/x"], ["src/x", "src/a/b/x"]),
        ("**", ["a"], ["a/b"]),
    ],
)
def test_globs_stay_within_one_folder(pattern: str, fitting: list[str], others: list[str]):
    matcher = glob_matcher(pattern)

    assert [path for path in [*fitting, *others] if matcher(path)] == fitting


@pytest.mark.parametrize("pattern", ["[a", "[]", "[a-]", "[-a]", "a\\"])
def test_a_glob_that_cannot_be_understood_is_refused(pattern: str):
    with pytest.raises(TextError, match="invalid pattern"):
        glob_matcher(pattern)


@pytest.mark.parametrize(
    ("path", "wild"), [("a", False), ("a*", True), (r"a\*", False), (r"\\*", True), ("[a]", True)]
)
def test_wildcards_are_seen(path: str, wild: bool):
    assert has_wildcards(path) is wild


def test_two_stars_cross_folders():
    patterns = PatternSet.parse(["**/*.o", "a/**/z"])

    assert [p for p in ("x.o", "a/b/x.o", "a/z", "a/b/c/z", "z", "a/b") if patterns.matches(p)] == [
        "x.o",
        "a/b/x.o",
        "a/z",
        "a/b/c/z",
    ]


def test_the_last_pattern_decides_and_a_folder_carries_its_content():
    ignore = IgnoreFile.parse("docs\n!docs/keep\ndocs/keep/not\n", ".dockerignore")

    assert ignore.may_return
    assert [ignore.ignores(p) for p in ("docs/a", "docs/keep/b", "docs/keep/not/c", "src")] == [
        True,
        False,
        True,
        False,
    ]


def test_the_line_that_leaves_a_file_out_is_known():
    ignore = IgnoreFile.parse("# first\n\n*.log\n!a.log\n**/tmp\n", ".dockerignore")

    assert ignore.reason("b.log") == ".dockerignore:3 (*.log)"
    assert ignore.reason("x/tmp/y") == ".dockerignore:5 (**/tmp)"
    assert ignore.reason("a.log") == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n!\n", ".dockerignore:2: ! stands alone"),
        ("a\n\n[b\n", ".dockerignore:3: invalid pattern '[b'"),
    ],
)
def test_a_bad_line_is_named(text: str, message: str):
    with pytest.raises(DockerfileError) as caught:
        IgnoreFile.parse(text, ".dockerignore")

    assert caught.value.what.startswith(message)


def test_the_ignore_file_of_a_dockerfile_goes_first(tmp_path: Path):
    context, elsewhere = tmp_path / "context", tmp_path / "files"
    context.mkdir()
    elsewhere.mkdir()
    dockerfile = elsewhere / "web.Dockerfile"

    assert find_ignore_file(context, dockerfile) is None
    assert not read_ignore_file(context, dockerfile).ignores("a")

    (context / ".dockerignore").write_text("a\n")
    assert read_ignore_file(context, dockerfile).ignores("a")

    (elsewhere / "web.Dockerfile.dockerignore").write_text("b\n")
    ignore = read_ignore_file(context, dockerfile)
    assert [ignore.ignores(p) for p in "ab"] == [False, True]
    assert ignore.file == "web.Dockerfile.dockerignore"


_PATTERNS = st.lists(st.text("ab*?/!.", min_size=1, max_size=6), max_size=4)
_PATHS = st.lists(st.text("ab.", min_size=1, max_size=2), min_size=1, max_size=3).map("/".join)


@given(_PATTERNS, st.lists(_PATHS, max_size=6))
def test_the_order_of_questions_does_not_change_the_answers(texts: list[str], paths: list[str]):
    try:
        asked_in_order = PatternSet.parse(texts)
        asked_backwards = PatternSet.parse(texts)
    except TextError:
        return

    forwards = [asked_in_order.matches(path) for path in paths]

    assert [asked_backwards.matches(path) for path in reversed(paths)] == forwards[::-1]


@given(_PATTERNS.filter(lambda texts: not any(text.startswith("!") for text in texts)), _PATHS)
def test_without_exceptions_what_is_below_a_match_matches(texts: list[str], path: str):
    patterns = PatternSet.parse(texts)

    if patterns.matches(path):
        assert patterns.matches(f"{path}/below")


@given(st.text("ab*?/![]^-\\# \t\n.", max_size=30), _PATHS)
def test_any_ignore_file_is_understood_or_refused_with_its_line(text: str, path: str):
    try:
        ignore = IgnoreFile.parse(text, ".dockerignore")
    except DockerfileError as caught:
        error = caught
    else:
        assert (ignore.reason(path) != "") == ignore.ignores(path)
        return

    assert 1 <= error.line <= text.count("\n") + 1


def test_a_hostile_pattern_takes_no_time():
    ignore = IgnoreFile.parse(f"**/{'*a' * 60}b\n{'**/a/' * 40}b\n{'*a' * 30}*\n", ".dockerignore")
    begin = time.monotonic()

    assert not ignore.ignores("/".join(["a"] * 300))
    assert ignore.ignores("a" * 250)

    assert time.monotonic() - begin < 10


_MANY = st.text("ab*?/[]", min_size=1, max_size=12)


@given(_MANY, _PATHS)
def test_many_wildcards_mean_what_few_do(text: str, path: str):
    try:
        pattern = Pattern.parse(text)
    except TextError:
        return
    if pattern is None:
        return
    parts = patterns._Translation(pattern.text).run(double_stars=True)

    slow = patterns._fits(
        [one if one in _WILD else re.compile(one).fullmatch for one in parts], path
    )

    assert (slow is not None) == (re.compile("".join(parts)).fullmatch(path) is not None)


_WILD = ("[^/]*", "(?:.*/)?", ".*")
