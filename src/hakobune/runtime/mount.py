"""Root filesystems as detached mounts: immutable layers under one writable top, shifted to an id range.

Nothing here attaches a mount to the caller's mount namespace, so nothing ever has to be unmounted: a
descriptor is a mount, and the mount goes with its last descriptor or with the last process whose root it
is. Layers and tops hold real ids on disk; the id range is applied to *clones* of their mounts.

Kernels differ (`mount_method.py`); every way is the same call with the same result.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hakobune.runtime import linux
from hakobune.runtime.mount_method import (
    OverlayMethod,
    TmpfsIds,
    choose_overlay_method,
    choose_tmpfs_ids,
    kernel_version,
)
from hakobune.runtime.mount_namespace import in_private_mount_namespace

# In a private mount namespace a constant place to attach things to; any directory that every host has.
ATTACH_POINT = "/run"

_LAYERS_OF_ONE_OVERLAY = 500  # overlayfs: OVL_MAX_STACK


class MappedIds(Protocol):
    """A user namespace and the first id of its range on the host (`slot.Slot` is one)."""

    @property
    def userns_fd(self) -> int: ...

    @property
    def base(self) -> int: ...


@dataclass(frozen=True, slots=True)
class TmpfsTop:
    """A top in memory, charged to whoever writes it, gone with the mount."""

    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RootFs:
    """A stack of layer directories under one writable top.

    Attributes:
        lowers: uppermost first: the last image layer's directories, …, the first image layer's.
        top: a folder that holds `up` and `wk` (made if missing; `wk` must never have served a mount
            before, a volatile mount refuses it), or a size in memory.
        redirect_dir: a lower directory can be renamed in place (builds); without it rename(2) answers
            EXDEV and programs copy, and the top can be read as a changeset (Dockerfile steps).
    """

    lowers: tuple[Path, ...]
    top: Path | TmpfsTop
    redirect_dir: bool = False

    @property
    def distinct_lowers(self) -> tuple[Path, ...]:
        """The lowers, each once, as overlayfs wants them: an image may have one layer several times.

        The uppermost counts: all that a layer holds or hides, it holds or hides there already.
        """
        return tuple(dict.fromkeys(self.lowers))


def overlay_options(rootfs: RootFs) -> tuple[tuple[str, str | None], ...]:
    """Every option of the overlay, each said explicitly: distributions and kernels change the defaults.

    `volatile`: a copy-up would be an fsync otherwise (4-6 times slower); a top is thrown away after a
    crash anyway. `redirect_dir=follow` makes none and resolves what a layer has.
    """
    return (
        ("volatile", None),
        ("redirect_dir", "on" if rootfs.redirect_dir else "follow"),
        ("metacopy", "off"),
        ("index", "off"),
        ("xino", "off"),
    )


def make_top(folder: Path) -> None:
    """Make *folder* a top: `up`, which receives what is written, and `wk`, which overlayfs needs beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("up", "wk"):
        path = folder / name
        if not path.is_dir():
            path.mkdir()
            path.chmod(0o755)  # `up` becomes the root directory: the umask must not decide its mode


def clone_tree(path: Path | str, userns_fd: int | None = None, *, recursive: bool = False) -> int:
    """A detached copy of the mount at *path*, shifted into the range of *userns_fd* if that is given.

    Raises:
        OSError: EINVAL when the file system cannot be idmapped (overlay, proc, tmpfs before Linux 6.3).
    """
    fd = linux.open_tree(str(path), recursive=recursive)
    if userns_fd is not None:
        try:
            map_ids(fd, userns_fd, recursive=recursive)
        except OSError as error:
            os.close(fd)
            raise OSError(error.errno, f"{error.strerror} (idmap of {path})") from error
    return fd


def map_ids(fd: int, userns_fd: int, *, recursive: bool = False) -> None:
    """Shift a detached mount that nobody has used yet into the range of *userns_fd*."""
    linux.mount_setattr(
        fd, attr_set=linux.MOUNT_ATTR_IDMAP, userns_fd=userns_fd, recursive=recursive
    )


def protect(fd: int, *, read_only: bool, nosuid: bool = True, nodev: bool = True) -> None:
    """Set the flags of a detached mount."""
    flags = (
        (linux.MOUNT_ATTR_RDONLY if read_only else 0)
        | (linux.MOUNT_ATTR_NOSUID if nosuid else 0)
        | (linux.MOUNT_ATTR_NODEV if nodev else 0)
    )
    linux.mount_setattr(fd, attr_set=flags)


