"""A root file system on its way into a base image: what it is made of, who lives in it, and what is taken out at the end."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

BUILD_UID = 1001
RUN_UID = 1002
GROUP_ID = 1000
USER = "cnb"
USER_HOME = "/home/cnb"

# What differs from run to run, or belongs to the machine; globs below the root.
_LEFT_BEHIND = (
    "dev/*",
    "etc/*-",
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/apt/sources.list",
    "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "etc/hostname",
    "etc/machine-id",
    "etc/resolv.conf",
    "run/*",
    "tmp/*",
    "usr/sbin/policy-rc.d",
    "var/cache/apt/*.bin",
    "var/cache/debconf/*-old",
    "var/cache/debconf/tmp.ci",
    "var/cache/ldconfig/*",
    "var/lib/apt/lists/*_*",
    "var/lib/apt/lists/lock",
    "var/cache/apt/archives/*.deb",
    "var/cache/apt/archives/lock",
    "var/lib/dpkg/*-old",
    "var/lib/dpkg/lock*",
    "var/lib/dpkg/updates/*",
    "var/lib/systemd/*",
    "var/tmp/*",
)
_LOGS = ("var/log/*", "var/log/*/*")


@dataclass(frozen=True, slots=True, kw_only=True)
class TreePlan:
    """What the trees are made of, beside the packages.

    Attributes:
        architecture: Debian's name of the CPU. Maintainer scripts run on it: emulated, if it is another than this machine's.
    """

    architecture: str
    suite: str
    mirrors: Mapping[str, str]
    left_out: tuple[str, ...]
    kept: tuple[str, ...]
    left_out_of_build: tuple[str, ...]
    tiny: tuple[str, ...]
    epoch: int


def write_text(tree: Path, path: str, text: str) -> None:
    """Write a file that all may read, with the folders above it; *path* is relative to *tree*."""
    file = tree / path
    make_folder(file.parent)
    file.unlink(missing_ok=True)  # it may be a link into another tree
    file.write_text(text)
    file.chmod(0o644)


def make_folder(path: Path) -> None:
    """Make it and its parents if they are missing, open to all whatever this process's umask is."""
    if not path.exists():
        make_folder(path.parent)
        path.mkdir()
        path.chmod(0o755)


def finish(tree: Path, epoch: int) -> None:
    """Take out what is not the packages', and date nothing after *epoch*."""
    for glob in _LEFT_BEHIND:
        for left in tree.glob(glob):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()
    for glob in _LOGS:
        for log in filter(Path.is_file, tree.glob(glob)):  # apt wants its folders back
            log.unlink()
    for path, entry in walk(tree):
        if stat.S_ISDIR(entry.st_mode) or stat.S_ISREG(entry.st_mode):
            _drop_overlay_marks(path)
        if entry.st_mtime > epoch or stat.S_ISDIR(entry.st_mode):
            os.utime(path, (epoch, epoch), follow_symlinks=False)
    os.utime(tree, (epoch, epoch))


def _drop_overlay_marks(path: str) -> None:
    """What the kernel noted about the mount that made this; "opaque" says something about the tree and stays."""
    for name in os.listxattr(path):
        if name.startswith("trusted.overlay.") and name != "trusted.overlay.opaque":
            os.removexattr(path, name)


def walk(tree: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every entry below *tree*; a directory after what is in it, so that its own date can be set."""
    for folder, names, files in os.walk(tree, topdown=False):
        for name in (*files, *names):
            path = f"{folder}/{name}"
            yield path, os.lstat(path)
