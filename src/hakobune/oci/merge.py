"""Making one directory of several: by hard links, or by copies where the source is not ours to share."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence

from hakobune.oci.merged import (
    XATTR_SPACES,
    Shown,
    is_opaque,
    is_whiteout,
    look_up,
    names_in,
    redirect_of,
)

Share = Callable[[str, str], None]


def link_or_copy(source: str, target: str) -> None:
    """A second name for *source*, or a copy if it can have no more names."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EMLINK, errno.EXDEV):
            raise
        copy_entry(source, target)


def copy_entry(source: str, target: str) -> None:
    """A copy of anything but a directory, with mode, owner and times."""
    status = os.lstat(source)
    if stat.S_ISREG(status.st_mode):
        from shutil import copyfile  # every command opens the store; few copy

        copyfile(source, target, follow_symlinks=False)
    elif stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), target)
    else:
        os.mknod(target, status.st_mode, status.st_rdev)
    set_metadata(target, status)


def copy_directory_metadata(shown: Shown, target: str) -> None:
    """Give the directory *target* the attributes, owner, mode and times of the one that is shown."""
    for name in os.listxattr(shown.path):
        if not name.startswith(XATTR_SPACES):
            os.setxattr(target, name, os.getxattr(shown.path, name))
    set_metadata(target, shown.status)


def set_metadata(path: str, status: os.stat_result) -> None:
    """Give *path* the owner, mode and times of *status*."""
    os.chown(path, status.st_uid, status.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(path, stat.S_IMODE(status.st_mode))  # after chown, which takes setuid away
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


@contextlib.contextmanager
def times_kept(directory: str) -> Iterator[None]:
    """Let the directory have the times it had, whatever is added or removed in it."""
    before = os.lstat(directory)
    yield
    os.utime(directory, ns=(before.st_atime_ns, before.st_mtime_ns))


def merge(directories: Sequence[str], target: str, share: Share = link_or_copy) -> None:
    """Make the directory *target*: what merged *directories* (uppermost first) show, each file by *share*."""
    os.mkdir(target, 0o700)
    for name in names_in(directories):
        shown = look_up(directories, name)
        if shown is not None:
            put(shown, f"{target}/{name}", share)
    set_metadata(target, os.lstat(directories[0]))


def put(shown: Shown, target: str, share: Share) -> None:
    """Make *target*, which does not exist, be what is shown."""
    if shown.is_directory:
        merge(shown.merged, target, share)
    else:
        share(shown.path, target)


def fill(target: str, directories: Sequence[str], share: Share) -> None:
    """Add to the directory *target* what *directories* show and *target* neither has nor hides; its whiteouts go."""
    with times_kept(target):
        for name in names_in(directories):
            shown = look_up(directories, name)
            if shown is not None:
                _add(shown, f"{target}/{name}", share)
        _remove_whiteouts(target)


def _add(shown: Shown, path: str, share: Share) -> None:
    try:
        present = os.lstat(path)
    except FileNotFoundError:
        put(shown, path, share)
        return
    if stat.S_ISDIR(present.st_mode) and shown.is_directory and not _stands_alone(path):
        fill(path, shown.merged, share)


def _stands_alone(directory: str) -> bool:
    return is_opaque(directory) or redirect_of(directory) is not None


def _remove_whiteouts(directory: str) -> None:
    for entry in os.scandir(directory):
        if is_whiteout(entry.stat(follow_symlinks=False)):
            os.unlink(entry.path)
