"""What a source copy holds, and how a later look at the source tells that it is the same still."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

import msgspec

from hakobune.oci.digest import Digest

_MANIFEST: Final = "manifest"
# A file written in the same tick as it was copied could change again without a newer time.
_CLOCK_TICK_NS: Final = 20_000_000


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One thing of the source as it was copied.

    `signature` is what stat said of the original: as long as it says the same, the contents are the same.
    """

    path: str
    kind: str  # "d", "f", "x" (a file that can be executed), "l"
    content: str  # a file's sha256 in hex, a link's target
    size: int
    signature: tuple[int, int, int, int, int]


class SourceManifest(msgspec.Struct, frozen=True, kw_only=True):
    """The entries of one copy, who owns it, and when it was begun (nanoseconds since 1970)."""

    uid: int
    gid: int
    copied_ns: int
    entries: tuple[Entry, ...]


def read_manifest(folder: Path) -> SourceManifest | None:
    """That of a finished copy; `None` if there is none that can be read."""
    try:
        return msgspec.msgpack.decode((folder / _MANIFEST).read_bytes(), type=SourceManifest)
    except (OSError, msgspec.MsgspecError):
        return None


def write_manifest(folder: Path, manifest: SourceManifest) -> None:
    """Keep it in the folder of the copy: from then on the copy is a finished one."""
    (folder / _MANIFEST).write_bytes(msgspec.msgpack.encode(manifest))


def digest_of(entries: tuple[Entry, ...]) -> Digest:
    """One digest for names, kinds and contents."""
    return Digest.of(
        b"".join(
            f"{e.kind} {e.content} {e.path}\0".encode("utf-8", "surrogateescape") for e in entries
        )
    )


def signature_of(status: os.stat_result) -> tuple[int, int, int, int, int]:
    """What changes when a file's contents or mode do: size, times, inode, mode."""
    return (
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
        status.st_mode,
    )


def is_same(entry: Entry, status: os.stat_result, copied_ns: int) -> bool:
    """Whether what stat says now is certainly what was copied; *copied_ns* is when the copy was begun."""
    if stat.S_ISDIR(status.st_mode):
        return entry.kind == "d"
    if signature_of(status) != entry.signature:
        return False
    # As git's racily clean entries: written so shortly before the copy that a later write may show no newer time.
    return status.st_mtime_ns < copied_ns - _CLOCK_TICK_NS or stat.S_ISLNK(status.st_mode)
