"""A container that belongs to the command that started it: it ends when the command does, however that ends.

crun has no death signal, so the container's whole tree lives in a pid namespace whose first process dies with us
(PR_SET_PDEATHSIG): command → keeper → init of that namespace → crun → the container.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from hakobune.runtime import linux
from hakobune.runtime.cgroup import Cgroup, Cgroups, Limits, enter_clean_view
from hakobune.runtime.container import ContainerError, ContainerSpec
from hakobune.runtime.crun import Crun, explain_create_failure
from hakobune.runtime.launch import (
    Mounts,
    attach_mounts,
    attach_place,
    closed_pipe,
    make_mounts,
    restore_signals,
    small_files,
    spawn,
    write_bundle,
)
from hakobune.runtime.mount import make_mounts_private
from hakobune.runtime.network import Network, guest_network
from hakobune.runtime.process import split_status
from hakobune.runtime.seccomp import compiled_filter
from hakobune.runtime.slot import Slot, make_slot, take_range
from hakobune.settings import Settings

FORWARDED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_PATIENCE = (
    3  # the so many-th SIGINT or SIGTERM kills: a first process without a handler ignores them
)


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
    stdio: dict[int, int]


def run_foreground(
    spec: ContainerSpec, settings: Settings, *, stdin: int | None, stdout: int, stderr: int
) -> Ended:
    """Run a container with our own standard streams and wait for its end; our signals are forwarded to it.

    Args:
        stdin: what it may read; `None` is nothing.

    Raises:
        ContainerError: it cannot be made, or its program cannot be executed (by `kind`).
    """
    with ExitStack() as undo:
        settings.run.mkdir(parents=True, exist_ok=True)
        ids = take_range(settings.installation, ephemeral=True)
        undo.callback(ids.release)
        slot = undo.enter_context(make_slot(ids.ids))
        address, resolv_conf = None, ""
        if spec.network:
            network = Network(settings.installation, settings.run)
            guest = undo.enter_context(guest_network(network, slot.netns_fd))
            address, resolv_conf = guest.address, guest.resolv_conf
        cgroups = Cgroups.open(settings.installation)
        group = undo.enter_context(_group(cgroups, spec))
        folder = Path(tempfile.mkdtemp(prefix=f"{spec.id}-", dir=settings.run))
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        mounts = make_mounts(spec, slot)
        undo.callback(mounts.close)
        files = small_files(spec, address, resolv_conf)
        crun = Crun(folder / "crun")
        undo.callback(os.close, crun.fd)
        attach = attach_place(settings.home)
        _write_bundle(spec, folder, slot, attach, files)
        streams = undo.enter_context(_streams(stdin))
        place = _Place(spec, folder, attach, mounts, files, group, cgroups, crun, streams.inner)
        status = _supervise(place, streams, stdout, stderr)
        code, _ = split_status(status)
        return Ended(code if code is not None else 137, group.oom_kills() > 0)


def _write_bundle(
    spec: ContainerSpec, folder: Path, slot: Slot, attach: str, files: dict[str, str]
) -> None:
    write_bundle(
        spec,
        folder,
        slot=slot,
        owner_pid=1,  # in the namespace where crun runs, and with our descriptors
        place=attach,
        files=files,
        seccomp=compiled_filter(os.uname().machine),
    )


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


@dataclass(slots=True)
class _Streams:
    """Pipes of the container's, so that it may open /dev/stdout by name, and our ends of them."""

    inner: dict[int, int]
    outer: dict[int, int]  # our reading end, by the stream's number

    def close_inner(self) -> None:
        for fd in self.inner.values():
            os.close(fd)
        self.inner.clear()


@contextmanager
def _streams(stdin: int | None) -> Iterator[_Streams]:
    streams = _Streams({0: closed_pipe() if stdin is None else os.dup(stdin)}, {})
    try:
        for number in (1, 2):
            streams.outer[number], streams.inner[number] = os.pipe2(os.O_CLOEXEC)
            os.fchmod(streams.inner[number], 0o666)
        yield streams
    finally:
        streams.close_inner()
        for fd in streams.outer.values():
            os.close(fd)


