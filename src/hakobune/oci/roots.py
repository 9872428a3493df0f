"""Roots: files `roots/ROOM/NAME` that list what must stay, one digest or snapshot key a line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from hakobune.support.files import write_atomically

# A file name has at most 255 bytes; the temporary name beside it is a little longer.
LONGEST_NAME = 220
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.@+=,")


class Roots:
    """The files below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def set(self, room: str, name: str, tokens: Iterable[str]) -> None:
        """Replace what *name* keeps alive."""
        text = "".join(f"{token}\n" for token in sorted(set(tokens)))
        write_atomically(self._path(room, name), text.encode())

    def drop(self, room: str, name: str) -> None:
        self._path(room, name).unlink(missing_ok=True)

    def get(self, room: str, name: str) -> tuple[str, ...] | None:
        """What *name* keeps alive; `None` if there is no such root."""
        try:
            return tuple(self._path(room, name).read_text().splitlines())
        except FileNotFoundError:
            return None

    def tokens(self) -> Iterator[tuple[str, str]]:
        """Every kept digest or key with the root (`ROOM/NAME`) that keeps it."""
        for path in sorted(self._folder.glob("*/*")):
            if not path.name.startswith("."):
                for token in path.read_text().splitlines():
                    yield token, f"{path.parent.name}/{path.name}"

    def _path(self, room: str, name: str) -> Path:
        return self._folder / _file_name(room) / _file_name(name)


def _file_name(text: str) -> str:
    # A leading dot would make it a temporary file, or leave the folder.
    quoted = "".join(chr(b) if chr(b) in _PLAIN else f"%{b:02X}" for b in text.encode())
    quoted = "%2E" + quoted[1:] if quoted.startswith(".") else quoted
    if len(quoted) > LONGEST_NAME:
        return quoted[: LONGEST_NAME - 65] + "-" + hashlib.sha256(text.encode()).hexdigest()
    return quoted
