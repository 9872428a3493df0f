"""Files and folders of a cgroup hierarchy, by paths below its descriptor."""

from __future__ import annotations

import contextlib
import errno
import os


def make_folders(tree: int, path: str, *, controllers: tuple[str, ...]) -> None:
    """Make *path* with its parents, each of which hands *controllers* on to what is below it."""
    parts = path.split("/")
    for depth in range(len(parts)):
        parent = "/".join(parts[:depth]) or "."
        if controllers:
            write_text(
                tree, f"{parent}/cgroup.subtree_control", " ".join(f"+{c}" for c in controllers)
            )
        with contextlib.suppress(FileExistsError):
            os.mkdir("/".join(parts[: depth + 1]), dir_fd=tree)


def remove_tree(tree: int, path: str) -> bool:
    """Remove the empty groups at and below *path*; whether nothing is left of them."""
    for name in children(tree, path):
        remove_tree(tree, f"{path}/{name}")
    try:
        os.rmdir(path, dir_fd=tree)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def exists(tree: int, path: str) -> bool:
    """Whether there is a group, or a file of one."""
    try:
        os.stat(path, dir_fd=tree)
    except FileNotFoundError:
        return False
    return True


def children(tree: int, path: str) -> list[str]:
    """The groups in one; none if it is not there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=tree)
    except OSError:
        return []
    try:
        with os.scandir(fd) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    finally:
        os.close(fd)


def write_text(tree: int, path: str, value: str) -> None:
    """Write a file of a group, in one write(2) as the kernel wants it."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=tree)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def read_text(tree: int, path: str) -> str:
    """A file of a group.

    Raises:
        FileNotFoundError: the group is gone, also if that happens while it is read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=tree)
    try:
        chunks = []
        while chunk := os.read(fd, 65536):
            chunks.append(chunk)
    except OSError as error:
        if error.errno == errno.ENODEV:  # removed since it was opened
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
        raise
    finally:
        os.close(fd)
    return b"".join(chunks).decode()
