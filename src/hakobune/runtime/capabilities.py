"""What this machine allows and what it lacks: every requirement, judged over `machine`'s facts.

All of it but `probe` is pure: facts in, findings out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from hakobune.oci.platform import Platform
from hakobune.runtime import mount_method
from hakobune.runtime.emulation import how_to_emulate
from hakobune.runtime.firewall import choose_forward_chain, missing_docker_rules
from hakobune.runtime.machine import DEBIAN_KEYRING, GROUP, Machine, Program, read_machine
from hakobune.runtime.seccomp import MACHINES
from hakobune.settings import Settings

OLDEST_KERNEL = (5, 19)  # idmapped layers under overlayfs
OLDEST_PYTHON = (3, 11)
ENOUGH_BYTES = 5 << 30  # base images, a builder, a few applications and their caches
_MINIMUM = {"crun": (1, 8), "runc": (1, 1), "haproxy": (2, 6)}


class State(StrEnum):
    """What was found of one requirement."""

    FOUND = "found"
    MISSING = "missing"
    WITHOUT = "without"  # missing too, but everything works; the reason says what is less


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One requirement: what is there, what it is needed for, and an act that provides it."""

    name: str
    state: State
    detail: str
    why: str
    fix: str = ""


def probe(settings: Settings) -> tuple[Finding, ...]:
    """Look at the machine as this process, with its rights, sees it."""
    return judge(read_machine(settings), settings)


def judge(machine: Machine, settings: Settings) -> tuple[Finding, ...]:
    """Every requirement in the order in which one would provide them."""
    return (
        _root(machine),
        _kernel(machine),
        _user_namespaces(machine),
        _layers(machine),
        *_cgroups(machine),
        _seccomp(machine),
        _python(machine),
        _oci_runtime(machine, settings),
        _haproxy(machine),
        *_tools(machine),
        _keyring(machine),
        _disk(machine, settings),
        _listen(machine, settings),
        _service_ports(machine, settings),
        _localhost_names(machine, settings),
        _forwarding(machine),
        _emulation(machine),
        _group(machine),
        _supervisor(machine),
    )


def is_ready(findings: tuple[Finding, ...]) -> bool:
    """Whether everything that is needed is there."""
    return all(finding.state is not State.MISSING for finding in findings)


def _root(machine: Machine) -> Finding:
    name, why = "root", "mounts, namespaces and networks of containers are made by host root"
    if machine.uid == 0 and machine.is_admin:
        return Finding(name=name, state=State.FOUND, detail="uid 0 with SYS_ADMIN", why=why)
    if machine.uid == 0:
        detail, fix = (
            "uid 0, but without SYS_ADMIN or NET_ADMIN",
            "run it on the machine itself, or in a container with --privileged",
        )
    else:
        detail, fix = f"uid {machine.uid}", "sudo hako doctor"
    return Finding(name=name, state=State.MISSING, detail=detail, why=why, fix=fix)


def _kernel(machine: Machine) -> Finding:
    version = mount_method.kernel_version(machine.kernel)
    method = mount_method.choose_overlay_method(version)
    good = version >= OLDEST_KERNEL
    return Finding(
        name="kernel",
        state=State.FOUND if good else State.MISSING,
        detail=f"{machine.kernel} (overlay layers by {method.name.lower()})",
        why="layers are shifted to a container's ids by idmapped mounts under overlayfs: Linux 5.19",
        fix="" if good else "install a kernel of 5.19 or newer (Debian 12 has 6.1)",
    )


def _user_namespaces(machine: Machine) -> Finding:
    name, why = "user namespaces", "root in a container is nobody on the host"
    if not machine.slot_error:
        return Finding(
            name=name,
            state=State.FOUND,
            detail=f"tried; at most {machine.user_namespaces}",
            why=why,
        )
    fix = (
        "sysctl -w user.max_user_namespaces=10000"
        if not machine.user_namespaces
        else "allow this process to make them (root, no seccomp filter that refuses unshare)"
    )
    return Finding(name=name, state=State.MISSING, detail=machine.slot_error, why=why, fix=fix)


def _layers(machine: Machine) -> Finding:
    good = not machine.overlay_error
    return Finding(
        name="idmapped overlay",
        state=State.FOUND if good else State.MISSING,
        detail="tried below HAKO_HOME" if good else machine.overlay_error,
        why="images are mounted as they lie on disk, shared by all containers",
        fix=""
        if good
        else "put HAKO_HOME on a file system that can be a layer (ext4, xfs, btrfs; not another overlay or NFS)",
    )


