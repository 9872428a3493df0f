"""The system calls that Python's `os` lacks, typed; each raises `OSError` with the call and its object named.

Everything here is a thin door to the kernel (man 2 pages); what to do with the calls is decided in `mount`,
`slot`, `cgroup` and `sandbox`. Standard library only: the supervisor imports it.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

CLONE_NEWNS = 0x20000
CLONE_NEWCGROUP = 0x2000000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 1
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 1, 2, 4
MOUNT_ATTR_IDMAP = 0x100000
RESOLVE_NO_MAGICLINKS, RESOLVE_IN_ROOT = 2, 0x10

FSCONFIG_SET_FLAG, FSCONFIG_SET_STRING, FSCONFIG_SET_FD, FSCONFIG_CMD_CREATE = 0, 1, 5, 6
FSOPEN_CLOEXEC = FSMOUNT_CLOEXEC = 1

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 4, 22, 24
PR_GET_SECUREBITS, PR_SET_SECUREBITS, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 27, 28, 36, 38
SECCOMP_MODE_FILTER = 2
SECBIT_NO_SETUID_FIXUP = 1 << 2

# The same number on every architecture: all are younger than the unified table (424 and up).
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 428, 429, 430, 431, 432
_SYS_OPENAT2, _SYS_PIDFD_GETFD, _SYS_MOUNT_SETATTR = 437, 438, 442
_OPEN_TRIES = 1000
_SYS_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}

_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _SockFprog(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _checked(result: int, call: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return result


def _syscall(call: str, number: int, *arguments: object) -> int:
    return _checked(int(_libc.syscall(ctypes.c_long(number), *arguments)), call)


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def open_tree(path: str, *, dir_fd: int = AT_FDCWD, recursive: bool = False) -> int:
    """A detached copy of the mount that shows *path*, with *path* as its root; `""` means *dir_fd* itself."""
    flags = OPEN_TREE_CLONE | os.O_CLOEXEC | (AT_RECURSIVE if recursive else 0)
    if not path:
        flags |= AT_EMPTY_PATH
    return _syscall(
        f"open_tree({path or f'descriptor {dir_fd}'})",
        _SYS_OPEN_TREE,
        ctypes.c_int(dir_fd),
        os.fsencode(path),
        ctypes.c_uint(flags),
    )


def mount_setattr(
    fd: int, *, attr_set: int = 0, attr_clr: int = 0, userns_fd: int = 0, recursive: bool = False
) -> None:
    """Change a mount's flags, or give it the id mapping of *userns_fd* (`MOUNT_ATTR_IDMAP`)."""
    attr = _MountAttr(attr_set, attr_clr, 0, userns_fd)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    _syscall(
        "mount_setattr",
        _SYS_MOUNT_SETATTR,
        ctypes.c_int(fd),
        b"",
        ctypes.c_uint(flags),
        ctypes.byref(attr),
        ctypes.c_size_t(ctypes.sizeof(attr)),
    )


def move_mount(fd: int, path: str, *, dir_fd: int = AT_FDCWD) -> None:
    """Attach a detached mount at *path*; `""` means the place that *dir_fd* is open on."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | (0 if path else MOVE_MOUNT_T_EMPTY_PATH)
    _syscall(
        f"move_mount({path or f'descriptor {dir_fd}'})",
        _SYS_MOVE_MOUNT,
        ctypes.c_int(fd),
        b"",
        ctypes.c_int(dir_fd),
        os.fsencode(path),
        ctypes.c_uint(flags),
    )


def fsopen(filesystem: str) -> int:
    """A configuration context for a new file system."""
    return _syscall(
        f"fsopen({filesystem})", _SYS_FSOPEN, os.fsencode(filesystem), ctypes.c_uint(FSOPEN_CLOEXEC)
    )


def fsconfig(
    context: int, command: int, key: str | None = None, value: str | None = None, aux: int = 0
) -> None:
    """Set one option of a context, or run a command on it."""
    _syscall(
        f"fsconfig({key or 'create'}{f'={value}' if value is not None else ''})",
        _SYS_FSCONFIG,
        ctypes.c_int(context),
        ctypes.c_uint(command),
        _bytes(key),
        _bytes(value),
        ctypes.c_int(aux),
    )


def fsmount(context: int, attributes: int = 0) -> int:
    """A detached mount of the created file system."""
    return _syscall(
        "fsmount",
        _SYS_FSMOUNT,
        ctypes.c_int(context),
        ctypes.c_uint(FSMOUNT_CLOEXEC),
        ctypes.c_uint(attributes),
    )


def openat2(dir_fd: int, path: str, flags: int, *, mode: int = 0, resolve: int = 0) -> int:
    """Open *path* below *dir_fd* under the `RESOLVE_…` rules; the descriptor is close-on-exec."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    number = errno.EAGAIN
    # EAGAIN: something on the machine was renamed or mounted while ".." was followed (openat2(2)).
    for _ in range(_OPEN_TRIES):
        result = int(
            _libc.syscall(
                ctypes.c_long(_SYS_OPENAT2),
                ctypes.c_int(dir_fd),
                os.fsencode(path),
                ctypes.byref(how),
                ctypes.c_size_t(ctypes.sizeof(how)),
            )
        )
        if result >= 0:
            return result
        number = ctypes.get_errno()
        if number != errno.EAGAIN:
            break
    raise OSError(number, os.strerror(number), path)