def attach(fd: int, path: str) -> None:
    """Attach a detached mount at *path* of the caller's mount namespace, which should be a private one."""
    linux.move_mount(fd, path)


def new_filesystem(
    filesystem: str,
    options: Sequence[tuple[str, str | None]] = (),
    *,
    attributes: int = 0,
    ids: MappedIds | None = None,
) -> int:
    """A detached mount of a new file system.

    Args:
        options: key and value; `None` marks a flag.
        attributes: `MOUNT_ATTR_…`.
        ids: the file system is *created* by the first id of that range (overlayfs keeps its mounter's ids).
    """
    context = linux.fsopen(filesystem)
    try:
        with _kernel_messages(context):
            for key, value in options:
                if value is None:
                    linux.fsconfig(context, linux.FSCONFIG_SET_FLAG, key)
                else:
                    linux.fsconfig(context, linux.FSCONFIG_SET_STRING, key, value)
            return _create_and_mount(context, attributes, ids)
    finally:
        os.close(context)


def overlay(
    rootfs: RootFs,
    ids: MappedIds | None,
    *,
    nosuid: bool = False,
    method: OverlayMethod | None = None,
    tmpfs_ids: TmpfsIds | None = None,
) -> int:
    """The root filesystem as a detached mount; the caller closes the descriptor.

    Host root must read and write through it as an id of the range (`linux.filesystem_ids`).

    Args:
        ids: the range that the layers and the top are shifted to; `None` shows them as they are on disk.
        nosuid: setuid bits and file capabilities have no effect (instances).
        method, tmpfs_ids: `None` chooses by the kernel's version.

    Raises:
        OSError: with the message that overlayfs left, if it left one.
    """
    version = kernel_version(os.uname().release)
    method = method or choose_overlay_method(version)
    tmpfs_ids = tmpfs_ids or choose_tmpfs_ids(version)
    paths = rootfs.distinct_lowers
    if len(paths) > _LAYERS_OF_ONE_OVERLAY:
        raise OSError(
            errno.EINVAL,
            f"an overlay has at most {_LAYERS_OF_ONE_OVERLAY} lowers, not {len(paths)}",
        )
    attributes = linux.MOUNT_ATTR_NOSUID if nosuid else 0
    with ExitStack() as opened:
        lowers = [_kept(opened, clone_tree(path, ids.userns_fd if ids else None)) for path in paths]
        top = _kept(opened, _top(rootfs.top, ids, tmpfs_ids))
        options = overlay_options(rootfs)
        match method:
            case OverlayMethod.DESCRIPTORS | OverlayMethod.STRINGS:
                return _overlay_of_clones(lowers, top, options, ids, attributes, method)
            case OverlayMethod.ATTACHED:
                return _overlay_of_attached(lowers, top, options, ids, attributes)


def duplicate(fd: int) -> int:
    """A second detached mount of what the detached mount *fd* shows: what is later mounted in one is not in the other.

    *fd* stays usable and must not be attached yet. Linux before 6.15 cannot clone a detached mount: there
    a short-lived process attaches it in a mount namespace of its own and clones it from there.
    """
    try:
        return linux.open_tree("", dir_fd=fd)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return _duplicate_attached(fd)


def _duplicate_attached(fd: int) -> int:
    def clones() -> tuple[int, ...]:
        attach(fd, ATTACH_POINT)
        return (clone_tree(ATTACH_POINT), clone_tree(ATTACH_POINT))

    first, second = in_private_mount_namespace(clones)
    # The mount behind `fd` went away with that namespace: put a fresh one under the caller's number.
    os.dup2(first, fd, inheritable=False)
    os.close(first)
    return second


def _kept(opened: ExitStack, fd: int) -> int:
    opened.callback(os.close, fd)
    return fd


