"""Deciding whether a build's top really changed a kept layer (facts/overlay.md, Rules 2-4).

Package managers rewrite files with the bytes they had, touch them, move directories away and back. Reads the
top and the directories below it; changes nothing, so the overlay may still be mounted (with nobody writing).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path

import msgspec

from hakobune.oci.merged import (
    Shown,
    find,
    is_opaque,
    is_whiteout,
    look_up,
    names_in,
    redirect_of,
)
from hakobune.oci.snapshot import Snapshot

# Comparing more than a quarter of a layer costs what hashing the whole costs, and hashing is exact.
HASH_INSTEAD_ABOVE = 0.25
# Small layers are compared whatever the share is.
ALWAYS_COMPARE = 64
_BLOCK = 1 << 20


class Outcome(StrEnum):
    """How a kept layer stands to what a build has written over it."""

    UNCHANGED = "unchanged"
    CHANGED = "changed"
    # Too much is rewritten to compare: hash the merged layer; an equal diff_id means unchanged.
    UNSURE = "unsure"
    REMOVED = "removed"


class Settled(msgspec.Struct, frozen=True):
    """What a top did to one layer, and the evidence in words."""

    outcome: Outcome
    reason: str


def settle(upper: Path, path: str, kept: Snapshot | None, *, launch: bool) -> Settled:
    """Decide what a build's top did to the layer at *path*.

    Args:
        upper: the top's `up`.
        path: the layer from the root, as `layers/BUILDPACK/LAYER`.
        kept: what was mounted below for this layer; `None` if nothing was.
        launch: the layer is sealed (times and owner say nothing) and compared by bytes; else it keeps its times, and
            equal size, mode, owner and time are equality.
    """
    place = find_in_top(upper, path)
    below = find(kept.lower_dirs(), path) if kept else None
    if place.directory is None:
        return _settle_untouched(below, place.hidden)
    if kept is None or below is None:
        return Settled(Outcome.CHANGED, "it is new")
    if launch and kept.diff_id is None:
        return Settled(Outcome.CHANGED, "it was not launched before")
    if difference := metadata_difference(os.lstat(place.directory), below.status, launch=launch):
        return Settled(Outcome.CHANGED, f"/{path} {difference}")
    return _compare(place.directory, below.merged, place.hidden, path, kept, launch=launch)


def _settle_untouched(below: Shown | None, hidden: bool) -> Settled:
    if below is None:
        return Settled(Outcome.REMOVED, "the build did not make it")
    if hidden:
        return Settled(Outcome.REMOVED, "the build removed it")
    return Settled(Outcome.UNCHANGED, "the build wrote nothing into it")


class InTop(msgspec.Struct, frozen=True):
    """Where a top has a directory, and whether it hides what the layers below have there."""

    directory: str | None
    hidden: bool


def find_in_top(upper: Path, path: str) -> InTop:
    """Look for *path* in a top, minding whiteouts, opaque directories and redirects on the way."""
    directory, hidden, so_far = str(upper), False, ""
    for name in path.split("/"):
        directory, so_far = f"{directory}/{name}", f"{so_far}/{name}"
        try:
            status = os.lstat(directory)
        except FileNotFoundError:
            return InTop(None, hidden)
        if not stat.S_ISDIR(status.st_mode):
            return InTop(None, True)
        redirect = redirect_of(directory)
        hidden = hidden or is_opaque(directory) or not is_own_path(redirect, so_far)
    return InTop(directory, hidden)


def is_own_path(redirect: str | None, path: str) -> bool:
    """Whether a redirect leads where the directory is anyway: it was moved away and back."""
    return redirect is None or redirect in (path, path.rpartition("/")[2])


class _Pair(msgspec.Struct, frozen=True):
    """A file of the top and the one it would replace; equal but for their bytes, perhaps."""

    name: str
    upper: str
    lower: str


def _compare(
    directory: str,
    below: Sequence[str],
    hidden: bool,
    path: str,
    kept: Snapshot,
    *,
    launch: bool,
) -> Settled:
    pairs: dict[tuple[int, int], _Pair] = {}
    for found in walk_differences(directory, below, hidden, f"/{path}", launch=launch):
        if isinstance(found, str):
            return Settled(Outcome.CHANGED, found)
        upper, lower = os.lstat(found.upper), os.lstat(found.lower)
        # One inode under several names is compared once.
        pairs.setdefault((upper.st_ino, lower.st_ino), found)
    if len(pairs) > max(ALWAYS_COMPARE, kept.total_entries() * HASH_INSTEAD_ABOVE):
        return Settled(Outcome.UNSURE, f"{len(pairs)} of its files were rewritten")
    for pair in pairs.values():
        if not have_equal_bytes(pair.upper, pair.lower):
            return Settled(Outcome.CHANGED, f"{pair.name} has other bytes")
    return Settled(Outcome.UNCHANGED, f"{len(pairs)} files were rewritten with the bytes they had")


def walk_differences(
    directory: str, below: Sequence[str], hidden: bool, path: str, *, launch: bool
) -> Iterator[str | _Pair]:
    """Real differences in words, and files that only their bytes can tell apart (never in a cache-only layer)."""
    names: set[str] = set()
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        status = entry.stat(follow_symlinks=False)
        name = f"{path}/{entry.name}"
        shown = look_up(below, entry.name)
        if is_whiteout(status):
            if shown is not None and not hidden:
                yield f"{name} was removed"
            continue
        names.add(entry.name)
        if stat.S_ISSOCK(status.st_mode):
            continue  # a socket is in no layer
        yield from _compare_entry(entry.path, status, shown, hidden, name, launch=launch)
    if hidden:
        yield from (f"{path}/{gone} was removed" for gone in names_in(below) if gone not in names)


def _compare_entry(
    upper: str,
    status: os.stat_result,
    shown: Shown | None,
    hidden: bool,
    name: str,
    *,
    launch: bool,
) -> Iterator[str | _Pair]:
    if shown is None:
        yield f"{name} is new"
    elif difference := metadata_difference(status, shown.status, launch=launch):
        yield f"{name} {difference}"
    elif stat.S_ISDIR(status.st_mode):
        redirect = redirect_of(upper)
        if not is_own_path(redirect, name):
            yield f"{name} was moved there from {redirect}"
        else:
            below_hidden = hidden or is_opaque(upper)
            yield from walk_differences(upper, shown.merged, below_hidden, name, launch=launch)
    elif stat.S_ISLNK(status.st_mode):
        if os.readlink(upper) != os.readlink(shown.path):
            yield f"{name} leads elsewhere"
    elif stat.S_ISREG(status.st_mode):
        if launch:
            yield _Pair(name, upper, shown.path)
        elif status.st_mtime_ns != shown.status.st_mtime_ns:
            yield f"{name} has another time"


def metadata_difference(
    upper: os.stat_result, lower: os.stat_result, *, launch: bool
) -> str | None:
    """What sets two entries apart without looking into them; in a launch layer the owner is sealed and says nothing."""
    if stat.S_IFMT(upper.st_mode) != stat.S_IFMT(lower.st_mode):
        return "is of another kind"
    if upper.st_mode != lower.st_mode and not stat.S_ISLNK(upper.st_mode):
        return f"has the mode {stat.S_IMODE(upper.st_mode):o} instead of {stat.S_IMODE(lower.st_mode):o}"
    if not launch and (upper.st_uid, upper.st_gid) != (lower.st_uid, lower.st_gid):
        return "has another owner"
    if stat.S_ISREG(upper.st_mode) and upper.st_size != lower.st_size:
        return f"has {upper.st_size} bytes instead of {lower.st_size}"
    return None


def have_equal_bytes(one: str, other: str) -> bool:
    """Whether two regular files hold the same bytes."""
    with open(one, "rb", buffering=0) as a, open(other, "rb", buffering=0) as b:
        while True:
            block = a.read(_BLOCK)
            if block != b.read(_BLOCK):
                return False
            if not block:
                return True
