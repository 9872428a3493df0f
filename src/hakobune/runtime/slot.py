"""Id ranges and slots: a user namespace and a network namespace made *together*, before anything runs in them.

The network namespace must be owned by the user namespace, or root inside can neither mount sysfs nor bind
a low port (and crun then silently shows the host's /sys). Nothing is pinned: a slot is two descriptors.

Ranges need no file. All installations of a machine share one space of ranges and a range is held by an
abstract unix socket named after it, so the kernel forgets it with its holder.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import struct
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from hakobune.errors import HakoError
from hakobune.runtime import linux

RANGE_SIZE = 65536
# 0x70000000-0x7ffdffff belongs to nobody: not to users, /etc/subuid, systemd-nspawn or DynamicUser=
# (systemd.io/UIDS-GIDS), and stays below 2^31, which some programs take for negative.
FIRST_BASE = 0x70000000
RANGES = 4094
# Ranges of processes that die with their owner come first: there a held socket is the whole truth. A
# container outlives its supervisor, so containers have the rest, and what lives is asked of the kernel.
EPHEMERAL_RANGES = 1024

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


@dataclass(frozen=True, slots=True)
class IdRange:
    """Host ids `base` … `base + size - 1`, seen inside as 0 … `size - 1`."""

    base: int
    size: int = RANGE_SIZE


@dataclass(slots=True)
class HeldRange:
    """A range that no other installation and no other process can take until it is released."""

    ids: IdRange
    _holder: socket.socket

    def release(self) -> None:
        """Let others have the range. Doing it twice is harmless."""
        self._holder.close()


class NoIdRangeError(HakoError):
    """Every range of the machine is in use."""


def candidate_ranges(installation: str, *, ephemeral: bool) -> Iterator[IdRange]:
    """All ranges of a kind, starting where this installation starts: two installations rarely meet."""
    first, count = (
        (0, EPHEMERAL_RANGES) if ephemeral else (EPHEMERAL_RANGES, RANGES - EPHEMERAL_RANGES)
    )
    start = int.from_bytes(hashlib.sha256(installation.encode()).digest()[:8], "big") % count
    for step in range(count):
        yield IdRange(FIRST_BASE + RANGE_SIZE * (first + (start + step) % count))


def take_range(
    installation: str, *, ephemeral: bool = False, avoid: Collection[int] = ()
) -> HeldRange:
    """A free range, held until `release` or the end of this process.

    Args:
        ephemeral: for processes that die with the caller (build sandboxes).
        avoid: bases that containers of an earlier holder may still use (`bases_in_use`).

    Raises:
        NoIdRangeError: all are taken.
    """
    for ids in candidate_ranges(installation, ephemeral=ephemeral):
        if ids.base not in avoid and (held := hold_range(ids)) is not None:
            return held
    raise NoIdRangeError(
        "no id range is free for another container",
        why=f"all {RANGES} ranges of {RANGE_SIZE} ids from {FIRST_BASE} are in use",
        fix="stop containers that are no longer needed",
    )


def hold_range(ids: IdRange) -> HeldRange | None:
    """Take this very range (an adopted container's), or `None` if somebody holds it."""
    holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        holder.bind(f"\0hakobune-ids-{ids.base}")
    except OSError:
        holder.close()
        return None
    return HeldRange(ids, holder)


def bases_in_use() -> frozenset[int]:
    """The bases of our ranges that some living process is in, whoever started it (a walk over /proc)."""
    bases = set()
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/uid_map", encoding="ascii") as file:
                fields = file.read().split()
        except OSError:
            continue  # it has ended
        if len(fields) >= 2 and FIRST_BASE <= int(fields[1]) < FIRST_BASE + RANGES * RANGE_SIZE:
            bases.add(int(fields[1]))
    return frozenset(bases)


@dataclass(slots=True)
class Slot:
    """A user namespace and the network namespace that it owns; loopback is up. Close it or leave it to the process.

    Inside, any id may bind any port and send pings: there is nobody else in this network.
    """

    userns_fd: int
    netns_fd: int
    ids: IdRange
    _closed: bool = field(default=False, repr=False)

    @property
    def base(self) -> int:
        """The host's id of the slot's root."""
        return self.ids.base

    def close(self) -> None:
        """Give the namespaces up; they live on while processes are in them."""
        if not self._closed:
            self._closed = True
            os.close(self.userns_fd)
            os.close(self.netns_fd)

    def __enter__(self) -> Slot:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def make_slot(ids: IdRange) -> Slot:
    """Make both namespaces.

    Raises:
        OSError: the kernel refuses; the step is named.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        child = os.fork()
        if child == 0:
            ours.close()  # else the child never sees that the parent is done
            _hold_namespaces(theirs)
        theirs.close()
        try:
            _expect(ours)
            for kind in ("uid", "gid"):
                with open(f"/proc/{child}/{kind}_map", "w", encoding="ascii") as file:
                    file.write(f"0 {ids.base} {ids.size}")
            ours.send(b"mapped")
            _expect(ours)
            userns_fd = os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            try:
                netns_fd = os.open(f"/proc/{child}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                os.close(userns_fd)
                raise
        finally:
            with suppress(OSError):
                # Said, not shown by closing: a child that another thread has forked meanwhile holds a copy of `ours`.
                ours.send(b"done")
            ours.close()
            os.waitpid(child, 0)
    return Slot(userns_fd, netns_fd, ids)


def _hold_namespaces(peer: socket.socket) -> None:
    """In the child: make the namespaces, keep them while the parent opens them. Does not return."""
    try:
        linux.prctl(linux.PR_SET_PDEATHSIG, 9)
        linux.unshare(linux.CLONE_NEWUSER)
        peer.send(b"ok")
        if peer.recv(16) == b"mapped":
            linux.unshare(linux.CLONE_NEWNET)
            prepare_network_namespace()
            peer.send(b"ok")
            peer.recv(16)
    except OSError as error:
        peer.send(f"{error.errno or 0} {error.strerror}".encode())
    finally:
        os._exit(0)


def prepare_network_namespace() -> None:
    """In a fresh network namespace of ours: loopback up, every port and ping for every id of the range."""
    set_interface_up("lo")
    for name, value in (
        ("ipv4/ip_unprivileged_port_start", b"0"),
        ("ipv4/ping_group_range", b"0 %d" % (RANGE_SIZE - 1)),
    ):
        # As bytes: a codec is a module, and another thread may have been importing it when this process was forked.
        with open(f"/proc/sys/net/{name}", "wb", buffering=0) as file:
            file.write(value)


def set_interface_up(name: str) -> None:
    """Bring an interface of the current network namespace up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", name.encode(), 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(control, _SIOCGIFFLAGS, request), 16)
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", name.encode(), flags | _IFF_UP))


def _expect(peer: socket.socket) -> None:
    message = peer.recv(4096)
    if message != b"ok":
        number, _, text = message.decode(errors="replace").partition(" ")
        raise OSError(int(number or 5), text or "the process that makes the namespaces died")
