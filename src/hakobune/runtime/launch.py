"""From a `ContainerSpec` and a slot to crun's process: mounts, bundle, and what the child does before it becomes crun.

Shared by the supervisor and by foreground containers. Mounts are descriptors until the child attaches them in a
mount namespace of its own, so nothing is ever unmounted (facts: recipe §2, §5).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import signal
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hakobune.runtime import linux, mount
from hakobune.runtime.bundle import Surroundings, make_config, sorted_mounts
from hakobune.runtime.container import ContainerError, ContainerSpec
from hakobune.runtime.mount import RootFs, TmpfsTop
from hakobune.runtime.resolver import make_hosts
from hakobune.runtime.slot import Slot
from hakobune.support.files import write_atomically


@dataclass(slots=True)
class Mounts:
    """The detached mounts of one container; close them once the child has been forked."""

    root_fd: int
    volumes: list[tuple[int, bool]] = field(default_factory=list)  # descriptor, is a directory

    def close(self) -> None:
        for fd in (self.root_fd, *(fd for fd, _ in self.volumes)):
            os.close(fd)
        self.volumes.clear()


def make_mounts(spec: ContainerSpec, slot: Slot) -> Mounts:
    """The root file system and the bind mounts, shifted into the slot's id range.

    Raises:
        ContainerError: a layer or a mount's source is missing or cannot be used.
    """
    top = TmpfsTop(spec.top_bytes) if spec.top is None else Path(spec.top)
    rootfs = RootFs(lowers=tuple(Path(lower) for lower in spec.lowers), top=top)
    try:
        mounts = Mounts(mount.overlay(rootfs, slot, nosuid=spec.no_new_privileges))
    except OSError as error:
        raise ContainerError(
            f"cannot mount the root file system of {spec.id!r}", why=error.strerror or str(error)
        ) from error
    try:
        for item in sorted_mounts(spec.mounts):
            if item.source is not None:
                volume = _volume(item.source, slot, read_only=item.read_only)
                mounts.volumes.append(volume)
    except BaseException:
        mounts.close()
        raise
    return mounts


def _volume(source: str, slot: Slot, *, read_only: bool) -> tuple[int, bool]:
    try:
        is_directory = stat.S_ISDIR(os.stat(source).st_mode)
        fd = mount.clone_tree(source, slot.userns_fd)
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno == errno.EINVAL:
            why = "its file system cannot be shown with another id range"
        raise ContainerError(
            f"cannot mount {source}", why=why, kind="invalid", fix="give a folder that exists"
        ) from error
    mount.protect(fd, read_only=read_only)
    return fd, is_directory


def attach_place(home: Path) -> str:
    """Where the child attaches things: a directory of every host that any id may pass, hidden in the child only.

    It is not below `HAKO_HOME`: crun looks paths up as the container's root, whom a 0700 on the way would stop.
    """
    return "/mnt" if home.is_relative_to("/run") else "/run"


def small_files(spec: ContainerSpec, address: str | None, resolv_conf: str) -> dict[str, str]:
    """The text of the files that every container gets, by their path inside."""
    name = spec.hostname or spec.id
    hosts = make_hosts(name, address)
    if spec.host_network:  # it resolves as the host does, also at the host's own loopback
        resolv_conf = Path("/etc/resolv.conf").read_text(errors="replace")
        hosts = Path("/etc/hosts").read_text(errors="replace") + f"127.0.0.1\t{name}\n"
    return {
        "/etc/resolv.conf": resolv_conf,
        "/etc/hosts": hosts,
        "/etc/hostname": name + "\n",
    }


def write_bundle(
    spec: ContainerSpec,
    folder: Path,
    *,
    slot: Slot,
    owner_pid: int,
    place: str,
    files: Iterable[str],
    seccomp: bytes | None,
    terminal: bool = False,
    adapt: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Write `config.json` into *folder*.

    Args:
        owner_pid: the process that holds the slot's descriptors, as crun's /proc shows it.
        place: the directory on which `attach_mounts` will work.
        files: the paths of `small_files`.
        adapt: what the runtime at hand wants otherwise (`Crun.adapt`).
    """
    surroundings = Surroundings(
        root=f"{place}/root",
        userns=f"/proc/{owner_pid}/fd/{slot.userns_fd}",
        netns=None if spec.host_network else f"/proc/{owner_pid}/fd/{slot.netns_fd}",
        files={path: _place_of(path, place) for path in files},
        volumes=tuple(f"{place}/{n}" for n in range(_binds(spec))),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        seccomp=seccomp,
    )
    config = make_config(spec, surroundings, terminal=terminal)
    if adapt is not None:
        adapt(config)
    write_atomically(folder / "config.json", json.dumps(config).encode(), mode=0o600)


def _place_of(path: str, place: str) -> str:
    return f"{place}/{path.rsplit('/', 1)[1]}"


def _binds(spec: ContainerSpec) -> int:
    return sum(1 for item in spec.mounts if item.source is not None)


def attach_mounts(mounts: Mounts, files: Mapping[str, str], place: str) -> None:
    """In the child, in a mount namespace of its own: make *place* a tmpfs with root, volumes and small files."""
    linux.mount("tmpfs", place, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755")
    os.mkdir(f"{place}/root")
    linux.move_mount(mounts.root_fd, f"{place}/root")
    for path, text in files.items():
        fd = os.open(_place_of(path, place), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.write(fd, text.encode())
        os.close(fd)
    for number, (fd, is_directory) in enumerate(mounts.volumes):
        target = f"{place}/{number}"
        if is_directory:
            os.mkdir(target)
        else:
            os.close(os.open(target, os.O_CREAT | os.O_CLOEXEC, 0o644))
        linux.move_mount(fd, target)


def spawn(
    prepare: Callable[[], None], become: Callable[[], None], *, stdio: Mapping[int, int]
) -> int:
    """Fork; the child puts *stdio* in place, calls *prepare*, then *become* (an exec). The child's pid.

    A child that fails says why on its standard error and exits with 125.
    """
    pid = os.fork()
    if pid:
        return pid
    try:
        restore_signals()
        place_descriptors(stdio)
        prepare()
        become()
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.write(2, f"{error}\n".encode())
    finally:
        os._exit(125)


def place_descriptors(descriptors: Mapping[int, int]) -> None:
    """In a child: copy each value to the descriptor that is its key, open across exec. What stood there is closed."""
    # Sources may lie on the numbers that others go to: move all of them out of the way first.
    moved = {target: os.dup(source) for target, source in descriptors.items()}
    while moved and min(moved.values()) <= max(descriptors):
        moved = {target: os.dup(source) for target, source in moved.items()}
    for target, source in moved.items():
        os.dup2(source, target, inheritable=True)


def restore_signals() -> None:
    """Undo what Python and the supervisor set: ignored signals and masks are inherited across exec."""
    signal.set_wakeup_fd(-1)
    for number in (
        signal.SIGPIPE,
        signal.SIGXFSZ,
        signal.SIGCHLD,
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
    ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def closed_pipe() -> int:
    """The read end of a pipe that nobody writes to: an empty standard input that is no node of the host's."""
    read, write = os.pipe2(os.O_CLOEXEC)
    os.close(write)
    return read