def _cgroups(machine: Machine) -> Iterator[Finding]:
    versions = set(machine.cgroup_controllers.values())
    kind = {frozenset({1, 2}): "mixed", frozenset({1}): "version 1", frozenset({2}): "version 2"}
    label = kind.get(frozenset(versions), "no controllers")
    if versions == {1} and machine.has_cgroup2:
        label = "version 1 with an empty version 2 (hybrid)"
    yield Finding(
        name="cgroup 2 tree",
        state=State.FOUND if machine.has_cgroup2 else State.WITHOUT,
        detail=label,
        why="idle instances are frozen and ended by it; without it by SIGSTOP and SIGKILL",
        fix="" if machine.has_cgroup2 else "mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified",
    )
    for controller in ("memory", "cpu", "pids"):
        version = machine.cgroup_controllers.get(controller)
        yield Finding(
            name=f"cgroup {controller}",
            state=State.FOUND if version else State.WITHOUT,
            detail=f"version {version}" if version else "no such controller",
            why=f"without it a service's {controller} limit has no effect",
            fix=""
            if version
            else f"enable it: kernel option cgroup_enable={controller}, or Delegate=yes in the systemd unit",
        )


def _seccomp(machine: Machine) -> Finding:
    known = machine.architecture in MACHINES
    good = known and "errno" in machine.seccomp_actions
    detail = "filters of system calls" if machine.seccomp_actions else "this kernel has no filters"
    if not known:
        detail = f"no table of system calls for {machine.architecture}"
    return Finding(
        name="seccomp",
        state=State.FOUND if good else State.WITHOUT if not known else State.MISSING,
        detail=detail,
        why="containers and builds may only call what programs need, not what makes namespaces or mounts",
        fix="" if good or not known else "a kernel with CONFIG_SECCOMP_FILTER",
    )


def _python(machine: Machine) -> Finding:
    good = machine.python >= OLDEST_PYTHON
    return Finding(
        name="python",
        state=State.FOUND if good else State.MISSING,
        detail=".".join(map(str, machine.python)),
        why="hakobune is written for 3.11",
        fix="" if good else "install python 3.11 or newer",
    )


def _oci_runtime(machine: Machine, settings: Settings) -> Finding:
    if settings.runtime != "crun":
        why = "it starts service instances and containers (HAKO_RUNTIME); crun does so four times faster"
        return _program(machine, settings.runtime, why)
    hybrid = 1 in machine.cgroup_controllers.values() and machine.has_cgroup2
    note = "; it runs in a cgroup view of its own, since it refuses hybrid ones" if hybrid else ""
    return _program(machine, "crun", "it starts service instances and containers", note=note)


def _haproxy(machine: Machine) -> Finding:
    return _program(machine, "haproxy", "it carries every request to an instance")


def _tools(machine: Machine) -> Iterator[Finding]:
    yield _program(
        machine, "nft", "the network of containers: masquerade, isolation", package="nftables"
    )
    yield _program(
        machine,
        "ip",
        "people look at networks with it; hakobune itself speaks netlink",
        package="iproute2",
        needed=False,
    )
    yield _program(machine, "mmdebstrap", "it makes the base images from Debian packages")
    for name in ("unshare", "setpriv"):
        yield _program(machine, name, "base images are made in namespaces", package="util-linux")


def _program(
    machine: Machine, name: str, why: str, *, package: str = "", needed: bool = True, note: str = ""
) -> Finding:
    program = machine.programs.get(name)
    minimum = _MINIMUM.get(name)
    install = f"apt-get install -y {package or name}"
    absent = State.MISSING if needed else State.WITHOUT
    if program is None:
        return Finding(name=name, state=absent, detail="not installed", why=why, fix=install)
    detail = f"{program.version or 'no version told'} ({program.path}){note}"
    if minimum and is_older(program, minimum):
        wanted = ".".join(map(str, minimum))
        return Finding(
            name=name,
            state=State.MISSING,
            detail=detail,
            why=f"{why}; {wanted} is the oldest that was tried",
            fix=f"install {name} {wanted} or newer",
        )
    return Finding(name=name, state=State.FOUND, detail=detail, why=why)


def is_older(program: Program, minimum: tuple[int, ...]) -> bool:
    """Whether the program says a version below *minimum*; one that says none is trusted."""
    if not program.version:
        return False
    return tuple(int(part) for part in program.version.split(".")) < minimum


def _keyring(machine: Machine) -> Finding:
    return Finding(
        name="debian keyring",
        state=State.FOUND if machine.has_debian_keyring else State.MISSING,
        detail=str(DEBIAN_KEYRING) if machine.has_debian_keyring else "not installed",
        why="the packages of base images are verified with it",
        fix="" if machine.has_debian_keyring else "apt-get install -y debian-archive-keyring",
    )


def _disk(machine: Machine, settings: Settings) -> Finding:
    good = machine.free_bytes >= ENOUGH_BYTES
    return Finding(
        name="disk",
        state=State.FOUND if good else State.MISSING,
        detail=f"{in_words(machine.free_bytes)} free for {settings.home}",
        why=f"base images, builds and their caches need {in_words(ENOUGH_BYTES)}",
        fix="" if good else "free some space, or let HAKO_HOME name a folder on a larger disk",
    )


