"""Which numbers a user of an image is: `USER` resolved in the image's own passwd and group files.

Reads snapshots without following a symbolic link, so that an image cannot make us read the host's files.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from hakobune.errors import HakoError

MAX_FILE_BYTES = 1 << 20


class ImageUserError(HakoError):
    """The image has no user or group of that name."""


class ImageUser(msgspec.Struct, frozen=True):
    """Numeric ids, with the groups that the image's group file adds, and the home folder (`/` if none is known)."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = "/"


def resolve_user(user: str, lowers: Sequence[Path]) -> ImageUser:
    """The ids of *user* (`""`, `UID`, `NAME`, `UID:GID`, `NAME:GROUP` …) in the tree of *lowers*, uppermost first.

    Raises:
        ImageUserError: a name that the image does not have.
    """
    name, _, group = user.partition(":")
    account = _find_account(name or "0", lowers)
    if account is None and not name.isdecimal() and name:
        raise ImageUserError(
            f"the image has no user {name!r}",
            why="it is not in the image's /etc/passwd",
            fix="use a user that the image has, or its number",
        )
    uid = account.uid if account else int(name or "0")
    home = account.home if account else "/"
    if group:
        return ImageUser(uid, _group_id(group, lowers), (), home)
    gid = account.gid if account else 0
    groups = _memberships(account.name, lowers) if account else ()
    return ImageUser(uid, gid, tuple(g for g in groups if g != gid), home)


def read_image_file(name: str, lowers: Sequence[Path]) -> bytes | None:
    """The regular file *name* (`etc/passwd`) as the merged tree has it; `None` if there is none.

    No component may be a symbolic link. Reads at most `MAX_FILE_BYTES`.
    """
    for lower in lowers:
        found = _read_below(lower, name.split("/"))
        if isinstance(found, bytes):
            return found
        if found is _HIDDEN:
            return None
    return None


class _Account(msgspec.Struct, frozen=True):
    name: str
    uid: int
    gid: int
    home: str


_HIDDEN = object()  # this layer says that nothing below counts


def _read_below(lower: Path, parts: Sequence[str]) -> bytes | object | None:
    """The file's bytes, `_HIDDEN`, or `None` when the layer says nothing of it."""
    flags = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    folder = os.open(lower, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    opaque = False
    try:
        for part in parts[:-1]:
            try:
                below = os.open(part, flags | os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
            except FileNotFoundError:
                return _HIDDEN if opaque else None
            except OSError:
                return _HIDDEN  # a whiteout, a link, a file
            os.close(folder)
            folder = below
            opaque = opaque or _is_opaque(folder)
        try:
            status = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return _HIDDEN if opaque else None
        if not stat.S_ISREG(status.st_mode):
            return _HIDDEN
        with open(os.open(parts[-1], flags | os.O_RDONLY, dir_fd=folder), "rb") as file:
            return file.read(MAX_FILE_BYTES)
    finally:
        os.close(folder)


def _is_opaque(folder: int) -> bool:
    for name in ("trusted.overlay.opaque", "user.overlay.opaque"):
        try:
            if os.getxattr(folder, name) == b"y":
                return True
        except OSError:
            continue
    return False


def _find_account(user: str, lowers: Sequence[Path]) -> _Account | None:
    for fields in _lines("etc/passwd", lowers, 7):
        matches = fields[2] == user if user.isdecimal() else fields[0] == user
        if matches and fields[2].isdecimal() and fields[3].isdecimal():
            return _Account(fields[0], int(fields[2]), int(fields[3]), fields[5] or "/")
    return None


def _group_id(group: str, lowers: Sequence[Path]) -> int:
    if group.isdecimal():
        return int(group)
    for fields in _lines("etc/group", lowers, 4):
        if fields[0] == group and fields[2].isdecimal():
            return int(fields[2])
    raise ImageUserError(
        f"the image has no group {group!r}",
        why="it is not in the image's /etc/group",
        fix="use a group that the image has, or its number",
    )


def _memberships(user: str, lowers: Sequence[Path]) -> tuple[int, ...]:
    return tuple(
        int(fields[2])
        for fields in _lines("etc/group", lowers, 4)
        if fields[2].isdecimal() and user in fields[3].split(",")
    )


def _lines(name: str, lowers: Sequence[Path], width: int) -> Iterator[list[str]]:
    data = read_image_file(name, lowers) or b""
    for line in data.decode("utf-8", "replace").splitlines():
        fields = line.split(":")
        if len(fields) >= width:
            yield fields
