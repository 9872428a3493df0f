"""Which Python: every place that says it, conflicts and what is not there, in words."""

from pathlib import Path

import pytest
from hako_python.project import read_project, version_wishes
from hako_python.report import BuildpackError
from hako_python.version import Wish, choose_python

HERE = [(3, 13, 5)]


@pytest.mark.parametrize(
    "text",
    ["3.13", "3.13.5", "3.13.*", "3", ">=3.11", ">=3.11,<3.14", "~=3.11", "~=3.13.2", "!=3.12.*", "python-3.13", "cpython-3.13.5", "==3.13.*", " 3.13 "],
)  # fmt: skip
def test_constraints_that_fit(text: str) -> None:
    assert choose_python([Wish(text, "x")], HERE, nearest=False) == (3, 13, 5)


@pytest.mark.parametrize(
    "text", ["3.12", "3.13.4", "<3.13", "~=3.13.6", ">3.13.5", "!=3.13.*", "2.7"]
)
def test_constraints_that_do_not_fit(text: str) -> None:
    with pytest.raises(BuildpackError):
        choose_python([Wish(text, "x")], HERE, nearest=False)


def test_no_wish_gives_the_newest() -> None:
    assert choose_python([], [(3, 11, 2), (3, 13, 5)], nearest=False) == (3, 13, 5)


def test_two_places_that_exclude_each_other_are_both_named() -> None:
    wishes = [Wish("3.13", ".python-version"), Wish(">=3.11,<3.13", "pyproject.toml")]

    with pytest.raises(BuildpackError) as failure:
        choose_python(wishes, HERE, nearest=False)

    assert str(failure.value) == (
        "error: .python-version wants Python 3.13, pyproject.toml wants >=3.11,<3.13\n"
        "  seen: no Python version fits both; this builder has 3.13.5\n"
        "  fix: make .python-version and pyproject.toml agree"
    )


def test_an_absent_patch_names_the_nearest_and_the_flag() -> None:
    with pytest.raises(BuildpackError) as failure:
        choose_python([Wish("3.13.1", ".python-version")], HERE, nearest=False)

    assert "HAKO_VERSION_POLICY=nearest" in failure.value.fix
    assert choose_python([Wish("3.13.1", "x")], HERE, nearest=True) == (3, 13, 5)


def test_nonsense_is_named() -> None:
    with pytest.raises(BuildpackError, match=r"\.python-version does not say a Python version"):
        choose_python([Wish("latest", ".python-version")], HERE, nearest=False)


def test_variables_go_before_files_and_pyproject_counts_always(tmp_path: Path) -> None:
    (tmp_path / ".python-version").write_text("# ours\n3.12\n")
    (tmp_path / "pyproject.toml").write_text('[project]\nname="x"\nrequires-python=">=3.9"\n')
    project = read_project(tmp_path)
    env = {"GOOGLE_RUNTIME_VERSION": "3.13", "GOOGLE_PYTHON_VERSION": "3.13.5"}

    assert [w.text for w in version_wishes(project, {})] == ["3.12", ">=3.9"]
    assert [w.text for w in version_wishes(project, env)] == ["3.13.5", ">=3.9"]
