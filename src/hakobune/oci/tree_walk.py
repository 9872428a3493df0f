"""Walking a directory for a layer: by descriptors, in tar order, opening nothing but folders and regular files."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Final, TypeAlias

from hakobune.errors import HakoError

_ROOT_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
FOLDER_FLAGS: Final = _ROOT_FLAGS | os.O_NOFOLLOW
# O_NONBLOCK: should a pipe take a file's place between stat and open, nobody waits for its writer.
_FILE_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


_NO_NAMES: Final = (b"", b".", b"..")


class LayerError(HakoError):
    """A tree cannot be written as a layer."""


# Descriptor of the folder, name in it, path in the image, its stat.
Found: TypeAlias = tuple[int, str, bytes, os.stat_result]
_Listing: TypeAlias = list[tuple[bytes, "os.DirEntry[str]", bool]]


def walk(
    directory: Path | int, name: bytes, *, by_path: bool = False
) -> Generator[Found, None, None]:
    """The directory and everything below it, one after the other.

    Folders come before their content, names sorted by bytes in each folder; or, with *by_path*, everything sorted by
    whole path ("a", "a-b", "a/x").
    """
    # A folder stands twice in its parent's listing: as an entry, and as "go in here now". NUL sorts before whatever
    # a name can have, "/" where whole paths put it.
    inward = b"/" if by_path else b"\x00"
    root = _open_root(directory)
    stack: list[tuple[int, bytes, _Listing]] = []
    try:
        yield root, ".", name, os.fstat(root)
        stack.append((root, name, _list(root, inward)))
        root = -1
        while stack:
            folder, prefix, listing = stack[-1]
            if not listing:
                stack.pop()
                os.close(folder)
                continue
            key, entry, enter = listing.pop()
            if enter:
                inner = os.open(entry.name, FOLDER_FLAGS, dir_fd=folder)
                stack.append((inner, _join(prefix, key[:-1]), []))
                stack[-1][2].extend(_list(inner, inward))
            else:
                yield folder, entry.name, _join(prefix, key), entry.stat(follow_symlinks=False)
    finally:
        for folder, _, _ in stack:
            os.close(folder)
        if root >= 0:
            os.close(root)


def _list(folder: int, inward: bytes) -> _Listing:
    """What is in a folder, last first, so that `pop` gives it in order."""
    listing: _Listing = []
    with os.scandir(folder) as entries:
        for entry in entries:
            key = os.fsencode(entry.name)
            listing.append((key, entry, False))
            if entry.is_dir(follow_symlinks=False):
                listing.append((key + inward, entry, True))
    listing.sort(key=_by_key, reverse=True)
    return listing


def _by_key(item: tuple[bytes, os.DirEntry[str], bool]) -> bytes:
    return item[0]


def pick(
    directory: Path | int, name: bytes, paths: Iterable[bytes]
) -> Generator[Found, None, None]:
    """The given relative paths, sorted; folders on the way are opened once where the order allows."""
    opened: list[tuple[bytes, int]] = [(b"", _open_root(directory))]
    try:
        for path in paths:
            *folders, last = path.split(b"/")
            if last in _NO_NAMES[1:] or (folders and any(p in _NO_NAMES for p in (*folders, last))):
                raise LayerError(f"{os.fsdecode(path)!r} is not a path inside {os.fsdecode(name)}")
            while [n for n, _ in opened[1:]] != folders[: len(opened) - 1]:
                os.close(opened.pop()[1])
            for folder in folders[len(opened) - 1 :]:
                inner = os.open(folder, FOLDER_FLAGS, dir_fd=opened[-1][1])
                opened.append((folder, inner))
            here = opened[-1][1]
            found = os.stat(last or b".", dir_fd=here, follow_symlinks=False)
            yield here, os.fsdecode(last or b"."), _join(name, path) if path else name, found
    finally:
        for _, folder_fd in opened:
            os.close(folder_fd)


def _join(prefix: bytes, name: bytes) -> bytes:
    return prefix + b"/" + name if prefix else name


def _open_root(directory: Path | int) -> int:
    """A descriptor of our own on the directory."""
    if isinstance(directory, int):
        return os.open(".", _ROOT_FLAGS, dir_fd=directory)
    return os.open(directory, _ROOT_FLAGS)


def open_file(name: str, folder: int) -> int:
    """The file, read without touching its access time where we may ask for that (owner or root)."""
    try:
        return os.open(name, _FILE_FLAGS | os.O_NOATIME, dir_fd=folder)
    except PermissionError:
        return os.open(name, _FILE_FLAGS, dir_fd=folder)


def link_target(folder: int, name: str, kind: int) -> bytes:
    """Where a symbolic link leads; empty for other kinds (`stat.S_IFMT`)."""
    return os.fsencode(os.readlink(name, dir_fd=folder)) if kind == stat.S_IFLNK else b""


def device(status: os.stat_result) -> tuple[int, int]:
    """Major and minor number of a device; zeros for what is none."""
    if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        return os.major(status.st_rdev), os.minor(status.st_rdev)
    return 0, 0
