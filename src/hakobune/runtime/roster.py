"""The containers of one supervisor: making, starting, stopping, watching and forgetting them.

Everything here returns at once; what takes time ends in a callback. A container's life is
`creating` (crun at work) → `created` → `running` ⇄ `frozen` → `stopped`, each step written to
`containers/ID/state.json` before anybody is told.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from hakobune.errors import HakoError
from hakobune.runtime import linux
from hakobune.runtime.adoption import (
    Fate,
    Found,
    Record,
    choose_fate,
    read_found,
    write_record,
    write_spec,
)
from hakobune.runtime.cable import Cable
from hakobune.runtime.cgroup import Cgroup, Cgroups, Limits
from hakobune.runtime.container import (
    ContainerError,
    ContainerSpec,
    ContainerStatus,
    Event,
    EventKind,
    ListeningSocket,
    Phase,
)
from hakobune.runtime.crun import Crun, explain_create_failure
from hakobune.runtime.exec_files import ExecFiles
from hakobune.runtime.launch import (
    Mounts,
    attach_mounts,
    attach_place,
    closed_pipe,
    make_mounts,
    small_files,
    spawn,
    write_bundle,
)
from hakobune.runtime.logs import LogFile
from hakobune.runtime.loop import Loop, Timer
from hakobune.runtime.network import Network
from hakobune.runtime.output import Output
from hakobune.runtime.pool import Berth, BerthPool
from hakobune.runtime.process import (
    boot_id,
    exit_status_of,
    open_process,
    read_stat,
    split_status,
)
from hakobune.runtime.published import OpenPorts, open_ports, start_forwarder
from hakobune.runtime.slot import IdRange, Slot, hold_range
from hakobune.runtime.sockets import listening_sockets

logger = logging.getLogger(__name__)

CREATE_TIMEOUT_S = 30.0
_STATUS_WAIT_S = 10.0  # how long an adopted container's exit code may take to become readable

Answer = Callable[[ContainerStatus | ContainerError], None]


@dataclass(slots=True)
class Held:
    """One container and everything that the supervisor holds for it."""

    spec: ContainerSpec
    folder: Path
    status: ContainerStatus
    group: Cgroup
    base: int = 0
    berth: Berth | None = None
    output: Output | None = None
    log: LogFile | None = None
    pidfd: int | None = None
    locks: list[int] = field(default_factory=list)
    oom_fd: int | None = None
    stop_timer: Timer | None = None
    waiting: list[Answer] = field(default_factory=list)
    remove_at_end: bool = False
    ports: OpenPorts = field(default_factory=OpenPorts)
    before: ContainerStatus | None = None  # of its last life, while it is made again


class Roster:
    """The containers of one supervisor, by id."""

    def __init__(
        self,
        loop: Loop,
        home: Path,
        *,
        crun: Crun,
        cgroups: Cgroups,
        network: Network,
        pool: BerthPool,
        seccomp: bytes | None,
        resolv_conf: Callable[[], str],
        tell: Callable[[Event], None],
    ) -> None:
        self._loop = loop
        self._folder = home / "containers"
        self._place = attach_place(home)
        self._crun = crun
        self._cgroups = cgroups
        self._network = network
        self._pool = pool
        self._seccomp = seccomp
        self._resolv_conf = resolv_conf
        self._tell = tell
        self._boot_id = boot_id()
        self._containers: dict[str, Held] = {}
        self._logs: dict[Path, LogFile] = {}
        self._folder.mkdir(parents=True, exist_ok=True)

    # looking

    def get(self, id: str) -> ContainerStatus:
        return self._held(id).status

    def list(self, labels: Mapping[str, str]) -> tuple[ContainerStatus, ...]:
        """Those that carry all *labels*, oldest first."""
        wanted = labels.items()
        statuses = (held.status for held in self._containers.values())
        chosen = [status for status in statuses if wanted <= status.labels.items()]
        return tuple(sorted(chosen, key=lambda status: status.created_at))

    def sockets(self, id: str) -> tuple[ListeningSocket, ...]:
        held = self._live(id)
        assert held.status.pid is not None
        return listening_sockets(held.status.pid, held.group.pids())

    @property
    def living(self) -> tuple[str, ...]:
        """The ids of those that have not stopped."""
        return tuple(i for i, h in self._containers.items() if h.status.phase is not Phase.STOPPED)

    @property
    def is_creating(self) -> bool:
        """Whether crun is at work on any of them."""
        return any(h.status.phase is Phase.CREATING for h in self._containers.values())

    # making

    def create(self, spec: ContainerSpec, answer: Answer) -> None:
        """Make a container; *answer* gets its status when it is `created`, or the error.

        Raises:
            ContainerError: it cannot even be begun.
        """
        if spec.id in self._containers:
            raise ContainerError(
                f"cannot make the container {spec.id!r}", why="there is one already", kind="exists"
            )
        self._make(self._begin(spec), answer)

    def create_again(self, id: str, answer: Answer) -> None:
        """Make a container that has stopped anew, over what it wrote if its top is on disk; its log goes on.

        Raises:
            ContainerError: it cannot even be begun; it stays as it was.
        """
        old = self._held(id)
        self._expect(old, "start", Phase.STOPPED)
        if old.spec.top is not None:  # a volatile mount refuses a work folder that has served one
            shutil.rmtree(Path(old.spec.top, "wk"), ignore_errors=True)
        status = replace(self._first_status(old.spec, old.folder), created_at=old.status.created_at)
        group = self._cgroups.create(f"containers/{id}")
        held = Held(old.spec, old.folder, status, group, before=old.status)
        held.remove_at_end = old.spec.remove_on_exit
        self._containers[id] = held
        self._make(held, answer)

    def _make(self, held: Held, answer: Answer) -> None:
        spec = held.spec
        try:
            mounts = self._prepare(held)
        except (HakoError, OSError) as error:
            self._discard(held)
            raise _as_container_error(spec.id, error) from error
        try:
            pid = self._spawn_crun(held, mounts)
        except OSError as error:
            self._discard(held)
            raise _as_container_error(spec.id, error) from error
        finally:
            mounts.close()
        timer = self._loop.after(CREATE_TIMEOUT_S, lambda: os.kill(pid, signal.SIGKILL))
        self._loop.on_child_end(pid, partial(self._crun_ended, held, timer, answer))

    def _begin(self, spec: ContainerSpec) -> Held:
        folder = self._folder / spec.id
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        group = self._cgroups.create(f"containers/{spec.id}")
        status = self._first_status(spec, folder)
        held = Held(spec, folder, status, group, remove_at_end=spec.remove_on_exit)
        self._containers[spec.id] = held
        return held

    def _first_status(self, spec: ContainerSpec, folder: Path) -> ContainerStatus:
        return ContainerStatus(
            id=spec.id,
            phase=Phase.CREATING,
            labels=dict(spec.labels),
            log_path=spec.log_path or str(folder / "log"),
            created_at=time.time(),
        )

    def _prepare(self, held: Held) -> Mounts:
        spec = held.spec
        write_spec(held.folder, spec)
        held.locks = [_shared_lock(Path(path)) for path in spec.locks]
        held.ports = open_ports(spec.ports)
        held.berth = self._pool.take(network=spec.network and not spec.host_network)
        held.base = held.berth.slot.base
        held.status = replace(held.status, address=held.berth.address, ports=held.ports.ports)
        held.group.limit(
            Limits(
                memory_bytes=spec.limits.memory_bytes,
                cpus=spec.limits.cpus,
                pids=spec.limits.pids,
            )
        )
        self._open_output(held)
        return make_mounts(spec, held.berth.slot)

    def _spawn_crun(self, held: Held, mounts: Mounts) -> int:
        assert held.berth is not None
        assert held.output is not None
        spec, output, berth = held.spec, held.output, held.berth
        files = small_files(spec, held.status.address, self._resolv_conf())
        write_bundle(
            spec,
            held.folder,
            slot=held.berth.slot,
            owner_pid=os.getpid(),
            place=self._place,
            files=files,
            seccomp=self._seccomp,
            adapt=lambda config: self._crun.adapt(config, berth.slot.ids, held.group.path),
        )
        argv = self._crun.create_argv(spec.id, held.folder, held.folder / "crun.log")

        def prepare() -> None:
            self._crun.prepare(held.group)
            linux.unshare(linux.CLONE_NEWNS)
            attach_mounts(mounts, files, self._place)

        stdio = {0: closed_pipe()}
        try:
            stdio[1] = output.open_for_container("stdout")
            stdio[2] = output.open_for_container("stderr")
            return spawn(prepare, lambda: self._crun.exec(argv), stdio=stdio)
        finally:
            for fd in stdio.values():
                os.close(fd)

    def _crun_ended(self, held: Held, timer: Timer, answer: Answer, status: int) -> None:
        timer.cancel()
        if status != 0:
            error = self._explain(held)
            self._discard(held)
            answer(error)
            return
        pid = self._crun.read_pid(held.spec.id)
        stat = read_stat(pid)
        if stat is None:
            self._discard(held)
            answer(ContainerError(f"the container {held.spec.id!r} ended while it was made"))
            return
        self._watch_child(held, pid)
        self._forward_ports(held)
        self._change(
            held, EventKind.CREATED, phase=Phase.CREATED, pid=pid, start_time=stat.start_time
        )
        self._watch_oom(held)
        answer(held.status)

    def _forward_ports(self, held: Held) -> None:
        """Carry its ports' connections from a process that ends with it, also if we are no more."""
        if held.ports.sockets and held.status.address is not None:
            assert held.pidfd is not None
            process = start_forwarder(held.ports, held.status.address, until=held.pidfd)
            self._loop.on_child_end(process.pid, partial(setattr, process, "returncode"))
        held.ports.close()

    def _explain(self, held: Held) -> ContainerError:
        try:
            log = (held.folder / "crun.log").read_text(errors="replace")
        except FileNotFoundError:
            log = ""
        if not log and held.output is not None:
            log = held.output.peek("stderr")
        return explain_create_failure(log, held.spec.argv[0], self._crun.name)

    def _discard(self, held: Held) -> None:
        """Undo a creation that failed: nobody will hear of the container."""
        held.group.kill()
        self._let_go(held)
        if held.before is not None:
            held.status, held.before = held.before, None
            self._write(held)
            return
        self._containers.pop(held.spec.id, None)
        shutil.rmtree(held.folder, ignore_errors=True)

    # changing

    def start(self, id: str) -> ContainerStatus:
        """Let a created container's program begin."""
        held = self._held(id)
        self._expect(held, "start", Phase.CREATED)
        self._crun.start(id)
        self._change(held, EventKind.STARTED, phase=Phase.RUNNING, started_at=time.time())
        return held.status

    def freeze(self, id: str) -> ContainerStatus:
        held = self._held(id)
        if held.status.phase is not Phase.FROZEN:
            self._expect(held, "freeze", Phase.RUNNING)
            held.group.freeze()
            self._change(held, EventKind.FROZEN, phase=Phase.FROZEN)
        return held.status

    def thaw(self, id: str) -> ContainerStatus:
        held = self._held(id)
        if held.status.phase is not Phase.RUNNING:
            self._expect(held, "thaw", Phase.FROZEN)
            held.group.thaw()
            self._change(held, EventKind.THAWED, phase=Phase.RUNNING)
        return held.status

    def kill(self, id: str, number: int) -> None:
        """Send a signal to the container's first process. One that is frozen gets it now only if it is SIGKILL."""
        self._signal(self._live(id), number)

    def execute(self, id: str, process: Mapping[str, object], answer: Answer) -> None:
        """Run another process in it, described as in the runtime-spec; *answer* comes when it runs.

        Its output goes to the container's log. It ends by itself, or with the container.
        """
        held = self._held(id)
        self._expect(held, "use", Phase.RUNNING)
        assert held.output is not None
        call = ExecFiles(held.folder, process)
        argv = call.argv(self._crun, id)
        stdio = {0: closed_pipe()}
        try:
            stdio[1] = held.output.open_for_container("stdout")
            stdio[2] = held.output.open_for_container("stderr")
            pid = spawn(
                lambda: self._crun.prepare_exec(held.group, self._place),
                lambda: self._crun.exec(argv),
                stdio=stdio,
            )
        finally:
            for fd in stdio.values():
                os.close(fd)

        def ended(status: int) -> None:
            error = call.finish(failed=status != 0)
            answer(held.status if error is None else error)

        self._loop.on_child_end(pid, ended)

    def stop(self, id: str, timeout_s: float, answer: Answer) -> None:
        """Stop signal, then after *timeout_s* kill; *answer* gets the status when it has stopped."""
        held = self._held(id)
        if held.status.phase is Phase.STOPPED:
            answer(held.status)
            return
        if held.status.phase is Phase.CREATING:
            raise ContainerError(
                f"cannot stop the container {id!r}", why="it is being made", kind="phase"
            )
        held.waiting.append(answer)
        if held.status.phase is Phase.CREATED or timeout_s <= 0:
            held.group.kill()
            self._signal(held, signal.SIGKILL)
            return
        if held.status.phase is Phase.FROZEN:
            self.thaw(id)
        held.status = replace(held.status, stopping=True)
        self._write(held)
        self._signal(held, _signal_number(held.spec.stop_signal))
        if held.stop_timer is None:
            held.stop_timer = self._loop.after(timeout_s, partial(self._kill_all, held))

    def wait(self, id: str, answer: Answer) -> None:
        """*answer* gets the status when the container has stopped."""
        held = self._held(id)
        if held.status.phase is Phase.STOPPED:
            answer(held.status)
        else:
            held.waiting.append(answer)

    def remove(self, id: str, *, force: bool, answer: Answer) -> None:
        """Forget a stopped container and its folder; *force* kills it first."""
        held = self._held(id)
        if held.status.phase is Phase.STOPPED:
            self._remove(held)
            answer(held.status)
        elif force:
            held.remove_at_end = True
            self.stop(id, 0.0, answer)
        else:
            raise ContainerError(
                f"cannot remove the container {id!r}",
                why=f"it is {held.status.phase}",
                fix="stop it first, or force",
                kind="phase",
            )

    def _remove(self, held: Held) -> None:
        self._containers.pop(held.spec.id, None)
        shutil.rmtree(held.folder, ignore_errors=True)
        self._tell(_event(EventKind.REMOVED, held))

    # ends

    def _ended(self, held: Held, status: int | None) -> None:
        code, number = split_status(status)
        if held.group.oom_kills() > 0 and not held.status.oom_killed:
            self._change(held, EventKind.OOM, oom_killed=True)
        if held.stop_timer is not None:
            held.stop_timer.cancel()
            held.stop_timer = None
        held.group.kill()
        self._let_go(held)
        self._change(
            held,
            EventKind.EXITED,
            phase=Phase.STOPPED,
            pid=None,
            start_time=None,
            stopping=False,
            exit_code=code,
            signal=number,
            stopped_at=time.time(),
        )
        waiting, held.waiting = held.waiting, []
        if held.remove_at_end:
            self._remove(held)
        for answer in waiting:
            answer(held.status)

    def _let_go(self, held: Held) -> None:
        """Release everything but the record."""
        for fd in (held.oom_fd, held.pidfd):
            if fd is not None:
                self._loop.forget(fd)
                os.close(fd)
        held.oom_fd = held.pidfd = None
        if held.output is not None:
            held.output.finish()
            held.output = None
        self._close_log(held)
        if held.berth is not None:
            self._pool.release(held.berth)
            held.berth = None
            self.wants_berths()
        for fd in held.locks:
            os.close(fd)
        held.locks.clear()
        held.ports.close()
        self._crun.forget(held.spec.id)
        self._remove_group(held.group, attempts=50)

    def wants_berths(self) -> None:
        """Let the pool be filled when there is nothing else to do."""
        self._loop.when_idle(self._fill)

    def _fill(self) -> bool:
        try:
            return self._pool.fill()
        except (HakoError, OSError):
            return False  # the next creation says why

    def _remove_group(self, group: Cgroup, attempts: int) -> None:
        if not group.remove() and attempts:  # the last process is still on its way out
            self._loop.after(0.02, partial(self._remove_group, group, attempts - 1))

    # helpers

    def _held(self, id: str) -> Held:
        held = self._containers.get(id)
        if held is None:
            raise ContainerError(f"there is no container {id!r}", kind="not_found")
        return held

    def _live(self, id: str) -> Held:
        held = self._held(id)
        self._expect(held, "use", Phase.CREATED, Phase.RUNNING, Phase.FROZEN)
        return held

    def _expect(self, held: Held, verb: str, *phases: Phase) -> None:
        if held.status.phase not in phases:
            raise ContainerError(
                f"cannot {verb} the container {held.spec.id!r}",
                why=f"it is {held.status.phase}",
                kind="phase",
            )

    def _signal(self, held: Held, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            if held.pidfd is not None:
                signal.pidfd_send_signal(held.pidfd, number)

    def _kill_all(self, held: Held) -> None:
        held.group.kill()
        self._signal(held, signal.SIGKILL)

    def _change(self, held: Held, kind: EventKind, **changes: object) -> None:
        held.status = replace(held.status, **changes)  # type: ignore[arg-type] # fields by name
        self._write(held)
        self._tell(_event(kind, held))

    def _write(self, held: Held) -> None:
        cable = held.berth.cable if held.berth else None
        record = Record(
            status=held.status,
            boot_id=self._boot_id,
            base=held.base,
            cable=cable.name if cable else "",
            cable_index=cable.index if cable else 0,
        )
        with contextlib.suppress(FileNotFoundError):
            write_record(held.folder, record)

    def _watch_child(self, held: Held, pid: int) -> None:
        """The container's first process became our child when crun ended: we are its subreaper."""
        held.pidfd = os.pidfd_open(pid)
        self._loop.on_child_end(pid, partial(self._ended, held))

    def _watch_stranger(self, held: Held, pidfd: int) -> None:
        held.pidfd = pidfd
        self._loop.on_readable(pidfd, partial(self._stranger_ended, held, time.monotonic()))

    def _stranger_ended(self, held: Held, since: float) -> None:
        """The exit code can be read once whoever inherited the process has reaped it."""
        assert held.pidfd is not None
        self._loop.forget(held.pidfd)
        deadline = time.monotonic() + _STATUS_WAIT_S
        self._await_status(held, deadline)

    def _await_status(self, held: Held, deadline: float) -> None:
        assert held.pidfd is not None
        pid, start_time = held.status.pid or 0, held.status.start_time or 0
        status = exit_status_of(held.pidfd, pid, start_time)
        if status is None and time.monotonic() < deadline:
            self._loop.after(0.02, partial(self._await_status, held, deadline))
        else:
            self._ended(held, status)

    def _watch_oom(self, held: Held) -> None:
        held.oom_fd = held.group.oom_events()
        if held.oom_fd is not None:
            self._loop.on_readable(held.oom_fd, partial(self._oom, held))

    def _oom(self, held: Held) -> None:
        assert held.oom_fd is not None
        with contextlib.suppress(BlockingIOError):
            os.read(held.oom_fd, 4096)
        if held.group.oom_kills() > 0 and not held.status.oom_killed:
            self._change(held, EventKind.OOM, oom_killed=True)

    def _open_output(self, held: Held) -> None:
        path = Path(held.status.log_path)
        log = self._logs.get(path)
        if log is None:
            log = self._logs[path] = LogFile(path, held.spec.log_bytes)
        log.users += 1
        held.log = log
        held.output = Output(self._loop, held.folder, held.spec.id, log)

    def _close_log(self, held: Held) -> None:
        if held.log is None:
            return
        held.log.users -= 1
        if held.log.users == 0:
            held.log.close()
            self._logs.pop(held.log.path, None)
        held.log = None

    # adoption

    def adopt(self) -> None:
        """Take over what earlier supervisors left in `containers/`."""
        for folder in sorted(self._folder.iterdir()):
            if folder.is_dir():
                try:
                    self._take_over(read_found(folder), folder)
                except (HakoError, OSError):
                    logger.exception("a container could not be taken over: %s", folder.name)

    def _take_over(self, found: Found, folder: Path) -> None:
        pidfd = _open_found(found)
        fate = choose_fate(found, boot_id=self._boot_id, alive=pidfd is not None)
        if pidfd is not None and fate is not Fate.ADOPT:
            os.close(pidfd)
        group = self._cgroups.create(f"containers/{found.id}")
        if found.spec is None or found.record is None or fate is Fate.DISCARD:
            group.kill()
            self._crun.forget(found.id)
            self._remove_group(group, attempts=50)
            shutil.rmtree(folder, ignore_errors=True)
            return
        held = Held(found.spec, folder, found.record.status, group, found.record.base)
        held.remove_at_end = found.spec.remove_on_exit
        self._containers[found.id] = held
        if fate is Fate.ADOPT:
            assert pidfd is not None
            self._adopt(held, found.record, pidfd)
        elif fate is Fate.ENDED:
            self._open_output(held)  # its last words are lost with a reboot, not with a supervisor
            self._ended(held, None)
        else:
            self._remove_group(group, attempts=50)

    def _adopt(self, held: Held, record: Record, pidfd: int) -> None:
        pid = held.status.pid
        assert pid is not None
        held.locks = [_shared_lock(Path(path)) for path in held.spec.locks]
        self._open_output(held)
        held.berth = _berth_of(pid, record, self._pool)
        stat = read_stat(pid)
        if stat is not None and stat.parent == os.getpid():
            os.close(pidfd)
            self._watch_child(held, pid)
        else:
            self._watch_stranger(held, pidfd)
        self._watch_oom(held)

    def pause_output(self) -> None:
        """Before another program takes this process over: nothing read may be lost."""
        for held in self._containers.values():
            if held.output is not None:
                held.output.pause()


def _event(kind: EventKind, held: Held) -> Event:
    status = held.status
    return Event(
        kind=kind,
        subject=status.id,
        time=time.time(),
        status=status,
        exit_code=status.exit_code,
        signal=status.signal,
    )


def _open_found(found: Found) -> int | None:
    if found.record is None:
        return None
    pid, start_time = found.record.status.pid, found.record.status.start_time
    if pid is None or start_time is None:
        return None
    return open_process(pid, start_time)


def _berth_of(pid: int, record: Record, pool: BerthPool) -> Berth | None:
    """The berth of a living container, got back from the kernel."""
    ids = hold_range(IdRange(record.base))
    if ids is None:
        return None
    namespaces: list[int] = []
    try:
        for kind in ("user", "net"):
            namespaces.append(os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC))
    except FileNotFoundError:  # it is a zombie: they went with its life
        for fd in namespaces:
            os.close(fd)
        ids.release()
        return None
    slot = Slot(namespaces[0], namespaces[1], ids.ids)
    cable = None
    if record.status.address is not None:
        pool.addresses.reserve(record.status.address)
        cable = Cable(record.cable, record.cable_index, record.status.address)
    return Berth(slot, ids, cable)


def _shared_lock(path: Path) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # never made here: it goes with what it guards
    fcntl.flock(fd, fcntl.LOCK_SH)
    return fd


def _signal_number(name: str) -> int:
    text = name.upper()
    if text.isdecimal():
        return int(text)
    try:
        return signal.Signals[text if text.startswith("SIG") else f"SIG{text}"]
    except KeyError:
        return signal.SIGTERM


def _as_container_error(id: str, error: HakoError | OSError) -> ContainerError:
    if isinstance(error, ContainerError):
        return error
    if isinstance(error, HakoError):
        return ContainerError(error.what, why=error.why, fix=error.fix)
    return ContainerError(
        f"cannot make the container {id!r}", why=error.strerror or str(error), kind="failed"
    )
