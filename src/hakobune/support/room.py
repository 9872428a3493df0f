"""A full disk: how it is told from other errors, and what to do about it."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import Final

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_LEAST_BYTES: Final = 1 << 20
_SAID: Final = re.compile(r"no space left on device|disk quota exceeded|\bENOSPC\b", re.IGNORECASE)


def is_full(error: OSError) -> bool:
    """Whether there was no room, or no more allowance, on a disk."""
    return error.errno in _FULL


def says_full(text: str) -> bool:
    """Whether a program's output says that a disk is full."""
    return _SAID.search(text) is not None


def how_to_make_room(folder: Path) -> str:
    """What to do when the disk of *folder*, which was named before, is full; with what is left there."""
    return (
        f"make room there{_left_on(folder)}, for example with `hako image prune`,"
        " or set HAKO_HOME to a larger disk"
    )


def has_room(folder: Path) -> bool:
    """Whether the smallest files, as logs and sockets are, still find room on the disk of *folder*."""
    free = _free_bytes(folder)
    return free is None or free >= _LEAST_BYTES


def _left_on(folder: Path) -> str:
    free = _free_bytes(folder)
    return "" if free is None else f" ({free / 1e6:.0f} MB are left)"


def _free_bytes(folder: Path) -> int | None:
    """What is left to everybody but root's reserve; `None` if the folder is not there."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize
