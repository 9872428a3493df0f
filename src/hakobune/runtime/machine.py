"""What this machine is and has, as facts: nothing is judged here (`capabilities` does) and nothing is changed.

The kernel is asked by trying: a slot is made and an overlay mounted, in a scratch folder, and both are gone
afterwards. A version number alone says nothing of a container's or a distribution's restrictions.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hakobune.errors import HakoError
from hakobune.runtime import mount
from hakobune.runtime.cgroups import Cgroups
from hakobune.runtime.emulation import emulated_architectures, read_handlers
from hakobune.runtime.mount import RootFs
from hakobune.runtime.process import read_stat
from hakobune.runtime.slot import make_slot, take_range
from hakobune.runtime.sockets import listening_sockets
from hakobune.runtime.supervisor_client import SupervisorClient
from hakobune.settings import Settings

PROGRAMS = ("crun", "runc", "haproxy", "nft", "ip", "mmdebstrap", "unshare", "setpriv", "iptables")
DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
GROUP = "hakobune"
_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_VERSION_FLAGS = {"haproxy": "-v", "ip": "-V"}
_CAP_NET_ADMIN, _CAP_SYS_ADMIN = 12, 21
_SECCOMP_ACTIONS = Path("/proc/sys/kernel/seccomp/actions_avail")


@dataclass(frozen=True, slots=True)
class Program:
    """A program that was found; *version* is empty if it does not tell."""

    path: str
    version: str


@dataclass(frozen=True, slots=True)
class PortOwner:
    """Who listens on a port that we want; a pid of `None` is somebody we may not see."""

    port: int
    pid: int | None
    command: str
    ours: bool


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """A process of ours, and what of its memory it does not share (proportionally: Pss)."""

    name: str
    pid: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The facts. An `…_error` is empty where the thing was tried and works."""

    uid: int
    is_admin: bool
    user_namespaces: int
    kernel: str
    architecture: str
    python: tuple[int, int, int]
    slot_error: str
    overlay_error: str
    cgroup_controllers: Mapping[str, int]
    has_cgroup2: bool
    seccomp_actions: frozenset[str]
    programs: Mapping[str, Program]
    has_debian_keyring: bool
    has_group: bool
    free_bytes: int
    port_owners: tuple[PortOwner, ...]
    localhost_names: bool
    forward_listing: str
    bridge: str
    supervisor: tuple[ProcessMemory, ...]
    emulated: tuple[str, ...] = ()


def read_machine(settings: Settings) -> Machine:
    """Look at everything once; takes some tens of milliseconds."""
    place = _existing(settings.home)
    slot_error, overlay_error = _try_kernel(settings.installation, place)
    bridge, processes = _supervisor(settings)
    controllers, has_cgroup2 = _cgroups(settings.installation)
    programs = {name: found for name in PROGRAMS if (found := _find_program(name))}
    return Machine(
        uid=os.geteuid(),
        is_admin=_has_capabilities(_CAP_SYS_ADMIN, _CAP_NET_ADMIN),
        user_namespaces=_number("/proc/sys/user/max_user_namespaces"),
        kernel=os.uname().release,
        architecture=os.uname().machine,
        python=sys.version_info[:3],
        slot_error=slot_error,
        overlay_error=overlay_error,
        cgroup_controllers=controllers,
        has_cgroup2=has_cgroup2,
        seccomp_actions=frozenset(_text(_SECCOMP_ACTIONS).split()),
        programs=programs,
        has_debian_keyring=DEBIAN_KEYRING.exists(),
        has_group=_has_group(),
        free_bytes=_free_bytes(place),
        port_owners=_port_owners(settings, {p.pid for p in processes}),
        localhost_names=_resolves("hako-doctor.localhost"),
        forward_listing=_forward_listing(programs.get("iptables")),
        bridge=bridge,
        supervisor=processes,
        emulated=emulated_architectures(read_handlers()),
    )


def version_of(text: str) -> str:
    """The first thing in a program's answer that looks like a version: `2.6.12` of `HAProxy version 2.6.12-1+deb12u4`."""
    found = re.search(r"\d+(?:\.\d+)+", text)
    return found.group() if found else ""


def descendants(pid: int, parents: Mapping[int, int]) -> frozenset[int]:
    """*pid* and all that it and its children started; *parents* has every process's parent."""
    family = {pid}
    for candidate in parents:
        chain, current = [], candidate
        while current and current not in family and current not in chain:
            chain.append(current)
            current = parents.get(current, 0)
        if current in family:
            family.update(chain)
    return frozenset(family)


