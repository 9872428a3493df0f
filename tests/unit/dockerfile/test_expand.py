from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hakobune.dockerfile.errors import TextError
from hakobune.dockerfile.expand import expand, expand_words, expansion

VARIABLES = {"A": "aa", "EMPTY": "", "PATH": "/usr/local/bin", "FILE": "archive.tar.gz", "B": "x y"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$A-${A}-$NOPE-", "aa-aa--"),
        ("${NOPE:-d}${EMPTY:-d}${EMPTY-d}${NOPE-d}", "ddd"),
        ("${A:+p}${EMPTY:+p}${EMPTY+p}${NOPE+p}", "pp"),
        ("${FILE#*.} ${FILE##*.} ${FILE%.*} ${FILE%%.*}", "tar.gz gz archive.tar archive"),
        ("${FILE/r/R} ${FILE//r/R} ${FILE/.*/}", "aRchive.tar.gz aRchive.taR.gz archive"),
        ("${PATH//\\//-}", "-usr-local-bin"),
        ("${NOPE:-${ALSO:-$A}}", "aa"),
        ("'$A' \"$A\" \\$A", "$A aa $A"),
        ("'a\\' b", "a\\ b"),
        ('"a\\"b\\nc"', 'a"b\\nc'),
        ("a\\", "a"),
        ("$ $. $1 ${10} $@", "$ $.   "),
        ("", ""),
    ],
)
def test_words_are_expanded(text: str, result: str):
    assert expand(text, VARIABLES) == result


def test_the_escape_can_be_a_backquote():
    assert expand("c:\\x `$A `` `\\", VARIABLES, "`") == "c:\\x $A ` \\"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("${NOPE:?is needed}", "NOPE: is needed"),
        ("${NOPE?}", "NOPE is not set"),
        ("${EMPTY:?}", "EMPTY is empty"),
        ("${A", "} is missing in '${A'"),
        ("${A:-b", "} is missing in '${A:-b'"),
        ("${A/b", "/ is missing in '${A/b'"),
        ("${}", "bad substitution in '${}'"),
        ("${A:=b}", "unknown operator ':=' in '${A:=b}'"),
        ("${A^^}", "unknown operator '^' in '${A^^}'"),
        ("'a", 'a single quote is not closed in "\'a"'),
        ('"a', "a double quote is not closed in '\"a'"),
        ("${A#\\x}", "invalid pattern '\\\\x': a backslash stands before 'x'"),
    ],
)
def test_what_cannot_be_expanded_is_told(text: str, problem: str):
    with pytest.raises(TextError) as caught:
        expand(text, VARIABLES)

    assert caught.value.problem == problem


def test_a_deep_nest_is_refused_not_a_crash():
    with pytest.raises(TextError, match="nested"):
        expand("${A:+" * 5000, VARIABLES)


def test_words_are_split_where_no_quote_holds_them():
    assert expand_words("a 'b c' $B \"$B\" d\\ e", VARIABLES) == (
        "a",
        "b c",
        "x",
        "y",
        "x y",
        "d e",
    )
    assert expand_words("a${A:+b}c", VARIABLES) == ("abc",)


def test_used_and_missing_variables_are_known():
    found = expansion("$A ${NOPE:-$B} $GONE", VARIABLES)

    assert found.used == {"A", "B"}
    assert found.missing == {"NOPE", "GONE"}


def test_bodies_of_files_keep_their_quotes():
    assert expansion("\"$A\" '$A' \\$A", VARIABLES, quotes_are_text=True).text == "\"aa\" 'aa' $A"


_NAMES = st.sampled_from(["A", "E", "N", "P"])
_SET = {"A": "abcabc", "E": "", "P": "a/b.c/d.e"}
_PLAIN = st.text("ab/.c", max_size=4)
_PATTERN = st.text("ab/.c*?", max_size=4)


def _operators(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    default = st.tuples(st.sampled_from([":-", "-", ":+", "+"]), inner).map("".join)
    remove = st.tuples(st.sampled_from(["#", "##", "%", "%%"]), _PATTERN).filter(
        # "${x#%a}" and the like: which characters belong to the operator is a matter of taste
        lambda pair: not pair[1].startswith(("#", "%"))
    )
    operator = st.one_of(st.just(""), default, remove.map("".join))
    return st.tuples(_NAMES, operator).map(lambda pair: f"${{{pair[0]}{pair[1]}}}")


_EXPRESSIONS = st.recursive(_PLAIN, lambda inner: st.lists(st.one_of(_PLAIN, _operators(inner)), max_size=3).map("".join), max_leaves=6)  # fmt: skip


@settings(max_examples=10, deadline=None)
@given(st.lists(_EXPRESSIONS, min_size=20, max_size=40))
def test_the_posix_operators_are_those_of_sh(expressions: list[str]):
    script = "".join(f'printf "%s\\n" "{expression}"\n' for expression in expressions)
    done = subprocess.run(
        ["/bin/sh", "-c", script], env=_SET, check=True, capture_output=True, text=True
    )

    assert [expand(f'"{one}"', _SET) for one in expressions] == done.stdout.split("\n")[:-1]


@given(st.text("$A{}:-+?#%/'\"\\`* \t<ax", max_size=30), st.sampled_from("\\`"))
def test_any_text_is_expanded_or_refused(text: str, escape: str):
    try:
        expand(text, VARIABLES, escape)
    except TextError as caught:
        error = caught
    else:
        return

    assert error.problem


@given(st.text(st.characters(blacklist_characters="$'\"\\<", blacklist_categories=["Cs"])))
def test_text_without_special_characters_stays(text: str):
    assert expand(text, VARIABLES) == text
