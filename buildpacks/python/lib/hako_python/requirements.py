"""Requirement files read for what they name: files they pull in, packages, lines."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

NAME = re.compile(r"^([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[[^\]]*\])?\s*(.*)$")
INCLUDE = re.compile(r"^(?:-r|--requirement|-c|--constraint)(?:\s+|=|(?=\S))(\S+)")
LOCAL = re.compile(
    r"^(?:(?:-e|--editable)(?:\s+|=))?((?:\.{1,2})(?:/[^\s\[]*)?|file:[^\s\[]+)(?:\[[^\]]*\])?$"
)


class Requirement(NamedTuple):
    """One package that a file asks for."""

    name: str  # normalised (PEP 503)
    text: str
    file: str
    line: int


def normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def read_requirements(root: Path, name: str) -> tuple[tuple[str, ...], tuple[Requirement, ...]]:
    """The files that *name* leads to (itself first), and every package that they ask for."""
    files: list[str] = []
    found: list[Requirement] = []
    _read(root, name, files, found)
    return tuple(files), tuple(found)


def has_hashes(root: Path, files: tuple[str, ...]) -> bool:
    """Whether the author pinned contents: then every package is listed, with its hashes."""
    return any("--hash=" in (root / f).read_text(errors="replace") for f in files)


def local_paths(root: Path, files: tuple[str, ...]) -> tuple[str, ...]:
    """Folders of the source itself that the files install (`-e .`, `./libs/shared`)."""
    paths = []
    for file in files:
        for _, line in _logical_lines((root / file).read_text(errors="replace")):
            if match := LOCAL.match(line):
                paths.append(match[1].removeprefix("file://").removeprefix("file:") or ".")
    return tuple(paths)


def _read(root: Path, name: str, files: list[str], found: list[Requirement]) -> None:
    path = root / name
    if name in files or not path.is_file():
        return
    files.append(name)
    for number, line in _logical_lines(path.read_text(errors="replace")):
        if match := INCLUDE.match(line):
            inner = os.path.normpath(os.path.join(os.path.dirname(name), match[1]))
            if line.startswith(("-c", "--constraint")):
                if (root / inner).is_file() and inner not in files:
                    files.append(inner)
            else:
                _read(root, inner, files, found)
        elif not line.startswith("-") and (match := NAME.match(line)):
            found.append(Requirement(normalise(match[1]), line, name, number))


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with backslash continuations joined and comments removed, numbered as in the file."""
    joined, start = "", 0
    for number, raw in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        start = start or number
        if raw.endswith("\\"):
            joined += raw[:-1] + " "
            continue
        line = re.sub(r"(^|\s)#.*$", "", joined + raw).strip()
        if line:
            yield start, line
        joined, start = "", 0
