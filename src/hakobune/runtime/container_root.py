"""A container's files from outside: of one that runs as its processes see them, of one that has stopped as they were left.

No path leads out: links, also absolute ones, are followed below the container's own root (openat2(2) RESOLVE_IN_ROOT).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path

from hakobune.runtime import linux, mount
from hakobune.runtime.adoption import read_found
from hakobune.runtime.bundle import sorted_mounts
from hakobune.runtime.container import ContainerError, ContainerSpec, ContainerStatus, Phase
from hakobune.runtime.file_place import Place, mount_of
from hakobune.runtime.foreground_record import find_foreground
from hakobune.runtime.held import ROOT_LOCK, shared_lock
from hakobune.runtime.mount import RootFs
from hakobune.runtime.mount_namespace import make_mounts_private
from hakobune.runtime.supervisor_client import SupervisorClient
from hakobune.settings import Settings
from hakobune.support.locks import exclusive

_KERNEL_KINDS = ("proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2")
_INSIDE = linux.RESOLVE_IN_ROOT | linux.RESOLVE_NO_MAGICLINKS


class ContainerRoot(Place):
    """The files of one container. Ids given and seen are those inside."""

    def __init__(
        self, name: str, fd: int, base: int, *, kernel: frozenset[str] = frozenset()
    ) -> None:
        super().__init__(name)
        self._fd = fd
        self._base = base
        self._kernel = kernel

    def open(self, path: str, flags: int) -> int:
        return linux.openat2(self._fd, path.strip("/") or ".", flags, resolve=_INSIDE)

    def has_files(self, folder: int) -> bool:
        return not self._kernel or mount_of(folder, ".") not in self._kernel

    def making(self) -> AbstractContextManager[None]:
        if not self._base:
            return nullcontext()
        return linux.filesystem_ids(self._base, self._base)

    def owner(self, uid: int, gid: int) -> tuple[int, int]:
        if not (0 <= uid < 65536 and 0 <= gid < 65536):
            raise ContainerError(
                f"cannot give a file in {self.name} to {uid}:{gid}",
                why="ids in a container are 0 to 65535",
                fix="leave -a away: the files are root's then",
            )
        return self._base + uid, self._base + gid

    def inner_owner(self, uid: int, gid: int) -> tuple[int, int]:
        return max(0, uid - self._base), max(0, gid - self._base)


@contextmanager
def container_root(settings: Settings, id: str) -> Iterator[ContainerRoot]:
    """The files of the container of that name, whoever it belongs to, while the block lasts.

    One that has stopped cannot be started meanwhile.

    Raises:
        ContainerError: kind `not_found`, or it has no files left.
    """
    own = find_foreground(settings, id)
    if own is not None:
        with _living(id, own.status) as root:
            yield root
        return
    with SupervisorClient(settings.supervisor_socket) as client:
        status = client.get(id)
        if status.phase is not Phase.STOPPED:
            with _living(id, status) as root:
                yield root
            return
        folder = settings.home / "containers" / id
        with exclusive(folder / ROOT_LOCK), ExitStack() as undo:
            if client.get(id).phase is Phase.STOPPED:
                yield undo.enter_context(_stopped(id, folder))
            else:
                yield undo.enter_context(_living(id, client.get(id)))


@contextmanager
def _living(id: str, status: ContainerStatus) -> Iterator[ContainerRoot]:
    try:
        base = int(Path(f"/proc/{status.pid}/uid_map").read_text().split()[1])
        fd = os.open(f"/proc/{status.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError, IndexError) as error:
        raise ContainerError(
            f"the container {id!r} has just ended", why="its first process is gone", kind="phase"
        ) from error
    try:
        yield ContainerRoot(id, fd, base, kernel=_kernel_mounts(f"/proc/{status.pid}/mountinfo"))
    finally:
        os.close(fd)


def _kernel_mounts(mountinfo: str) -> frozenset[str]:
    """The mounts of one that runs in which there are no files of its own: processes, devices …"""
    found = set()
    with open(mountinfo, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            fields, _, kind = line.partition(" - ")
            id, where = fields.split()[0], fields.split()[4]
            if kind.split()[0] in _KERNEL_KINDS or where == "/dev" or where.startswith("/dev/"):
                found.add(id)
    return frozenset(found)


@contextmanager
def _stopped(id: str, folder: Path) -> Iterator[ContainerRoot]:
    """Its layers and top mounted for us, with its volumes where they were."""
    spec = read_found(folder).spec
    if spec is None or spec.top is None:
        raise ContainerError(
            f"the container {id!r} has no files",
            why="it has stopped, and what it wrote was in memory",
            kind="phase",
        )
    shutil.rmtree(Path(spec.top, "wk"), ignore_errors=True)  # a volatile mount takes a fresh one
    with ExitStack() as undo:
        for path in spec.locks:
            undo.callback(os.close, shared_lock(Path(path)))
        lowers = tuple(Path(lower) for lower in spec.lowers)
        fd = mount.overlay(RootFs(lowers=lowers, top=Path(spec.top)), None)
        undo.callback(os.close, fd)
        if any(item.source is not None for item in spec.mounts):
            _attach_volumes(spec, fd, folder)
        yield ContainerRoot(id, fd, 0)


def _attach_volumes(spec: ContainerSpec, root: int, folder: Path) -> None:
    """In a mount namespace that this process has from now on, and nobody else."""
    linux.unshare(linux.CLONE_NEWNS)
    make_mounts_private()
    seen = folder / "seen"
    seen.mkdir(exist_ok=True)
    mount.attach(root, str(seen))
    for item in sorted_mounts(spec.mounts):
        if item.source is None:
            continue
        volume = mount.clone_tree(item.source)
        mount.protect(volume, read_only=item.read_only)
        target = linux.openat2(root, item.target.strip("/") or ".", os.O_PATH, resolve=_INSIDE)
        linux.move_mount(volume, "", dir_fd=target)
        os.close(target)
        os.close(volume)
