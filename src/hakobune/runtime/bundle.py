"""A container's bundle: the `config.json` that crun gets, from a `ContainerSpec` (runtime-spec config.md, config-linux.md).

Pure: paths in, a document out. Every key has been tried together with the others; what is left out is left out
on purpose (no `uidMappings` beside a user namespace joined by path: crun chowns the host's /dev/null then;
no `linux.resources`: limits are our own cgroups'; no `linux.seccomp`: compiling it costs 20 ms a start).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hakobune.runtime.container import DEFAULT_PATH, ContainerSpec, Mount
from hakobune.runtime.masks import MASKED_PATHS, READ_ONLY_PATHS

CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_KILL",
    "CAP_SYS_CHROOT",
)
OPEN_FILES = 1 << 20  # what a program may ask for, if the supervisor itself may
_SOFT_OPEN_FILES = 1024  # select(2) breaks above it, and some programs close every number up to it


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where the container's parts are, as crun sees them.

    Args:
        root: where the root file system will be attached.
        userns, netns: paths of the namespaces to join; without a *netns* it is the host's network.
        files: the container's own small files, by their path inside.
        volumes: where the bind mounts of the spec are attached, in their order.
        open_files: the hard limit on descriptors that may be given (never above one's own).
        seccomp: the compiled filter, or `None` where the kernel has none.
    """

    root: str
    userns: str | None
    netns: str | None
    files: Mapping[str, str]
    volumes: Sequence[str]
    open_files: int
    seccomp: bytes | None


def make_config(
    spec: ContainerSpec, place: Surroundings, *, terminal: bool = False
) -> dict[str, Any]:
    """The bundle's `config.json`."""
    config: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "root": {"path": place.root, "readonly": spec.read_only_root},
        "hostname": spec.hostname or spec.id,
        "process": make_process(spec, place.open_files, terminal=terminal),
        "mounts": _mounts(spec, place),
        "linux": {
            "namespaces": _namespaces(place),
            "maskedPaths": list(MASKED_PATHS),
            "readonlyPaths": list(READ_ONLY_PATHS),
        },
    }
    if place.seccomp is not None:
        bpf = base64.b64encode(place.seccomp).decode()
        config["annotations"] = {"run.oci.seccomp_bpf_data": bpf}
    return config


def make_process(spec: ContainerSpec, open_files: int, *, terminal: bool) -> dict[str, Any]:
    """The runtime-spec's `process` of a container: its first, or with another spec any further one."""
    bounding = list(CAPABILITIES)
    held = bounding if spec.user.uid == 0 else []
    env = dict(spec.env)
    env.setdefault("PATH", DEFAULT_PATH)
    env.setdefault("HOSTNAME", spec.hostname or spec.id)
    hard = min(open_files, OPEN_FILES)
    return {
        "terminal": terminal,
        "user": {
            "uid": spec.user.uid,
            "gid": spec.user.gid,
            "additionalGids": list(spec.user.groups),
        },
        "args": list(spec.argv),
        "env": [f"{name}={value}" for name, value in env.items()],
        "cwd": spec.cwd,
        "noNewPrivileges": spec.no_new_privileges,
        "capabilities": {"bounding": bounding, "effective": held, "permitted": held},
        "rlimits": [
            {"type": "RLIMIT_NOFILE", "soft": min(_SOFT_OPEN_FILES, hard), "hard": hard},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        ],
    }


def _namespaces(place: Surroundings) -> list[dict[str, str]]:
    namespaces = [{"type": kind} for kind in ("mount", "pid", "ipc", "uts", "cgroup")]
    if place.netns is not None:
        namespaces.append({"type": "network", "path": place.netns})
    if place.userns is not None:
        namespaces.append({"type": "user", "path": place.userns})
    return namespaces


def _mounts(spec: ContainerSpec, place: Surroundings) -> list[dict[str, Any]]:
    mounts = [
        _mount("/proc", "proc", "nosuid", "noexec", "nodev"),
        _sysfs(place),
        _mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount(
            "/dev/pts",
            "devpts",
            "nosuid",
            "noexec",
            "newinstance",
            "ptmxmode=0666",
            "mode=0620",
            "gid=5",
        ),
        _mount("/dev/shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
        _mount("/dev/mqueue", "mqueue", "nosuid", "noexec", "nodev"),
    ]
    for target, source in place.files.items():
        mounts.append(_bind(target, source, "ro", "nosuid", "nodev", "noexec"))
    volumes = iter(place.volumes)
    for mount in sorted_mounts(spec.mounts):
        mounts.append(_volume(mount, volumes))
    return mounts


def _sysfs(place: Surroundings) -> dict[str, Any]:
    """Only the owner of a network namespace may mount its sysfs; the host's own is shown by a bind."""
    options = ("nosuid", "noexec", "nodev", "ro")
    if place.netns is not None:
        return _mount("/sys", "sysfs", *options)
    return {**_mount("/sys", "bind", "rbind", "rslave", *options), "source": "/sys"}


def sorted_mounts(mounts: Sequence[Mount]) -> tuple[Mount, ...]:
    """Parents before what is mounted below them."""
    return tuple(sorted(mounts, key=lambda mount: mount.target.rstrip("/").count("/")))


def _volume(mount: Mount, volumes: Any) -> dict[str, Any]:
    mode = "ro" if mount.read_only else "rw"
    if mount.source is None:
        size = [] if mount.size_bytes is None else [f"size={mount.size_bytes}"]
        return _mount(mount.target, "tmpfs", "nosuid", "nodev", "mode=1777", mode, *size)
    return _bind(mount.target, next(volumes), mode, "nosuid", "nodev")


def _mount(target: str, kind: str, *options: str) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": kind, "options": list(options)}


def _bind(target: str, source: str, *options: str) -> dict[str, Any]:
    return {
        "destination": target,
        "type": "bind",
        "source": source,
        "options": ["bind", *options],
    }
