"""A container that belongs to the command that started it: it ends when the command does, however that ends.

crun has no death signal, so the container's whole tree lives in a pid namespace whose first process dies with us
(PR_SET_PDEATHSIG): command → keeper → init of that namespace → crun → the container.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from hakobune.runtime import linux
from hakobune.runtime.cgroup import Cgroup
from hakobune.runtime.cgroup_limits import Limits
from hakobune.runtime.cgroups import Cgroups, enter_clean_view
from hakobune.runtime.container import ContainerError, ContainerSpec, ContainerStatus, Phase
from hakobune.runtime.crun import Crun, explain_create_failure, hierarchies_of, open_runtime
from hakobune.runtime.foreground_record import claimed, write_foreground
from hakobune.runtime.forwarded import FORWARDED, PATIENCE
from hakobune.runtime.guest import guest_network
from hakobune.runtime.launch import (
    Mounts,
    attach_mounts,
    attach_place,
    make_mounts,
    restore_signals,
    small_files,
    spawn,
    write_bundle,
)
from hakobune.runtime.mount_namespace import make_mounts_private
from hakobune.runtime.network import Network
from hakobune.runtime.process import find_child, read_stat, split_status
from hakobune.runtime.published import forwarding, open_ports
from hakobune.runtime.relay import Relay
from hakobune.runtime.seccomp import compiled_filter
from hakobune.runtime.slot import IdRange, Slot, make_slot, take_range
from hakobune.runtime.streams import PlainStreams, Streams, TerminalStreams
from hakobune.settings import Settings


@dataclass(frozen=True, slots=True)
class Ended:
    """How it ended: the exit code (128+N after signal N), and whether it was killed for want of memory."""

    exit_code: int
    oom_killed: bool


@dataclass(slots=True)
class _Place:
    """What the processes of one foreground container share by inheritance."""

    spec: ContainerSpec
    folder: Path
    attach: str
    mounts: Mounts
    files: dict[str, str]
    group: Cgroup
    cgroups: Cgroups
    crun: Crun
    streams: Streams
    status: ContainerStatus


def run_foreground(
    spec: ContainerSpec,
    settings: Settings,
    *,
    stdin: int | None,
    stdout: int,
    stderr: int,
    terminal: bool = False,
    join: int | None = None,
) -> Ended:
    """Run a container with our own standard streams and wait for its end; our signals are forwarded to it.

    Args:
        stdin: what it may read; `None` is nothing.
        terminal: its streams are a terminal of its own, shown on *stdout*; *stderr* gets nothing then.
        join: the pid of a process whose network, and with it whose ids, it shares; it ends with that process.

    Raises:
        ContainerError: it cannot be made, or its program cannot be executed (by `kind`).
    """
    if os.geteuid() != 0:
        raise ContainerError(
            f"cannot start {spec.id}",
            why="containers need root on this machine",
            fix="run the command with sudo",
        )
    with ExitStack() as undo:
        settings.run.mkdir(parents=True, exist_ok=True)
        folder = undo.enter_context(claimed(settings, spec.id))
        opened = open_ports(spec.ports)
        undo.callback(opened.close)
        slot = undo.enter_context(_slot(settings, join))
        address, resolv_conf = undo.enter_context(_network(spec, settings, slot, join))
        undo.enter_context(forwarding(opened, address))
        cgroups = Cgroups.open(settings.installation, also=hierarchies_of(settings.runtime))
        group = undo.enter_context(_group(cgroups, spec))
        mounts = make_mounts(spec, slot)
        undo.callback(mounts.close)
        files = small_files(spec, address, resolv_conf)
        crun = open_runtime(settings.runtime, folder / "runtime")
        undo.callback(crun.close)
        attach = attach_place(settings.home)
        write_bundle(
            spec,
            folder,
            slot=slot,
            owner_pid=1,  # in the namespace where crun runs, and with our descriptors
            place=attach,
            files=files,
            seccomp=compiled_filter(os.uname().machine),
            terminal=terminal,
            adapt=lambda config: crun.adapt(config, slot.ids, group.path),
        )
        streams: Streams = undo.enter_context(
            TerminalStreams(stdin, stdout, folder / "terminal")
            if terminal
            else PlainStreams(stdin, stdout, stderr)
        )
        status = ContainerStatus(
            id=spec.id,
            phase=Phase.RUNNING,
            address=address,
            ports=opened.ports,
            labels=spec.labels,
            created_at=time.time(),
        )
        place = _Place(spec, folder, attach, mounts, files, group, cgroups, crun, streams, status)
        code, _ = split_status(_supervise(place, join))
        return Ended(code if code is not None else 137, group.oom_kills() > 0)


@contextmanager
def _slot(settings: Settings, join: int | None) -> Iterator[Slot]:
    """Namespaces of its own, or those of the process *join*."""
    if join is not None:
        with _slot_of(join) as slot:
            yield slot
        return
    ids = take_range(settings.installation, ephemeral=True)
    try:
        with make_slot(ids.ids) as slot:
            yield slot
    finally:
        ids.release()


def _slot_of(pid: int) -> Slot:
    base = int(Path(f"/proc/{pid}/uid_map").read_text().split()[1])
    userns = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    netns = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    return Slot(userns, netns, IdRange(base))


@contextmanager
def _network(
    spec: ContainerSpec, settings: Settings, slot: Slot, join: int | None
) -> Iterator[tuple[str | None, str]]:
    """Its address and the text of its resolv.conf."""
    if join is not None:
        from hakobune.oci.image_user import read_image_file  # it follows no link of the container's

        data = read_image_file("etc/resolv.conf", [Path(f"/proc/{join}/root")]) or b""
        yield None, data.decode(errors="replace")
    elif spec.network and not spec.host_network:
        network = Network(settings.installation, settings.run)
        with guest_network(network, slot.netns_fd) as guest:
            yield guest.address, guest.resolv_conf
    else:
        yield None, ""


@contextmanager
def _group(cgroups: Cgroups, spec: ContainerSpec) -> Iterator[Cgroup]:
    group = cgroups.create(f"containers/{spec.id}")
    try:
        limits = spec.limits
        group.limit(Limits(memory_bytes=limits.memory_bytes, cpus=limits.cpus, pids=limits.pids))
        yield group
    finally:
        group.kill()
        for _ in range(100):
            if group.remove():
                break
            select.select([], [], [], 0.01)
        cgroups.prune()


def _supervise(place: _Place, join: int | None) -> int | None:
    """Start the keeper, copy streams, forward signals; the container's wait status."""
    reports, report = os.pipe2(os.O_CLOEXEC)
    life, our_life = os.pipe2(os.O_CLOEXEC)
    keeper = os.fork()
    if keeper == 0:
        os.close(our_life)
        os.close(reports)
        _keep(place, report, life, join)
    os.close(report)
    os.close(life)
    place.streams.close_inner()
    said: dict[str, object] = {}
    try:
        with _forwarding(keeper) as started, place.streams.using() as begin:

            def heard(line: bytes) -> None:
                message = json.loads(line)
                said.update(message)
                if "init" in message:
                    started(int(message["init"]))
                if "started" in message:
                    _make_known(place, int(str(said["init"])), int(message["started"]))
                    begin(relay)  # until now only crun spoke, and that is in the reports

            relay = Relay(reports, heard)
            relay.copy()
    finally:
        os.close(our_life)
        os.close(reports)
        with contextlib.suppress(ProcessLookupError):
            os.kill(keeper, signal.SIGKILL)
        os.waitpid(keeper, 0)
    if "error" in said:
        raise explain_create_failure(str(said["error"]), place.spec.argv[0], place.crun.name)
    status = said.get("status")
    return status if isinstance(status, int) else None