def mount(
    source: str | None, target: str, filesystem: str | None, flags: int = 0, data: str | None = None
) -> None:
    """mount(2)."""
    result = _libc.mount(
        _bytes(source), _bytes(target), _bytes(filesystem), ctypes.c_ulong(flags), _bytes(data)
    )
    _checked(result, f"mount({filesystem or source} on {target}, {data or 'no options'})")


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _checked(_libc.umount2(_bytes(target), ctypes.c_int(flags)), f"umount({target})")


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    _checked(_libc.pivot_root(_bytes(new_root), _bytes(put_old)), f"pivot_root({new_root})")


def unshare(flags: int) -> None:
    """unshare(2)."""
    _checked(_libc.unshare(ctypes.c_int(flags)), f"unshare({flags:#x})")


def setns(fd: int, kind: int) -> None:
    """setns(2); *kind* is the `CLONE_NEW…` flag that the descriptor must match."""
    _checked(_libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)), f"setns({kind:#x})")


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """A copy of another process's descriptor, closed on exec."""
    return _syscall(
        f"pidfd_getfd({fd})",
        _SYS_PIDFD_GETFD,
        ctypes.c_int(pidfd),
        ctypes.c_int(fd),
        ctypes.c_uint(0),
    )


def prctl(option: int, value: int = 0) -> int:
    """prctl(2) with one numeric argument."""
    zero = ctypes.c_ulong(0)
    result = _libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero)
    return _checked(result, f"prctl({option})")


def set_capabilities(capabilities: frozenset[int]) -> None:
    """Make *capabilities* the effective and the permitted set of this thread; inheritable becomes empty."""
    low = sum(1 << number for number in capabilities if number < 32)
    high = sum(1 << (number - 32) for number in capabilities if number >= 32)
    data = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    header = _CapHeader(0x20080522, 0)  # version 3: 64 bits in two words
    _checked(_libc.capset(ctypes.byref(header), ctypes.byref(data)), "capset")


def drop_bounding_set(keep: frozenset[int]) -> None:
    """Remove every capability but *keep* from the bounding set. Entering a user namespace refills it."""
    for number in range(_last_capability() + 1):
        if number not in keep:
            prctl(PR_CAPBSET_DROP, number)


def _last_capability() -> int:
    """The highest capability the kernel knows: asked by prctl, since /proc may belong to somebody else."""
    zero = ctypes.c_ulong(0)
    number = 63
    while number and _libc.prctl(ctypes.c_int(23), ctypes.c_ulong(number), zero, zero, zero) < 0:
        number -= 1
    return number


def install_seccomp(program: bytes) -> None:
    """Filter the system calls of this thread and of all it starts, for ever. Needs no_new_privs or SYS_ADMIN."""
    buffer = ctypes.create_string_buffer(program, len(program))
    prog = _SockFprog(len(program) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    zero = ctypes.c_ulong(0)
    result = _libc.prctl(
        ctypes.c_int(PR_SET_SECCOMP),
        ctypes.c_ulong(SECCOMP_MODE_FILTER),
        ctypes.byref(prog),
        zero,
        zero,
    )
    _checked(result, "prctl(PR_SET_SECCOMP)")


def set_idle_io() -> None:
    """Put this process and all it starts into the idle I/O class (ioprio_set(2)); unknown machines do nothing."""
    number = _SYS_IOPRIO_SET.get(os.uname().machine)
    if number is not None:
        idle_class = 3 << 13
        _syscall("ioprio_set", number, ctypes.c_int(1), ctypes.c_int(0), ctypes.c_int(idle_class))


@contextmanager
def filesystem_ids(uid: int, gid: int) -> Iterator[None]:
    """Within the block this *thread* makes files as *uid* and *gid*, keeping its capabilities.

    Only for host root: a file system seen through an idmapped mount has no place for the host's uid 0
    (`EOVERFLOW`, or an overlay that is silently read-only when it was mounted so).
    """
    before = prctl(PR_GET_SECUREBITS)
    prctl(PR_SET_SECUREBITS, before | SECBIT_NO_SETUID_FIXUP)
    old_gid = int(_libc.setfsgid(ctypes.c_uint32(gid)))
    old_uid = int(_libc.setfsuid(ctypes.c_uint32(uid)))
    try:
        yield
    finally:
        _libc.setfsuid(ctypes.c_uint32(old_uid))
        _libc.setfsgid(ctypes.c_uint32(old_gid))
        prctl(PR_SET_SECUREBITS, before)
