"""Which files of the app go into which of its layers (pure; CNB buildpack.md "launch.toml", `slices`)."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from hakobune.buildpack.launch import Slice


def slice_app(paths: Mapping[str, bool], slices: Sequence[Slice]) -> tuple[tuple[str, ...], ...]:
    """Divide the app's files among its slices; the last answer is what no slice takes.

    A glob is matched against every path; a folder that it matches is taken with everything in it. A file
    belongs to the first slice that takes it. Folders above taken files are listed too, and a folder all of
    whose files are taken counts as taken.

    Args:
        paths: every path relative to the app, and whether it is a directory.
    """
    taken: set[str] = set()
    result: list[tuple[str, ...]] = []
    for each in slices:
        chosen = {p for p in _matched(paths, each.paths) if p not in taken}
        taken |= chosen
        _take_emptied_folders(paths, taken)
        result.append(tuple(sorted(_with_parents(chosen))))
    rest = {p for p in paths if p not in taken}
    result.append(tuple(sorted(_with_parents(rest))))
    return tuple(result)


def _matched(paths: Mapping[str, bool], globs: Iterable[str]) -> set[str]:
    matched: set[str] = set()
    for glob in globs:
        pattern = _compile(posixpath.normpath(glob.removeprefix("/")))
        whole = {p for p, is_directory in paths.items() if is_directory and pattern.fullmatch(p)}
        for path in paths:
            if pattern.fullmatch(path) or any(parent in whole for parent in _parents(path)):
                matched.add(path)
    return matched


def _take_emptied_folders(paths: Mapping[str, bool], taken: set[str]) -> None:
    """Mark folders as taken of which everything else is."""
    left: dict[str, int] = {}
    folders = [p for p, is_directory in paths.items() if is_directory]
    for path in paths:
        if path not in taken and not paths[path]:
            for parent in _parents(path):
                left[parent] = left.get(parent, 0) + 1
    filled = {parent for path, is_dir in paths.items() if not is_dir for parent in _parents(path)}
    taken.update(f for f in folders if f in filled and not left.get(f))


def _with_parents(paths: Iterable[str]) -> set[str]:
    result: set[str] = set()
    for path in paths:
        result.add(path)
        result.update(_parents(path))
    return result


def _parents(path: str) -> Iterable[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


@lru_cache(maxsize=256)
def _compile(glob: str) -> re.Pattern[str]:
    """Go's `filepath.Match`: `*` and `?` stop at `/`, `[…]` is a class, `\\` quotes."""
    pattern = ""
    index = 0
    while index < len(glob):
        char = glob[index]
        index += 1
        if char == "*":
            pattern += "[^/]*"
        elif char == "?":
            pattern += "[^/]"
        elif char == "\\" and index < len(glob):
            pattern += re.escape(glob[index])
            index += 1
        elif char == "[" and (end := glob.find("]", index + 1)) > 0:
            inside = glob[index:end].replace("\\", "\\\\").replace("[", "\\[")
            pattern += f"[{inside}]"
            index = end + 1
        else:
            pattern += re.escape(char)
    return re.compile(pattern, re.DOTALL)
