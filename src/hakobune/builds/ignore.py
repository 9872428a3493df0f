"""What belongs to a source folder: project.toml, else .gcloudignore, else .gitignore with the usual suspects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hakobune.buildpack.project import Project

# 10 ms to import, and most folders have no ignore file.
if TYPE_CHECKING:
    import pathspec

# Made by tools on this machine, for this machine: never part of what somebody wrote.
USUAL_NAMES: Final = frozenset((".git", ".hg", ".svn", ".bzr", ".DS_Store", "Thumbs.db"))
USUAL_FOLDERS: Final = frozenset((
    ".idea", ".vscode", ".venv", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache",
    ".tox", ".nox", "node_modules", ".terraform",
))  # fmt: skip
USUAL_ENDINGS: Final = (".pyc", ".pyo", ".swp", ".swo", "~")
_GCLOUD_INCLUDE: Final = "#!include:"


class Rules:
    """Answers whether a path is left out. Folders below the root may add rules of their own."""

    def __init__(self, origin: str, *, nested: str = "") -> None:
        self.origin = origin
        self._nested = nested
        self._specs: list[tuple[str, pathspec.GitIgnoreSpec]] = []
        self._usual_suspects = False
        self._only: pathspec.GitIgnoreSpec | None = None

    @classmethod
    def of(cls, root: Path, project: Project) -> Rules:
        """The rules of the source folder *root*; reading them follows no link."""
        if project.include:
            rules = cls("project.toml (include)")
            rules._only = _spec(project.include)
            return rules
        if project.exclude:
            rules = cls("project.toml (exclude)")
            rules._add("", project.exclude)
            return rules
        if (gcloud := _read_lines(root / ".gcloudignore")) is not None:
            rules = cls(".gcloudignore")
            rules._add("", tuple(_with_included(root, gcloud)))
            return rules
        has_git = _read_lines(root / ".gitignore") is not None
        rules = cls(".gitignore" if has_git else "the usual suspects", nested=".gitignore")
        rules._usual_suspects = True
        return rules

    @property
    def takes_only_what_is_named(self) -> bool:
        """There is an include list: a folder belongs to it only because of something inside."""
        return self._only is not None

    def enter(self, folder: Path, relative: str) -> None:
        """Take the rules that lie in *folder* itself, if such rules count here."""
        if self._nested:
            lines = _read_lines(folder / self._nested)
            if lines:
                self._add(relative, lines)

    def leaves_out(self, relative: str, *, is_directory: bool) -> bool:
        """Whether *relative* (from the root, without leading slash) does not belong to the source.

        With an include list, folders are entered as long as something in them may be meant.
        """
        path = f"{relative}/" if is_directory else relative
        if self._only is not None:
            return not is_directory and not self._only.match_file(path)
        for base, spec in reversed(self._specs):
            if relative.startswith(base):
                verdict = spec.check_file(path[len(base) :]).include
                if verdict is not None:
                    return verdict
        return self._usual_suspects and _is_usual_suspect(relative, is_directory=is_directory)

    def _add(self, relative: str, patterns: Sequence[str]) -> None:
        self._specs.append((f"{relative}/" if relative else "", _spec(patterns)))


def _is_usual_suspect(path: str, *, is_directory: bool) -> bool:
    name = path.rpartition("/")[2]
    if name in USUAL_NAMES or name.endswith(USUAL_ENDINGS):
        return True
    return is_directory and name in USUAL_FOLDERS


def _spec(patterns: Iterable[str]) -> pathspec.GitIgnoreSpec:
    import pathspec

    return pathspec.GitIgnoreSpec.from_lines(patterns)


def _with_included(root: Path, lines: Sequence[str]) -> Iterable[str]:
    """.gcloudignore's `#!include:.gitignore` stands for that file's lines."""
    for line in lines:
        if line.startswith(_GCLOUD_INCLUDE):
            yield from _read_lines(root / line.removeprefix(_GCLOUD_INCLUDE).strip()) or ()
        else:
            yield line


def _read_lines(path: Path) -> tuple[str, ...] | None:
    try:
        if path.is_symlink() or not path.is_file():
            return None
        return tuple(path.read_text(encoding="utf-8", errors="replace").splitlines())
    except OSError:
        return None
