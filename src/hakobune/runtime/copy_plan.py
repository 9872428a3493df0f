"""Where a copy goes: docker's rules of `cp`, which are those of cp(1) with one more ("/." is a folder's contents). Pure."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from enum import Enum

from hakobune.runtime.file_place import CopyError


@dataclass(frozen=True, slots=True)
class Wanted:
    """A path as it was written; *shown* has the container's name before it."""

    text: str
    shown: str

    @property
    def is_folder(self) -> bool:
        """Whether it can only mean a folder."""
        return self.text.endswith(("/", "/.", "/..")) or self.text in (".", "..")

    @property
    def is_contents(self) -> bool:
        """Whether it means what is in a folder, and not the folder."""
        return self.text.endswith("/.") or self.text == "." or posixpath.normpath(self.text) == "/"

    @property
    def base(self) -> str:
        """The name that a copy has in a folder; empty for one that has none."""
        return posixpath.basename(posixpath.normpath(self.text)).strip("/").replace("..", "")


class Goal(Enum):
    """What becomes of the destination."""

    ITSELF = "itself"
    """The copy is made under its name, or in place of what has it."""
    WITHIN = "within"
    """The copy gets the source's own name in it."""
    MERGED = "merged"
    """What is in the source comes into it."""


def choose_goal(
    source: Wanted,
    target: Wanted,
    *,
    source_is_folder: bool,
    target_is_folder: bool,
    target_exists: bool,
) -> Goal:
    """Where a source that is there goes; the folder around the destination is there, too.

    Raises:
        CopyError: it can go nowhere.
    """
    if source.is_folder and not source_is_folder:
        raise CopyError(
            f"cannot copy {source.shown}",
            why="it is a file, and a path with / at the end a folder's",
        )
    if source_is_folder:
        if target_exists and not target_is_folder:
            raise CopyError(
                f"cannot copy the folder {source.shown} to {target.shown}",
                why="there is a file of that name",
                fix="name a folder, or something that is not there yet",
            )
        if not target_exists or source.is_contents or not source.base:
            return Goal.MERGED
        return Goal.WITHIN
    if target_is_folder:
        return Goal.WITHIN
    if target.is_folder:
        why = "it is a file" if target_exists else "there is no such folder"
        raise CopyError(
            f"cannot copy {source.shown} into {target.shown}",
            why=why,
            fix="leave the / at the end away, or make the folder first",
        )
    return Goal.ITSELF