def _top(top: Path | TmpfsTop, ids: MappedIds | None, tmpfs_ids: TmpfsIds) -> int:
    """A detached mount that holds `up` and `wk`."""
    if isinstance(top, Path):
        make_top(top)
        if (
            top / "wk/work/incompat"
        ).exists():  # overlayfs itself says this in the kernel's log only
            raise OSError(
                errno.EINVAL, f"the top {top} has served a volatile mount: it needs a fresh wk"
            )
        return clone_tree(top, ids.userns_fd if ids else None)
    options = [("size", str(top.size_bytes)), ("mode", "755")]
    if ids is not None and tmpfs_ids is TmpfsIds.SHIFTED:
        options += [("uid", str(ids.base)), ("gid", str(ids.base))]
    fd = new_filesystem("tmpfs", options)
    try:
        for name in ("up", "wk"):
            os.mkdir(name, dir_fd=fd)
            os.chmod(name, 0o755, dir_fd=fd)
            if ids is not None and tmpfs_ids is TmpfsIds.SHIFTED:
                os.chown(name, ids.base, ids.base, dir_fd=fd)
        if ids is not None and tmpfs_ids is TmpfsIds.MAPPED:
            map_ids(fd, ids.userns_fd)
    except OSError:
        os.close(fd)
        raise
    return fd


def _overlay_of_clones(
    lowers: Sequence[int],
    top: int,
    options: Sequence[tuple[str, str | None]],
    ids: MappedIds | None,
    attributes: int,
    method: OverlayMethod,
) -> int:
    with ExitStack() as opened:
        context = _kept(opened, linux.fsopen("overlay"))
        upper = _kept(opened, os.open("up", os.O_PATH | os.O_CLOEXEC, dir_fd=top))
        work = _kept(opened, os.open("wk", os.O_PATH | os.O_CLOEXEC, dir_fd=top))
        layers = [("lowerdir+", fd) for fd in lowers] + [("upperdir", upper), ("workdir", work)]
        with _kernel_messages(context):
            for key, fd in layers:
                if method is OverlayMethod.DESCRIPTORS:
                    linux.fsconfig(context, linux.FSCONFIG_SET_FD, key, aux=fd)
                else:
                    linux.fsconfig(context, linux.FSCONFIG_SET_STRING, key, f"/proc/self/fd/{fd}")
            for key, value in options:
                if value is None:
                    linux.fsconfig(context, linux.FSCONFIG_SET_FLAG, key)
                else:
                    linux.fsconfig(context, linux.FSCONFIG_SET_STRING, key, value)
            return _create_and_mount(context, attributes, ids)


def _create_and_mount(context: int, attributes: int, ids: MappedIds | None) -> int:
    if ids is None:
        linux.fsconfig(context, linux.FSCONFIG_CMD_CREATE)
    else:
        with linux.filesystem_ids(ids.base, ids.base):
            linux.fsconfig(context, linux.FSCONFIG_CMD_CREATE)
    return linux.fsmount(context, attributes)


def _overlay_of_attached(
    lowers: Sequence[int],
    top: int,
    options: Sequence[tuple[str, str | None]],
    ids: MappedIds | None,
    attributes: int,
) -> int:
    """For kernels whose overlayfs wants one option string of at most a page: short relative names keep it short."""

    def mount_there() -> tuple[int, ...]:
        linux.mount("tmpfs", ATTACH_POINT, "tmpfs", 0, "mode=755")
        os.chdir(ATTACH_POINT)
        for name, fd in [*((format(i, "x"), fd) for i, fd in enumerate(lowers)), ("t", top)]:
            os.mkdir(name)
            attach(fd, name)
        os.mkdir("m")
        words = [key if value is None else f"{key}={value}" for key, value in options]
        names = ":".join(format(i, "x") for i in range(len(lowers)))
        data = ",".join([f"lowerdir={names}", "upperdir=t/up", "workdir=t/wk", *words])
        flags = linux.MS_NOSUID if attributes & linux.MOUNT_ATTR_NOSUID else 0
        if ids is None:
            linux.mount("overlay", "m", "overlay", flags, data)
        else:
            with linux.filesystem_ids(ids.base, ids.base):
                linux.mount("overlay", "m", "overlay", flags, data)
        return (clone_tree("m"),)

    return in_private_mount_namespace(mount_there)[0]


@contextmanager
def _kernel_messages(context: int) -> Iterator[None]:
    """Add what the file system wrote to its context to an error: errno alone never says which option."""
    try:
        yield
    except OSError as error:
        messages = []
        try:
            while message := os.read(context, 4096):
                messages.append(message.decode(errors="replace").strip())
        except OSError:
            pass  # ENODATA: nothing (more) was written
        if not messages:
            raise
        raise OSError(error.errno, f"{error.strerror}: {'; '.join(messages)}") from error
