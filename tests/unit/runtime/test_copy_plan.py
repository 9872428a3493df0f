"""docker's table of `cp`: what is there, how it is written, where it goes."""

from __future__ import annotations

import pytest

from hakobune.runtime.copy_plan import Goal, Wanted, choose_goal
from hakobune.runtime.file_place import CopyError


def goal(source: str, target: str, *, folder: bool, there: str = "nothing") -> Goal:
    return choose_goal(
        Wanted(source, source),
        Wanted(target, target),
        source_is_folder=folder,
        target_is_folder=there == "folder",
        target_exists=there != "nothing",
    )


@pytest.mark.parametrize(
    ("source", "folder", "target", "there", "expected"),
    [
        ("f", False, "/new", "nothing", Goal.ITSELF),
        ("f", False, "/old", "file", Goal.ITSELF),
        ("f", False, "/d", "folder", Goal.WITHIN),
        ("f", False, "/d/", "folder", Goal.WITHIN),
        ("d", True, "/new", "nothing", Goal.MERGED),
        ("d/", True, "/new/", "nothing", Goal.MERGED),
        ("d", True, "/d", "folder", Goal.WITHIN),
        ("d/", True, "/d", "folder", Goal.WITHIN),
        ("d/.", True, "/d", "folder", Goal.MERGED),
        (".", True, "/d", "folder", Goal.MERGED),
        ("/", True, "/d", "folder", Goal.MERGED),
    ],
)
def test_a_source_goes_where_docker_puts_it(
    source: str, folder: bool, target: str, there: str, expected: Goal
) -> None:
    assert goal(source, target, folder=folder, there=there) is expected


@pytest.mark.parametrize(
    ("source", "folder", "target", "there", "why"),
    [
        ("d", True, "/f", "file", "there is a file of that name"),
        ("f", False, "/new/", "nothing", "there is no such folder"),
        ("f", False, "/f/", "file", "it is a file"),
        ("f/", False, "/d", "folder", "a path with / at the end"),
        ("f/.", False, "/d", "folder", "a path with / at the end"),
    ],
)
def test_what_can_go_nowhere_is_refused_with_the_reason(
    source: str, folder: bool, target: str, there: str, why: str
) -> None:
    with pytest.raises(CopyError) as raised:
        goal(source, target, folder=folder, there=there)

    assert why in raised.value.why


@pytest.mark.parametrize(
    ("text", "base"),
    [("a/b", "b"), ("a/b/", "b"), ("/a", "a"), ("a/./b/.", "b"), ("/", ""), (".", "."), ("..", "")],
)
def test_the_name_of_a_copy_is_the_last_of_its_path(text: str, base: str) -> None:
    assert Wanted(text, text).base == base
