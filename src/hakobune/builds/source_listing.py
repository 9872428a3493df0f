"""What of a source folder belongs to a build, in order, and what its rules leave out."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

from hakobune.builds.source import Source, unreadable


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What would be copied, in the order of the walk, and what is passed by."""

    entries: tuple[tuple[str, os.stat_result], ...]
    left_out: tuple[str, ...]  # a folder stands for all that is in it, with a slash at its end
    notes: tuple[str, ...]

    @property
    def files(self) -> tuple[tuple[str, os.stat_result], ...]:
        """The entries that are regular files."""
        return tuple(
            (path, status) for path, status in self.entries if stat.S_ISREG(status.st_mode)
        )


def list_source(source: Source) -> Listing:
    """Walk the source folder; reads no file but ignore files.

    Raises:
        SourceError: a folder cannot be read.
    """
    walk = _Walk(source)
    entries = tuple(walk.folder(source.root, ""))
    return Listing(entries=entries, left_out=tuple(walk.left_out), notes=tuple(walk.notes))


class _Walk(msgspec.Struct):
    source: Source
    left_out: list[str] = msgspec.field(default_factory=list)
    notes: list[str] = msgspec.field(default_factory=list)

    def folder(self, path: Path, relative: str) -> Iterator[tuple[str, os.stat_result]]:
        rules = self.source.rules
        rules.enter(path, relative)
        try:
            with os.scandir(path) as found:
                entries = sorted(found, key=lambda entry: entry.name)
            for entry in entries:
                name = f"{relative}/{entry.name}" if relative else entry.name
                status = entry.stat(follow_symlinks=False)
                is_directory = stat.S_ISDIR(status.st_mode)
                if rules.leaves_out(name, is_directory=is_directory):
                    self.left_out.append(f"{name}/" if is_directory else name)
                elif is_directory:
                    inside = tuple(self.folder(path / entry.name, name))
                    if inside or not rules.takes_only_what_is_named:
                        yield name, status
                        yield from inside
                elif stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                    yield name, status
                else:
                    self.notes.append(f"{name} is {_special(status.st_mode)}: left out")
        except OSError as error:
            raise unreadable(error.filename or path, error) from error


def _special(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a pipe"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a device"
