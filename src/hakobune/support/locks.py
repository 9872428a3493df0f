"""Locks are the kernel's: one flock a thing, gone with its process. ARCHITECTURE.md has the table and the order."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def open_lock(path: Path) -> int:
    """A descriptor on which `flock` can be called; the file is made if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def is_still_there(path: Path, descriptor: int) -> bool:
    """Whether the open lock is the file at *path*, and not one that was unlinked before it could be locked."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextmanager
def exclusive(path: Path, *, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock alone; *waiting* is called once if somebody else holds it now."""
    with _locked(path, fcntl.LOCK_EX, waiting):
        yield


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """Hold the lock with other sharers, keeping exclusive holders out."""
    with _locked(path, fcntl.LOCK_SH, None):
        yield


def try_exclusive(path: Path) -> int | None:
    """The descriptor that holds the lock alone, or `None` when somebody holds it. The caller closes it."""
    descriptor = open_lock(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def _locked(path: Path, kind: int, waiting: Callable[[], None] | None) -> Iterator[None]:
    descriptor = open_lock(path)
    try:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is not None:
                waiting()
            fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)
