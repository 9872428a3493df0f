import pytest

from hakobune.buildpack.launch import Slice
from hakobune.lifecycle.app_slices import slice_app

APP = {
    "main.py": False,
    "static": True,
    "static/a.js": False,
    "static/img": True,
    "static/img/b.png": False,
    "node_modules": True,
    "empty": True,
}


def cut(*globs: str | tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    slices = [Slice(paths=(g,) if isinstance(g, str) else g) for g in globs]
    return slice_app(APP, slices)


def test_without_slices_everything_is_the_rest() -> None:
    assert cut() == (tuple(sorted(APP)),)


def test_a_matched_folder_is_taken_with_everything_in_it() -> None:
    taken, rest = cut("static")

    assert taken == ("static", "static/a.js", "static/img", "static/img/b.png")
    assert rest == ("empty", "main.py", "node_modules")


def test_folders_above_a_taken_file_are_listed_too() -> None:
    taken, rest = cut("static/img/*.png")

    assert taken == ("static", "static/img", "static/img/b.png")
    assert rest == ("empty", "main.py", "node_modules", "static", "static/a.js")


def test_a_folder_of_which_everything_is_taken_counts_as_taken() -> None:
    _, rest = cut(("static/a.js", "static/img/b.png"))

    assert rest == ("empty", "main.py", "node_modules")


def test_a_file_belongs_to_the_first_slice_that_takes_it() -> None:
    first, second, rest = cut("static/a.js", "static")

    assert first == ("static", "static/a.js")
    assert second == ("static", "static/img", "static/img/b.png")
    assert "static" not in rest


def test_a_slice_that_matches_nothing_is_empty() -> None:
    taken, rest = cut("nothing/*")

    assert taken == ()
    assert rest == tuple(sorted(APP))


@pytest.mark.parametrize(
    ("glob", "path", "matches"),
    [
        ("*.py", "main.py", True),
        ("*.py", "static/x.py", False),
        ("*/*.js", "static/a.js", True),
        ("?ain.py", "main.py", True),
        ("[a-m]ain.py", "main.py", True),
        ("[^m]ain.py", "main.py", False),
        (r"\*.py", "main.py", False),
        (r"\*.py", "*.py", True),
        ("./main.py", "main.py", True),
        ("/main.py", "main.py", True),
        ("static/../main.py", "main.py", True),
        ("a[b", "a[b", True),
        ("*", ".hidden", True),
    ],
)
def test_globs_match_as_gos_filepath_match(glob: str, path: str, matches: bool) -> None:
    taken, _ = slice_app({path: False, "other": False}, [Slice(paths=(glob,))])

    assert (path in taken) is matches