def _existing(path: Path) -> Path:
    return next(p for p in (path, *path.parents) if os.path.isdir(p))


def _try_kernel(installation: str, place: Path) -> tuple[str, str]:
    """What a slot says, and what an overlay in its range says; the second is not tried after the first failed."""
    try:
        held = take_range(installation, ephemeral=True)
    except HakoError as error:
        return error.what, error.what
    try:
        with make_slot(held.ids) as slot:
            try:
                with tempfile.TemporaryDirectory(prefix=".hako-doctor-", dir=place) as name:
                    lower = Path(name, "lower")
                    lower.mkdir()
                    os.close(mount.overlay(RootFs(lowers=(lower,), top=Path(name, "top")), slot))
            except OSError as error:
                return "", error.strerror or str(error)
    except OSError as error:
        return error.strerror or str(error), "no user namespace to try it in"
    finally:
        held.release()
    return "", ""


def _cgroups(installation: str) -> tuple[Mapping[str, int], bool]:
    """The controllers with their versions, and whether there is a version 2 tree."""
    try:
        with contextlib.closing(Cgroups.open(installation)) as cgroups:
            return dict(cgroups.controllers), cgroups.v2 is not None
    except OSError:
        return {}, False


def _has_capabilities(*numbers: int) -> bool:
    for line in _text(Path("/proc/self/status")).splitlines():
        if line.startswith("CapEff:"):
            held = int(line.split()[1], 16)
            return all(held >> number & 1 for number in numbers)
    return False


def _find_program(name: str) -> Program | None:
    path = shutil.which(name) or shutil.which(name, path=_SEARCH_PATH)
    if path is None:
        return None
    flag = _VERSION_FLAGS.get(name, "--version")
    try:
        answer = subprocess.run([path, flag], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return Program(path, "")
    return Program(path, version_of(answer.stdout or answer.stderr))


def _free_bytes(place: Path) -> int:
    status = os.statvfs(place)
    return status.f_bavail * status.f_frsize


def _port_owners(settings: Settings, ours: Iterable[int]) -> tuple[PortOwner, ...]:
    wanted = {settings.port, *range(settings.first_service_port, settings.last_service_port + 1)}
    parents = _parents()
    family = frozenset().union(*(descendants(pid, parents) for pid in ours))
    found = {
        held.port: PortOwner(held.port, held.pid, held.command, ours=held.pid in family)
        for held in listening_sockets(os.getpid(), parents)
        if held.port in wanted
    }
    return tuple(found[port] for port in sorted(found))


def _parents() -> dict[int, int]:
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    return {pid: stat.parent for pid in pids if (stat := read_stat(pid)) is not None}


def _resolves(name: str) -> bool:
    try:
        found = socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return all(address[4][0] in ("127.0.0.1", "::1") for address in found)


def _forward_listing(iptables: Program | None) -> str:
    """`iptables -S`, or nothing where nobody uses it or we may not look."""
    if iptables is None:
        return ""
    try:
        answer = subprocess.run(
            [iptables.path, "-w", "2", "-S"], capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout


def _supervisor(settings: Settings) -> tuple[str, tuple[ProcessMemory, ...]]:
    """Its bridge and its processes: itself and the programs it keeps running, not the containers."""
    try:
        with SupervisorClient(settings.supervisor_socket, timeout_s=2.0) as client:
            hello = client.hello()
            roots = {"supervisor": int(hello["pid"])}
            roots |= {p.name: p.pid for p in client.programs() if p.running and p.pid}
    except HakoError:
        return "", ()
    parents = _parents()
    parents.pop(roots["supervisor"], None)
    found = [ProcessMemory("supervisor", roots["supervisor"], _pss(roots["supervisor"]))]
    for name, pid in roots.items():
        if name != "supervisor":
            family = descendants(pid, parents)
            found.append(ProcessMemory(name, pid, sum(_pss(member) for member in family)))
    return str(hello.get("bridge", "")), tuple(found)


def _pss(pid: int) -> int:
    for line in _text(Path(f"/proc/{pid}/smaps_rollup")).splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _has_group() -> bool:
    with contextlib.suppress(KeyError):
        return bool(grp.getgrnam(GROUP))
    return False


def _number(path: str) -> int:
    text = _text(Path(path)).strip()
    return int(text) if text.isdecimal() else 0


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EACCES, errno.EPERM, errno.ESRCH):
            return ""
        raise
