import os
import stat
from pathlib import Path

import pytest

from hakobune.oci.merge import merge
from hakobune.oci.merged import find, look_up, names_in

pytestmark = pytest.mark.needs_root  # whiteouts and trusted attributes


def _whiteout(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR, 0)


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Three stacked trees, uppermost first."""
    top, middle, base = (tmp_path / name for name in ("top", "middle", "base"))
    for tree in (top, middle, base):
        (tree / "d").mkdir(parents=True)
    (base / "d/base").write_text("base")
    (base / "d/all").write_text("base")
    (base / "gone").write_text("base")
    (base / "hidden/deep").mkdir(parents=True)
    (middle / "d/all").write_text("middle")
    _whiteout(middle / "gone")
    (middle / "hidden").mkdir()
    os.setxattr(middle / "hidden", "trusted.overlay.opaque", b"y")
    (top / "hidden").mkdir()
    return top, middle, base


def test_the_uppermost_entry_of_a_name_is_shown(trees: tuple[Path, Path, Path]) -> None:
    shown = find(trees, "d/all")

    assert shown is not None
    assert shown.path == str(trees[1] / "d/all")
    assert not shown.is_directory


def test_a_directory_is_merged_from_every_level(trees: tuple[Path, Path, Path]) -> None:
    shown = find(trees, "d")

    assert shown is not None
    assert shown.merged == tuple(str(tree / "d") for tree in trees)
    assert list(names_in(shown.merged)) == ["all", "base"]


def test_a_whiteout_hides_the_name_below(trees: tuple[Path, Path, Path]) -> None:
    assert look_up([str(tree) for tree in trees], "gone") is None
    assert list(names_in([str(tree) for tree in trees])) == ["d", "hidden"]


def test_an_opaque_directory_hides_what_is_under_it(trees: tuple[Path, Path, Path]) -> None:
    shown = find(trees, "hidden")

    assert shown is not None
    assert shown.merged == (str(trees[0] / "hidden"), str(trees[1] / "hidden"))
    assert find(trees, "hidden/deep") is None


def test_a_file_ends_the_merging_of_directories(trees: tuple[Path, Path, Path]) -> None:
    (trees[1] / "d/all").unlink()
    (trees[1] / "d").rmdir()
    (trees[1] / "d").write_text("a file")

    shown = find(trees, "d")

    assert shown is not None
    assert shown.merged == (str(trees[0] / "d"),)
    assert find(trees, "d/base") is None


def test_a_symbolic_link_on_the_way_is_not_followed(trees: tuple[Path, Path, Path]) -> None:
    (trees[0] / "link").symlink_to("d")

    assert find(trees, "link/all") is None


def test_merging_by_links_makes_what_the_stack_shows(
    trees: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    merge([str(tree) for tree in trees], str(tmp_path / "merged"))

    merged = tmp_path / "merged"
    assert sorted(str(p.relative_to(merged)) for p in merged.rglob("*")) == [
        "d", "d/all", "d/base", "hidden",
    ]  # fmt: skip
    assert (merged / "d/base").samefile(trees[2] / "d/base")
