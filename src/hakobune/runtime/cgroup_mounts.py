"""The cgroup file systems that this machine has mounted (proc(5), cgroups(7))."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

from hakobune.runtime import linux


@dataclass(frozen=True, slots=True)
class MountPoint:
    """One cgroup file system that is mounted: where, and which controllers (`None`: it is v2's)."""

    path: str
    controllers: tuple[str, ...] | None
    options: str = ""


def parse_mounts(mountinfo: str) -> tuple[MountPoint, ...]:
    """The cgroup mounts in a `/proc/self/mountinfo` (proc(5))."""
    found = []
    for line in mountinfo.splitlines():
        head, _, tail = line.partition(" - ")
        fields, rest = head.split(), tail.split(" ", 2)
        if len(fields) < 6 or len(rest) < 3:
            continue
        if rest[0] == "cgroup2":
            found.append(MountPoint(fields[4], None, rest[2]))
        elif rest[0] == "cgroup":
            found.append(MountPoint(fields[4], tuple(rest[2].split(","))))
    return tuple(found)


def find_mounts() -> tuple[MountPoint, ...]:
    """Those of this process's mount namespace."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        return parse_mounts(file.read())


def mount_v2() -> int | None:
    """A detached mount of the v2 tree where none is mounted; `None` if the kernel has none."""
    try:
        context = linux.fsopen("cgroup2")
    except OSError:
        return None
    try:
        linux.fsconfig(context, linux.FSCONFIG_CMD_CREATE)
        return linux.fsmount(context)
    except OSError:
        return None
    finally:
        os.close(context)


def favour_changes() -> None:
    """Let processes enter groups without waiting for a grace period of the kernel (4 to 18 ms each).

    The option `favordynmods` (Linux 6.0) is the whole machine's; other options of the mount are kept.
    """
    for mount in find_mounts():
        if mount.controllers is None and "favordynmods" not in mount.options.split(","):
            options = [o for o in mount.options.split(",") if o not in ("rw", "ro")]
            flags = linux.MS_REMOUNT | linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
            with contextlib.suppress(OSError):
                linux.mount(
                    "cgroup2", mount.path, "cgroup2", flags, ",".join([*options, "favordynmods"])
                )
            return