def _make_known(place: _Place, init: int, inner_pid: int) -> None:
    """Let `exec`, `kill`, `ls` and `inspect` find it; the runtime counts pids in its own namespace."""
    pid = find_child(init, inner_pid)
    stat = read_stat(pid) if pid is not None else None
    if stat is not None:
        status = replace(place.status, pid=pid, start_time=stat.start_time, started_at=time.time())
        write_foreground(place.folder, place.spec, status, init=init, runtime=place.crun.name)


@contextmanager
def _forwarding(keeper: int) -> Iterator[Callable[[int], None]]:
    """Our signals go to the namespace's init, once it is known; yields the function that tells its pid."""
    target: list[int] = []
    asked: list[int] = []

    def forward(number: int, _: object) -> None:
        if number in (signal.SIGINT, signal.SIGTERM):
            asked.append(number)
        with contextlib.suppress(ProcessLookupError):
            if len(asked) >= PATIENCE or not target:
                os.kill(keeper, signal.SIGKILL)
            else:
                os.kill(target[0], number)

    before = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        yield target.append
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# The other processes


def _keep(place: _Place, report: int, life: int, join: int | None) -> NoReturn:
    """The keeper: dies with the command; its child is the first process of a new pid namespace."""
    try:
        restore_signals()
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        place.streams.close_outer()
        os.setsid()
        linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWPID)
        make_mounts_private()
        enter_clean_view(place.cgroups)
        host = os.pidfd_open(join) if join is not None else None
        child = os.fork()
        if child == 0:
            _be_init(place, report, life)
        _say(report, {"init": child})
        os.close(report)
        if host is not None:
            _end_with(host, child)
        os.waitpid(child, 0)
    except OSError as error:
        _say(report, {"error": str(error)})
    finally:
        os._exit(0)


def _end_with(host: int, child: int) -> None:
    """Return when either has ended; the network's owner takes its guest along."""
    pidfd = os.pidfd_open(child)
    if pidfd not in select.select([host, pidfd], [], [])[0]:
        os.kill(child, signal.SIGKILL)


def _be_init(place: _Place, report: int, life: int) -> NoReturn:
    try:
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        if select.select([life], [], [], 0)[0]:
            os._exit(1)  # the command ended before we could hear of it
        flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
        linux.mount("proc", "/proc", "proc", flags)
        _say(report, _run_crun(place, report))
    except (OSError, ContainerError) as error:
        _say(report, {"error": str(error)})
    finally:
        os._exit(0)


def _run_crun(place: _Place, report: int) -> dict[str, object]:
    spec, crun = place.spec, place.crun
    log = place.folder / "crun.log"
    argv = crun.create_argv(spec.id, place.folder, log, *place.streams.arguments)

    def prepare() -> None:
        crun.prepare(place.group)
        linux.unshare(linux.CLONE_NEWNS)
        attach_mounts(place.mounts, place.files, place.attach)

    pid = spawn(prepare, lambda: crun.exec(argv), stdio=place.streams.inner)
    _, status = os.waitpid(pid, 0)
    if status != 0:
        return {"error": log.read_text(errors="replace") if log.exists() else "it said nothing"}
    container = crun.read_pid(spec.id)
    for number in FORWARDED:
        signal.signal(number, lambda n, _: os.kill(container, n))
    place.streams.close_inner()
    _say(report, {"started": container})
    crun.start(spec.id)
    while True:  # the first process of a namespace inherits every orphan in it
        ended, status = os.waitpid(-1, 0)
        if ended == container:
            return {"status": status}


def _say(report: int, message: dict[str, object]) -> None:
    with contextlib.suppress(OSError):
        os.write(report, json.dumps(message).encode() + b"\n")
