"""What may not survive a power loss yet: one empty file a thing, in a folder named by the boot that wrote it.

Nothing on the way to an image is fsynced, because a throw-away build would pay for each file. A `syncfs` in the
background clears the marks; marks of an older boot name what must be checked or dropped.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def boot_id() -> str:
    """The kernel's name for this boot."""
    with open("/proc/sys/kernel/random/boot_id", "rb", buffering=0) as file:
        return file.read(64).decode().strip()


class Unsynced:
    """The marks below one folder."""

    def __init__(self, folder: Path, boot: str) -> None:
        self.folder = folder
        self.boot = boot

    def mark(self, name: str) -> None:
        """Say that *name* is written; its data is complete, its new name follows."""
        path = self.folder / self.boot / name
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.close(descriptor)

    def sync(self) -> tuple[str, ...]:
        """Bring the whole file system to the disk; gives the names that are safe now, for `clear`."""
        names = tuple(_names(self.folder / self.boot))
        if names:
            sync_file_system(self.folder)
        return names

    def clear(self, names: tuple[str, ...]) -> None:
        for name in names:
            (self.folder / self.boot / name).unlink(missing_ok=True)

    def older_boots(self) -> tuple[str, ...]:
        """The boots that ended with marks left; usually none, for the price of one listing."""
        return tuple(name for name in _names(self.folder) if name != self.boot)

    def of_boot(self, boot: str) -> tuple[str, ...]:
        return tuple(_names(self.folder / boot))

    def forget_boot(self, boot: str) -> None:
        for name in _names(self.folder / boot):
            (self.folder / boot / name).unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            (self.folder / boot).rmdir()


def sync_file_system(path: Path) -> None:
    """Write everything of the file system that holds *path* to its disk (syncfs(2))."""
    import ctypes  # not at the top: only a sync needs it, and every command opens the store

    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.syncfs(descriptor) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), str(path))
    finally:
        os.close(descriptor)


def _names(folder: Path) -> Iterator[str]:
    with contextlib.suppress(FileNotFoundError):
        yield from sorted(os.listdir(folder))
