"""What a sandbox is made of: its root, who root inside is, what it may do, and what is shown beside its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hakobune.runtime.cgroup import Cgroup

# CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE SYS_CHROOT (linux/capability.h)
_CAPABILITIES = frozenset({0, 1, 3, 4, 5, 6, 7, 8, 10, 18})
# the same, and NET_RAW MKNOD AUDIT_WRITE SETFCAP: docker's default set
_DOCKER_CAPABILITIES = _CAPABILITIES | {13, 27, 29, 31}


@dataclass(frozen=True, slots=True, kw_only=True)
class Powers:
    """What root inside may do.

    Attributes:
        may_gain: setuid programs and file capabilities have effect (within the id range, as everything).
    """

    capabilities: frozenset[int]
    may_gain: bool


BUILDPACK_POWERS = Powers(capabilities=_CAPABILITIES, may_gain=False)
# A Dockerfile's RUN may use sudo and setcap.
DOCKERFILE_POWERS = Powers(capabilities=_DOCKER_CAPABILITIES, may_gain=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenMount:
    """A detached mount, or a part of it, shown somewhere inside.

    Attributes:
        target: an absolute path inside; links in it are followed inside. A missing place is made and taken away again.
        fd: of the mount; it must have the ids of the sandbox's range, and stays the caller's.
        source: what of it is shown, links followed inside of it; empty: all.
    """

    target: str
    fd: int
    source: str = ""
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenFile:
    """A file in memory, shown at *target*; it never lies on a disk."""

    target: str
    data: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What pid 1 builds and becomes."""

    root_fd: int  # a detached mount that is nobody else's
    userns_fd: int
    base: int
    hostname: str
    seccomp: bytes | None
    cgroup: Cgroup | None
    oom_score: int
    powers: Powers
    mounts: Sequence[GivenMount]
    files: Sequence[GivenFile]
