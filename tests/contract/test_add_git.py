"""ADD of repositories from a real git server on this machine."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from hakobune.dockerfile.add_git import Checkout, GitError, checked_out, forget_checkouts
from hakobune.dockerfile.git_source import GitSource, read_git_source
from tests.git_server import ENV, commit, git, git_server, make_repository

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="no git here")


def check_out(source: GitSource, folder: Path, env: Mapping[str, str]) -> Checkout:
    """What is left of it after a build."""
    with checked_out(source, folder, env) as done:
        return done


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "served")


@pytest.fixture
def server(repository: Path) -> Iterator[str]:
    with git_server(repository.parent) as url:
        yield url


def test_the_default_branch_is_checked_out_without_its_git_folder(server: str, tmp_path: Path):
    done = check_out(read_git_source(f"{server}/r.git"), tmp_path / "kept", ENV)

    files = {str(path.relative_to(done.folder)) for path in done.folder.rglob("*")}
    assert files == {"docs", "docs/a", "run", "link"}
    assert (done.folder / "docs/a").read_text() == "two\n"
    assert os.readlink(done.folder / "link") == "docs/a"


def test_modes_and_times_are_those_of_the_commit(server: str, tmp_path: Path):
    done = check_out(read_git_source(f"{server}/r.git"), tmp_path / "kept", ENV)

    modes = {
        name: stat.S_IMODE((done.folder / name).stat().st_mode)
        for name in ("docs", "docs/a", "run")
    }
    assert modes == {"docs": 0o755, "docs/a": 0o644, "run": 0o755}
    assert {(done.folder / n).lstat().st_mtime for n in ("docs", "docs/a", "link")} == {1500000000}


@pytest.mark.parametrize("ref", ["v1", "refs/tags/v1", "?tag=v1"])
def test_a_tag_means_its_commit(server: str, repository: Path, tmp_path: Path, ref: str):
    source = f"{server}/r.git{ref if ref.startswith('?') else '#' + ref}"

    done = check_out(read_git_source(source), tmp_path / "kept", ENV)

    assert done.commit == git(repository, "rev-parse", "v1^{commit}")
    assert (done.folder / "docs/a").read_text() == "one\n"


def test_branches_with_slashes_and_commits(server: str, repository: Path, tmp_path: Path):
    head = git(repository, "rev-parse", "feature/x")
    first = git(repository, "rev-parse", "v1^{commit}")

    assert check_out(read_git_source(f"{server}/r.git#feature/x"), tmp_path, ENV).commit == head
    done = check_out(read_git_source(f"{server}/r.git#{first}"), tmp_path, ENV)
    assert (done.folder / "docs/a").read_text() == "one\n"


def test_a_commit_is_fetched_once_and_a_moved_branch_is_noticed(
    server: str, repository: Path, tmp_path: Path
):
    source = read_git_source(f"{server}/r.git#main")
    first = check_out(source, tmp_path / "kept", ENV)
    inode = first.folder.stat().st_ino

    assert check_out(source, tmp_path / "kept", ENV).folder.stat().st_ino == inode
    (repository / "docs/a").write_text("three\n")
    commit(repository, "third")
    second = check_out(source, tmp_path / "kept", ENV)

    assert second.commit != first.commit
    assert (second.folder / "docs/a").read_text() == "three\n"


def test_what_was_not_used_for_long_is_forgotten(server: str, tmp_path: Path):
    kept = tmp_path / "kept"
    old = check_out(read_git_source(f"{server}/r.git#v1"), kept, ENV).folder
    new = check_out(read_git_source(f"{server}/r.git"), kept, ENV).folder
    os.utime(f"{old}.lock", (1, 1))

    forget_checkouts(kept, unused_for_s=3600)
    assert (old.exists(), new.exists()) == (False, True)

    forget_checkouts(kept)
    assert list(kept.iterdir()) == []


def test_the_git_folder_stays_if_it_is_wanted(server: str, tmp_path: Path):
    source = read_git_source(f"{server}/r.git?keep-git-dir=true")

    done = check_out(source, tmp_path / "kept", ENV)

    assert git(done.folder, "log", "-1", "--format=%s") == "second"
    assert git(done.folder, "remote", "get-url", "origin") == f"{server}/r.git"


def test_submodules_come_along_unless_they_are_left_out(
    server: str, repository: Path, tmp_path: Path
):
    inner = repository.parent / "inner.git"
    inner.mkdir()
    git(inner, "init", "-q", "-b", "main")
    (inner / "file").write_text("inner\n")
    commit(inner, "inner")
    git(repository, "submodule", "add", "-q", f"{server}/inner.git", "sub")
    commit(repository, "with a submodule")

    done = check_out(read_git_source(f"{server}/r.git"), tmp_path / "kept", ENV)
    without = check_out(read_git_source(f"{server}/r.git?submodules=false"), tmp_path / "kept", ENV)

    assert (done.folder / "sub/file").read_text() == "inner\n"
    assert not (done.folder / "sub/.git").exists()
    assert list((without.folder / "sub").iterdir()) == []


def test_another_commit_than_the_expected_one_is_refused(server: str, tmp_path: Path):
    source = read_git_source(f"{server}/r.git?ref=main&commit={'0' * 40}")

    with pytest.raises(GitError, match="is not the expected commit"):
        check_out(source, tmp_path / "kept", ENV)


@pytest.mark.parametrize(
    ("source", "what"),
    [("r.git#nope", "cannot find nope in"), ("gone.git", "cannot find HEAD in")],
)
def test_what_is_not_there_is_told(server: str, tmp_path: Path, source: str, what: str):
    with pytest.raises(GitError, match=what):
        check_out(read_git_source(f"{server}/{source}"), tmp_path / "kept", ENV)

    assert [path.name for path in (tmp_path / "kept").glob("*") if path.is_dir()] == []


def test_a_hook_or_another_protocol_of_the_repository_is_not_run(
    server: str, repository: Path, tmp_path: Path
):
    mark = tmp_path / "mark"
    (repository / ".gitmodules").write_text(
        f'[submodule "x"]\n\tpath = x\n\turl = ext::touch {mark}\n'
    )
    blob = git(repository, "rev-parse", "HEAD")
    git(repository, "update-index", "--add", "--cacheinfo", f"160000,{blob},x")
    git(repository, "add", ".gitmodules")
    git(repository, "commit", "-q", "-m", "hostile")

    with pytest.raises(GitError, match="cannot fetch"):
        check_out(read_git_source(f"{server}/r.git"), tmp_path / "kept", ENV)

    assert not mark.exists()


def test_a_machine_without_git_is_told_what_to_do(tmp_path: Path):
    with pytest.raises(GitError) as caught:
        check_out(GitSource(remote="git://127.0.0.1:1/x"), tmp_path, {"PATH": str(tmp_path)})

    assert caught.value.fix == "apt install git"


def test_what_a_build_uses_is_not_forgotten(server: str, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    source = read_git_source(f"{server}/r.git")

    with checked_out(source, kept, ENV) as done, checked_out(source, kept, ENV) as again:
        forget_checkouts(kept)

        assert (done.folder / "docs/a").read_text() == "two\n"
        assert again == done

    forget_checkouts(kept)
    assert not any(kept.iterdir())
