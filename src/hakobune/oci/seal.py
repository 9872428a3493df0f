"""Sealing: a directory that a build wrote gets exactly what its tar says (facts/overlay.md, Rule 6).

So an image behaves the same where it was built and where it was pulled: `oci.layer` writes into every tar the
owner, 1980-01-01T00:00:01Z, and no extended attributes; sockets are in no tar.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import msgspec

from hakobune.oci.merged import XATTR_SPACES, is_whiteout

if TYPE_CHECKING:
    from hakobune.oci.layer import Owner

SEALED_NS = 315532801 * 10**9
_OPAQUE = tuple(space + "opaque" for space in XATTR_SPACES)


class Sealed(msgspec.Struct):
    """What a sealed directory holds.

    Attributes:
        entries: of all kinds below it.
        size_bytes: of its regular files.
        bare: nothing in it has an extended attribute.
    """

    entries: int = 0
    size_bytes: int = 0
    bare: bool = True


def seal(directory: str, owner: Owner | None, *, stacked: bool) -> Sealed:
    """Finish *directory* and all below it.

    Args:
        owner: of everything, with the time of 1980 and no attributes; `None` keeps owners, times and attributes
            (a layer that is not launched).
        stacked: it will lie on other directories, so whiteouts and opaque marks still mean something.
    """
    sealed = Sealed()
    _seal_directory(directory, owner, stacked, sealed)
    return sealed


def _seal_directory(directory: str, owner: Owner | None, stacked: bool, sealed: Sealed) -> None:
    before = os.lstat(directory)
    for entry in os.scandir(directory):
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISSOCK(status.st_mode) or (is_whiteout(status) and not stacked):
            os.unlink(entry.path)
            continue
        sealed.entries += 1
        if stat.S_ISDIR(status.st_mode):
            _seal_directory(entry.path, owner, stacked, sealed)
            continue
        if is_whiteout(status):
            continue
        if stat.S_ISREG(status.st_mode):
            sealed.size_bytes += status.st_size
        sealed.bare &= _drop_attributes(entry.path, owner, stacked)
        if owner is not None:
            _set_owner_and_time(entry.path, status, owner)
    sealed.bare &= _drop_attributes(directory, owner, stacked)
    if owner is not None:
        _set_owner_and_time(directory, os.lstat(directory), owner)
    else:
        os.utime(directory, ns=(before.st_atime_ns, before.st_mtime_ns))


def _set_owner_and_time(path: str, status: os.stat_result, owner: Owner) -> None:
    if (status.st_uid, status.st_gid) != (owner.uid, owner.gid):
        os.chown(path, owner.uid, owner.gid, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(path, stat.S_IMODE(status.st_mode))  # chown takes setuid and setgid away
    if status.st_mtime_ns != SEALED_NS:
        os.utime(path, ns=(SEALED_NS, SEALED_NS), follow_symlinks=False)


def _drop_attributes(path: str, owner: Owner | None, stacked: bool) -> bool:
    """Remove what means nothing any more; whether that is all."""
    bare = True
    for name in os.listxattr(path, follow_symlinks=False):
        meaningless = owner is not None or name.startswith(XATTR_SPACES)
        if meaningless and not (stacked and name in _OPAQUE):
            os.removexattr(path, name, follow_symlinks=False)
        else:
            bare = False
    return bare
