"""Which ways of mounting a kernel knows: newer ones are shorter, all have the same result."""

from __future__ import annotations

import enum


class OverlayMethod(enum.Enum):
    """How the layers are handed to overlayfs, newest first."""

    DESCRIPTORS = "6.13"  # layers, upper and work as descriptors
    STRINGS = "6.7"  # "lowerdir+" one at a time, as /proc/self/fd/N
    ATTACHED = "5.19"  # one option string over clones attached in a short-lived mount namespace


class TmpfsIds(enum.Enum):
    """How a top in memory gets its ids."""

    MAPPED = "6.3"  # the tmpfs is idmapped: real ids inside it
    SHIFTED = "5.19"  # shifted ids inside it; it is thrown away, so nobody sees them


def kernel_version(release: str) -> tuple[int, int]:
    """`(6, 18)` from `6.18.44-fc`."""
    major, _, rest = release.partition(".")
    minor = ""
    for character in rest:
        if not character.isdecimal():
            break
        minor += character
    return int(major), int(minor or "0")


def choose_overlay_method(version: tuple[int, int]) -> OverlayMethod:
    """The newest way that a kernel of this version has."""
    return next(m for m in OverlayMethod if version >= version_of(m) or m is OverlayMethod.ATTACHED)


def choose_tmpfs_ids(version: tuple[int, int]) -> TmpfsIds:
    """Whether a kernel of this version can idmap a tmpfs."""
    return TmpfsIds.MAPPED if version >= version_of(TmpfsIds.MAPPED) else TmpfsIds.SHIFTED


def version_of(method: OverlayMethod | TmpfsIds) -> tuple[int, int]:
    """The first kernel that has it."""
    return kernel_version(method.value)
