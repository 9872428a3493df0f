"""What unchanged files contain, remembered from build to build by what `stat` says of them.

As git's index: a file whose inode was changed so shortly before it was read that another change could have gone unseen
is not remembered.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import msgspec

from hakobune.support.files import write_atomically

_RACY_NS = 2 * 10**9

# Inode: size, mtime and ctime in nanoseconds, digest.
_Known = dict[str, tuple[int, int, int, str]]


class FileDigests:
    """The digests of one folder's files. Threads may share it."""

    def __init__(self, home: Path, folder: Path) -> None:
        self._path = _path(home, folder)
        self._old: _Known | None = None
        self._new: _Known = {}
        self._changed = False

    def find(self, status: os.stat_result) -> str | None:
        """The digest of a file that is as it was."""
        if self._old is None:
            self._old = self._read()
        key = f"{status.st_dev}:{status.st_ino}"
        known = self._new.get(key) or self._old.get(key)
        if known is None or known[:3] != (status.st_size, status.st_mtime_ns, status.st_ctime_ns):
            return None
        self._new[key] = known
        return known[3]

    def put(self, status: os.stat_result, digest: str) -> None:
        """Remember a file that was read just now."""
        if time.time_ns() - status.st_ctime_ns < _RACY_NS:
            return
        key = f"{status.st_dev}:{status.st_ino}"
        self._new[key] = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, digest)
        self._changed = True

    def save(self) -> None:
        """Write what is known now, if there is anything new."""
        if self._changed:
            write_atomically(self._path, msgspec.json.encode(self._new))

    def _read(self) -> _Known:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Known)
        except (FileNotFoundError, msgspec.DecodeError, msgspec.ValidationError):
            return {}


def forget_digests(home: Path, folder: Path) -> None:
    """The folder is gone for good."""
    _path(home, folder).unlink(missing_ok=True)


def _path(home: Path, folder: Path) -> Path:
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:32]
    return home / "dockerfile" / "digests" / name
