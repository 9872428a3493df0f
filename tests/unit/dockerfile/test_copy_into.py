"""Copying into a root: what is resolved, merged, replaced, refused. Owners need root; the rest does not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hakobune.dockerfile.copy_into import (
    Copier,
    CopyError,
    Owner,
    clean_destination,
    resolve_inside,
)
from hakobune.dockerfile.source_tree import SourceTree

ME = Owner(os.geteuid(), os.getegid())


@contextmanager
def opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root/etc").mkdir(parents=True)
    return tmp_path / "root"


def copy(
    source: Path, root: Path, pattern: str, destination: str, *, replace: bool = False
) -> None:
    with opened(source) as folder, opened(root) as target:
        copier = Copier(target, owner=ME, replace=replace)
        for found in SourceTree(folder).select(pattern):
            copier.copy(found, destination)


@pytest.mark.parametrize(
    ("path", "found"),
    [("/a/../b", "b"), ("/link/x", "etc/x"), ("/up", "etc"), ("/abs/y", "etc/y"), ("/../../..", ""), ("/gone/z", "nowhere/z"), ("a//./b/", "a/b")],
)  # fmt: skip
def test_links_are_followed_inside_the_root(root: Path, path: str, found: str) -> None:
    (root / "link").symlink_to("etc")
    (root / "up").symlink_to("../../../../etc")
    (root / "abs").symlink_to("/etc")
    (root / "gone").symlink_to("/nowhere")

    with opened(root) as folder:
        assert resolve_inside(folder, path) == found


def test_links_in_a_circle_are_an_error(root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")

    with opened(root) as folder, pytest.raises(CopyError, match="cannot be found"):
        resolve_inside(folder, "/a/x")


def test_a_link_of_the_image_never_leads_to_a_file_of_this_machine(
    root: Path, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "src").mkdir()
    (tmp_path / "src/file").write_text("1")
    (root / "out").symlink_to(tmp_path / "outside")

    copy(tmp_path / "src", root, "file", "/out/")

    assert list((tmp_path / "outside").iterdir()) == []
    assert (root / str(tmp_path).lstrip("/") / "outside/file").read_text() == "1"


def test_hard_links_stay_together(root: Path, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/a").write_text("1")
    os.link(tmp_path / "src/a", tmp_path / "src/b")

    copy(tmp_path / "src", root, ".", "/x")

    assert (root / "x/a").stat().st_ino == (root / "x/b").stat().st_ino


def test_what_stands_in_the_way_is_replaced_when_asked(root: Path, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/etc").write_text("a file now")

    with pytest.raises(CopyError, match="cannot replace the directory /etc"):
        copy(tmp_path / "src", root, ".", "/")
    copy(tmp_path / "src", root, ".", "/", replace=True)

    assert (root / "etc").read_text() == "a file now"


def test_destinations_keep_the_slash_that_means_a_folder() -> None:
    assert clean_destination("/a//b/../c/") == "/a/c/"
    assert clean_destination("/a/.") == "/a/"
    assert clean_destination("/") == "/"


def test_a_new_folder_shares_files_that_keep_owner_and_mode(root: Path, tmp_path: Path) -> None:
    (tmp_path / "src/sub").mkdir(parents=True)
    (tmp_path / "src/sub/file").write_text("1")

    with opened(tmp_path / "src") as folder, opened(root) as target:
        copier = Copier(target, upper=str(root))
        if os.geteuid() != 0:
            pytest.skip("directories are root's")
        for destination in ("/new", "/etc"):
            copier.copy(SourceTree(folder).select_path("."), destination)

    original = (tmp_path / "src/sub/file").stat().st_ino
    assert (root / "new/sub/file").stat().st_ino == original
    assert (root / "etc/sub/file").stat().st_ino != original  # it was there: through the view
