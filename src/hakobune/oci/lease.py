"""Leases: what a living process has put into the store or relies on, before any root names it.

A lease is a file of digests and snapshot keys under an exclusive flock of its owner. The collector takes the
lines of a living lease as roots; a lease whose owner has ended (in any way) is removed with what it began.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path


class Lease:
    """One process's lease. Made and extended under the store's shared lock, so that no collector runs meanwhile."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name = f"{os.getpid()}-{os.urandom(4).hex()}"
        self._path = folder / self.name
        self._descriptor = os.open(
            self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
        )
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def add(self, *tokens: str) -> None:
        """Keep these digests and snapshot keys until `close`."""
        os.write(self._descriptor, "".join(f"{token}\n" for token in tokens).encode())

    def close(self) -> None:
        if self._descriptor >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1


def read_leases(folder: Path) -> dict[str, tuple[str, ...]]:
    """The lines of every living lease by its name; those of ended owners are removed.

    Only for the holder of the store's exclusive lock. An owner may let go meanwhile: read names and roots afterwards.
    """
    leases = {path.name: _read_living(path) for path in _files(folder)}
    return {name: lines for name, lines in leases.items() if lines is not None}


def _read_living(path: Path) -> tuple[str, ...] | None:
    try:
        with open(path, encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
            return None
    except FileNotFoundError:
        return None
    except BlockingIOError:
        return _read_lines(path)


def _read_lines(path: Path) -> tuple[str, ...] | None:
    try:
        return tuple(path.read_text(encoding="ascii").splitlines())
    except FileNotFoundError:
        return None


def is_of(temporary: str, leases: Iterable[str]) -> bool:
    """Whether a temporary thing (`LEASE.RANDOM`) belongs to one of *leases*."""
    return temporary.partition(".")[0] in leases


def _files(folder: Path) -> tuple[Path, ...]:
    try:
        return tuple(sorted(folder.iterdir()))
    except FileNotFoundError:
        return ()
