from __future__ import annotations

import pytest

from hakobune.dockerfile.errors import TextError
from hakobune.dockerfile.git_source import GitSource, is_git, read_git_source, with_flags

URL = "https://example.com/a/b.git"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("source", "git"),
    [
        (URL, True),
        (f"{URL}#main:docs", True),
        (f"{URL}?ref=v1", True),
        ("git@github.com:a/b.git#v1", True),
        ("git@github.com:a/b", True),
        ("ssh://git@host/a", True),
        ("git://host/a", True),
        ("https://example.com/a/b", False),
        ("https://example.com/a.git.tar", False),
        ("https://example.com/x?y=a.git", False),
        ("a.git", False),
        ("me@home/x", False),
        ("ftp://host/a.git", False),
    ],
)
def test_repositories_are_known_by_their_form(source: str, git: bool):
    assert is_git(source) is git


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (URL, GitSource(remote=URL)),
        (f"{URL}#v1", GitSource(remote=URL, ref="v1")),
        (f"{URL}#:docs", GitSource(remote=URL, folder="docs")),
        (f"{URL}#a/b:c/../d/", GitSource(remote=URL, ref="a/b", folder="d")),
        (f"{URL}#:../../etc", GitSource(remote=URL, folder="etc")),
        (f"{URL}?tag=v1&subdir=x", GitSource(remote=URL, ref="refs/tags/v1", folder="x")),
        (f"{URL}?branch=main", GitSource(remote=URL, ref="refs/heads/main")),
        (f"{URL}?ref=main&commit={COMMIT}", GitSource(remote=URL, ref="main", commit=COMMIT)),
        (f"{URL}?keep-git-dir&submodules=0", GitSource(remote=URL, keep_git_dir=True, submodules=False)),
        ("git@h:a/b.git#v1", GitSource(remote="git@h:a/b.git", ref="v1")),
    ],
)  # fmt: skip
def test_a_source_has_a_ref_a_folder_and_options(source: str, expected: GitSource):
    assert read_git_source(source) == expected


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (f"{URL}?reff=x", "a git source has no option 'reff'"),
        (f"{URL}?tag=a&branch=b", "names two refs"),
        (f"{URL}?ref=a#b", "names two refs"),
        (f"{URL}?submodules=some", "submodules is true or false, not 'some'"),
        (f"{URL}?ref=", "ref= has no value"),
        (f"{URL}?subdir=a&subdir=b", "subdir= is written twice"),
        (f"{URL}?mtime=now", "mtime is commit or checkout, not 'now'"),
        (f"{URL}?fetch-by-commit=x", "fetch-by-commit is true or false, not 'x'"),
        (f"{URL}#--upload-pack=x", "'--upload-pack=x' is no ref"),
    ],
)
def test_a_source_that_makes_no_sense_is_refused(source: str, problem: str):
    with pytest.raises(TextError, match=problem):
        read_git_source(source)


def test_flags_and_url_must_agree():
    source = read_git_source(f"{URL}?keep-git-dir=false&commit={COMMIT[:8]}")

    assert with_flags(source, COMMIT, None).commit == COMMIT
    with pytest.raises(TextError, match="keep-git-dir differ"):
        with_flags(source, "", True)
    with pytest.raises(TextError, match="differ"):
        with_flags(source, "f" * 40, None)


def test_a_full_hash_is_a_commit():
    assert read_git_source(f"{URL}#{COMMIT}").is_commit
    assert not read_git_source(f"{URL}#{COMMIT[:8]}").is_commit
