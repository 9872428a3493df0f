"""What a build context is: decided from its text, or from its first bytes."""

from __future__ import annotations

import gzip
import io
import tarfile

import pytest

from hakobune.dockerfile.add_git import fix_for_git, what_git_said
from hakobune.dockerfile.build_context import Kind, git_source, kind_of
from hakobune.dockerfile.context_archive import Rest, is_archive
from hakobune.dockerfile.git_access import git_environment, split_access
from hakobune.dockerfile.git_source import GitSource
from hakobune.dockerfile.remote_url import (
    ascii_url,
    shown,
    split_credentials,
    without_credentials,
)
from hakobune.dockerfile.request import parse_epoch
from hakobune.errors import UsageError

URL = "https://example.com/a/b.git"


@pytest.mark.parametrize(
    ("where", "kind"),
    [
        ("-", Kind.STDIN),
        (URL, Kind.GIT),
        (f"{URL}#main:docs", Kind.GIT),
        (f"{URL}?branch=main", Kind.GIT),
        ("git@example.com:a/b", Kind.GIT),
        ("ssh://git@example.com/a/b", Kind.GIT),
        ("git://example.com/a/b", Kind.GIT),
        ("github.com/a/b", Kind.GIT),
        ("https://example.com/a.tar.gz", Kind.URL),
        ("http://example.com/Dockerfile", Kind.URL),
    ],
)
def test_a_context_is_known_by_its_form(where: str, kind: Kind) -> None:
    assert kind_of(where, is_folder=False) is kind


def test_a_folder_that_is_there_is_a_folder_whatever_its_name() -> None:
    assert kind_of("github.com/a/b", is_folder=True) is Kind.FOLDER
    assert kind_of("-", is_folder=True) is Kind.STDIN


@pytest.mark.parametrize("where", ["nowhere", "ftp://a.test/b", "https://", "http:///", "oci:x"])
def test_what_is_none_is_refused_with_what_is_one(where: str) -> None:
    with pytest.raises(UsageError) as refused:
        kind_of(where, is_folder=False)

    assert refused.value.fix


def test_a_build_argument_keeps_the_repository() -> None:
    for value, kept in (("1", True), ("true", True), ("0", None), ("", None), ("x", None)):
        source = git_source(URL, {"BUILDKIT_CONTEXT_KEEP_GIT_DIR": value})
        assert source == GitSource(remote=URL, keep_git_dir=kept)
    assert git_source("github.com/a/b#v1", {}).remote == "https://github.com/a/b"


def test_a_context_that_contradicts_itself_is_told_without_its_password() -> None:
    with pytest.raises(UsageError) as refused:
        git_source("https://me:s3cret@example.com/a.git?tag=a#b", {})

    assert "names two refs" in refused.value.why
    assert "s3cret" not in str(refused.value)


def a_tar(format: int) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=format) as tar:
        tar.addfile(tarfile.TarInfo("a"))
    return data.getvalue()


def test_archives_are_known_by_their_first_bytes() -> None:
    for format in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        assert is_archive(a_tar(format)[:1024])
    assert is_archive(gzip.compress(b"x"))
    assert is_archive(b"BZh91AY")
    assert is_archive(b"\xfd7zXZ\x00")
    assert is_archive(b"\x28\xb5\x2f\xfd")
    assert is_archive(bytes(1024))
    for text in (b"", b"FROM scratch\n", b"FROM scratch\n" * 100, bytes(100), b"\xff" * 600):
        assert not is_archive(text)


def test_a_stream_is_read_from_its_beginning() -> None:
    rest = Rest(b"abc", io.BytesIO(b"defg"))

    assert [rest.read(2), rest.read(5), rest.read(2), rest.read(9)] == [b"ab", b"c", b"de", b"fg"]
    assert Rest(b"abc", io.BytesIO(b"def")).read() == b"abcdef"


def test_tokens_are_for_one_repository_the_hosts_own_before_the_others() -> None:
    secrets = {"GIT_AUTH_TOKEN": b"t\n", "GIT_AUTH_HEADER.b.test": b"Bearer x", "other": b"no"}
    with git_environment({"PATH": "/bin", "GIT_AUTH_TOKEN": "mine"}, None, secrets) as env:
        found = {
            remote: split_access(remote, env)
            for remote in ("https://a.test/r.git", "https://b.test/r.git", "git@a.test:r")
        }
    url = split_access("https://me:pass@b.test/r.git", env)

    assert found["https://a.test/r.git"] == (
        "https://a.test/r.git",
        (("http.https://a.test/r.git.extraHeader", "Authorization: Basic eC1hY2Nlc3MtdG9rZW46dA=="),),
    )  # fmt: skip
    assert found["https://b.test/r.git"][1][0][1] == "Authorization: Bearer x"
    assert found["git@a.test:r"] == ("git@a.test:r", ())
    assert url[0] == "https://b.test/r.git"
    assert url[1][0][1] == "Authorization: Basic bWU6cGFzcw=="
    assert split_access("https://a.test/r.git", {"GIT_AUTH_TOKEN": "mine"})[1] == ()


def test_a_url_goes_over_the_wire_in_ascii_and_without_its_password() -> None:
    assert ascii_url("http://h:80/ü x?a=%20é#b") == "http://h:80/%C3%BC%20x?a=%20%C3%A9#b"
    assert ascii_url("http://bücher.test/") == "http://xn--bcher-kva.test/"
    assert ascii_url("http://[::1]:1/a,b;c") == "http://[::1]:1/a,b;c"
    assert split_credentials("http://a%40b:c%3Ad@h:1/x") == ("http://h:1/x", "Basic YUBiOmM6ZA==")
    assert split_credentials("https://h/a@b") == ("https://h/a@b", "")
    assert shown("git@h:a") == "git@h:a"
    line = 'ADD --chown=a@b http://u:p@h/x ["https://t@h/a@b"] git@h:a /'
    assert without_credentials(line) == 'ADD --chown=a@b http://h/x ["https://h/a@b"] git@h:a /'
    assert shown("http://[::1/x") == "http://[::1/x"


def test_what_git_says_each_time_is_left_out() -> None:
    ssh = "ssh: connect to host h port 22: Connection refused\r\nfatal: Could not read from remote repository.\n\nPlease make sure you have the correct access rights\nand the repository exists.\n"

    assert what_git_said(ssh) == (
        "ssh: connect to host h port 22: Connection refused; "
        "fatal: Could not read from remote repository."
    )
    assert what_git_said("") == ""
    assert "GIT_AUTH_TOKEN" in fix_for_git("fatal: could not read Username for 'https://h'")
    assert "--ssh default" in fix_for_git("git@h: Permission denied (publickey).")
    assert fix_for_git("fatal: x") == "check the address: git ls-remote REPOSITORY"


@pytest.mark.parametrize("text", ["", "now", "-1", "1.5", "253402300800", "9" * 5000, "٣"])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no time"):
        parse_epoch(text, "--timestamp ")
    assert parse_epoch("253402300799", "") == 253402300799