def _supervise(place: _Place, streams: _Streams, stdout: int, stderr: int) -> int | None:
    """Start the keeper, copy output, forward signals; the container's wait status."""
    reports, report = os.pipe2(os.O_CLOEXEC)
    life, our_life = os.pipe2(os.O_CLOEXEC)
    keeper = os.fork()
    if keeper == 0:
        os.close(our_life)
        os.close(reports)
        _keep(place, report, life)
    os.close(report)
    os.close(life)
    streams.close_inner()
    try:
        with _forwarding(keeper) as started:
            said = _copy_output(streams, {1: stdout, 2: stderr}, reports, started)
    finally:
        os.close(our_life)
        os.close(reports)
        with contextlib.suppress(ProcessLookupError):
            os.kill(keeper, signal.SIGKILL)
        os.waitpid(keeper, 0)
    if "error" in said:
        raise explain_create_failure(str(said["error"]), place.spec.argv[0])
    status = said.get("status")
    return status if isinstance(status, int) else None


@contextmanager
def _forwarding(keeper: int) -> Iterator[Callable[[int], None]]:
    """Our signals go to the namespace's init, once it is known; yields the function that tells its pid."""
    target: list[int] = []
    asked: list[int] = []

    def forward(number: int, _: object) -> None:
        if number in (signal.SIGINT, signal.SIGTERM):
            asked.append(number)
        with contextlib.suppress(ProcessLookupError):
            if len(asked) >= _PATIENCE or not target:
                os.kill(keeper, signal.SIGKILL)
            else:
                os.kill(target[0], number)

    before = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        yield target.append
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _copy_output(
    streams: _Streams, targets: dict[int, int], reports: int, started: Callable[[int], None]
) -> dict[str, object]:
    """Copy until the container's end is reported, then what is left in the pipes; the last report."""
    said: dict[str, object] = {}
    buffer, speaking = b"", False
    sources = {fd: targets[number] for number, fd in streams.outer.items()}
    waiting = [reports]  # until it has started only crun speaks, and that is in the reports
    while reports in waiting:
        ready, _, _ = select.select(waiting, [], [])
        for fd in ready:
            data = os.read(fd, 65536)
            if fd == reports:
                buffer += data
                *lines, buffer = buffer.split(b"\n")
                for line in lines:
                    said.update(json.loads(line))
                if "init" in said:
                    started(int(str(said.pop("init"))))
                if said.get("started") and not speaking:
                    speaking = True
                    waiting += sources
            elif data:
                _write_all(sources[fd], data)
            if not data and fd in waiting:
                waiting.remove(fd)
    for fd, target in sources.items() if speaking else ():
        os.set_blocking(fd, False)
        with contextlib.suppress(BlockingIOError):
            while data := os.read(fd, 65536):
                _write_all(target, data)
    return said


def _write_all(fd: int, data: bytes) -> None:
    """Like a shell's pipe: when nobody reads any more, the rest is dropped."""
    view = memoryview(data)
    with contextlib.suppress(BrokenPipeError):
        while view:
            view = view[os.write(fd, view) :]


# The other processes


def _keep(place: _Place, report: int, life: int) -> NoReturn:
    """The keeper: dies with the command; its child is the first process of a new pid namespace."""
    try:
        restore_signals()
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        os.setsid()
        linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWPID)
        make_mounts_private()
        enter_clean_view(place.cgroups)
        child = os.fork()
        if child == 0:
            _be_init(place, report, life)
        _say(report, {"init": child})
        os.close(report)
        os.waitpid(child, 0)
    except OSError as error:
        _say(report, {"error": str(error)})
    finally:
        os._exit(0)


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
    argv = crun.create_argv(spec.id, place.folder, log)

    def prepare() -> None:
        os.setsid()
        place.group.enter()
        linux.unshare(linux.CLONE_NEWNS)
        attach_mounts(place.mounts, place.files, place.attach)

    pid = spawn(prepare, lambda: crun.exec(argv), stdio=place.stdio)
    _, status = os.waitpid(pid, 0)
    if status != 0:
        return {"error": log.read_text(errors="replace") if log.exists() else "it said nothing"}
    container = crun.read_pid(spec.id)
    for number in FORWARDED:
        signal.signal(number, lambda n, _: os.kill(container, n))
    for fd in place.stdio.values():
        os.close(fd)
    _say(report, {"started": True})
    crun.start(spec.id)
    while True:  # the first process of a namespace inherits every orphan in it
        ended, status = os.waitpid(-1, 0)
        if ended == container:
            return {"status": status}


def _say(report: int, message: dict[str, object]) -> None:
    with contextlib.suppress(OSError):
        os.write(report, json.dumps(message).encode() + b"\n")