def _listen(machine: Machine, settings: Settings) -> Finding:
    owner = next((o for o in machine.port_owners if o.port == settings.port), None)
    name, why = "port", "services, their APIs and the registry answer there (HAKO_LISTEN)"
    if owner is None or owner.ours:
        detail = f"{settings.port} is {'ours' if owner else 'free'}"
        return Finding(name=name, state=State.FOUND, detail=detail, why=why)
    who = f"{owner.command or 'a process'} (pid {owner.pid})" if owner.pid else "another user"
    return Finding(
        name=name,
        state=State.MISSING,
        detail=f"{settings.port} is used by {who}",
        why=why,
        fix=f"end it, or choose another: HAKO_LISTEN={settings.host}:{settings.port + 1}",
    )


def _service_ports(machine: Machine, settings: Settings) -> Finding:
    first, last = settings.first_service_port, settings.last_service_port
    taken = sorted(o.port for o in machine.port_owners if not o.ours and first <= o.port <= last)
    why = "each service gets one of them for good (HAKO_PORTS); those of others are left out"
    if len(taken) <= last - first:
        but = f" but {', '.join(map(str, taken))}" if taken else ""
        detail = f"{first}-{last}{but}"
        return Finding(name="service ports", state=State.FOUND, detail=detail, why=why)
    return Finding(
        name="service ports",
        state=State.MISSING,
        detail=f"all of {first}-{last} are used by others",
        why=why,
        fix="HAKO_PORTS=FIRST-LAST with ports that are free",
    )


def _localhost_names(machine: Machine, settings: Settings) -> Finding:
    good = machine.localhost_names
    return Finding(
        name="*.localhost",
        state=State.FOUND if good else State.WITHOUT,
        detail="resolves to this machine" if good else "does not resolve here",
        why=f"SERVICE.localhost:{settings.port} names a service; without it use the service's own port "
        "(browsers resolve such names themselves)",
        fix="" if good else "apt-get install -y libnss-myhostname",
    )


def _forwarding(machine: Machine) -> Finding:
    chain = choose_forward_chain(machine.forward_listing)
    name, why = "forwarding", "builds and instances reach the network through this machine"
    if chain is None:
        return Finding(name=name, state=State.FOUND, detail="nothing drops it", why=why)
    drops = f"docker or a firewall may drop it ({chain})"
    if not machine.bridge:
        detail = f"{drops}; two rules of ours let it pass when something runs"
        return Finding(name=name, state=State.FOUND, detail=detail, why=why)
    if not missing_docker_rules(machine.forward_listing, machine.bridge):
        detail = f"our two rules are in {chain}"
        return Finding(name=name, state=State.FOUND, detail=detail, why=why)
    return Finding(
        name=name,
        state=State.MISSING,
        detail=f"{drops}, and our rules for {machine.bridge} are not there",
        why=why,
        fix="hako serve --stop && hako serve",
    )


def _emulation(machine: Machine) -> Finding:
    other = next(a for a in ("arm64", "amd64") if not Platform.host().matches(Platform("linux", a)))
    return Finding(
        name="emulation",
        state=State.FOUND if machine.emulated else State.WITHOUT,
        detail=f"programs for {', '.join(machine.emulated)} run here, about ten times slower"
        if machine.emulated
        else "no other CPU's programs run here",
        why="--platform builds and runs images for other CPUs with it",
        fix="" if machine.emulated else how_to_emulate(Platform("linux", other)),
    )


def _group(machine: Machine) -> Finding:
    return Finding(
        name=f"group {GROUP}",
        state=State.FOUND if machine.has_group else State.WITHOUT,
        detail="exists" if machine.has_group else "does not exist",
        why="its members may use the API's socket, which is as good as being root; without it root alone may",
        fix="" if machine.has_group else f"groupadd --system {GROUP}",
    )


def _supervisor(machine: Machine) -> Finding:
    why = "it owns what outlives a command: instances, the controller, haproxy"
    if not machine.supervisor:
        return Finding(
            name="supervisor",
            state=State.WITHOUT,
            detail="does not run",
            why=f"{why}; the first `hako deploy` starts it",
            fix="hako serve",
        )
    each = ", ".join(f"{p.name} {in_words(p.bytes)} (pid {p.pid})" for p in machine.supervisor)
    total = in_words(sum(p.bytes for p in machine.supervisor))
    detail = f"runs; our own cost is {total} of memory: {each}"
    return Finding(name="supervisor", state=State.FOUND, detail=detail, why=why)


def in_words(size_bytes: int) -> str:
    """`41 MB`, `5.4 GB`: powers of 1000, as disks are sold."""
    if size_bytes >= 10**9:
        return f"{size_bytes / 10**9:.1f} GB"
    return f"{size_bytes / 10**6:.0f} MB"
