"""From a specification to a container that only waits for the word to begin: mounts, bundle, crun, watching."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from hakobune.errors import HakoError
from hakobune.runtime import linux
from hakobune.runtime.adoption import write_spec
from hakobune.runtime.attendance import Attendance, Preparation
from hakobune.runtime.cgroup_limits import Limits
from hakobune.runtime.container import ContainerError, Phase
from hakobune.runtime.crun import Crun, explain_create_failure
from hakobune.runtime.departure import Departure
from hakobune.runtime.event import EventKind
from hakobune.runtime.held import Answer, Held
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
from hakobune.runtime.ledger import Ledger
from hakobune.runtime.log_book import LogBook
from hakobune.runtime.loop import Loop, Timer
from hakobune.runtime.pool import BerthPool
from hakobune.runtime.process import read_stat
from hakobune.runtime.published import open_ports, start_forwarder

CREATE_TIMEOUT_S = 30.0


class Creation:
    """Makes containers of one supervisor."""

    def __init__(
        self,
        loop: Loop,
        home: Path,
        *,
        crun: Crun,
        pool: BerthPool,
        seccomp: bytes | None,
        resolv_conf: Callable[[], str],
        logs: LogBook,
        ledger: Ledger,
        departure: Departure,
    ) -> None:
        self._loop = loop
        self._place = attach_place(home)
        self._crun = crun
        self._pool = pool
        self._seccomp = seccomp
        self._resolv_conf = resolv_conf
        self._logs = logs
        self._ledger = ledger
        self._departure = departure

    def make(self, held: Held, answer: Answer) -> None:
        """Make a container; *answer* gets its status when it is `created`, or the error. It is discarded then.

        Raises:
            ContainerError: it cannot even be begun, and is discarded.
        """
        try:
            mounts = self._prepare(held)
        except (HakoError, OSError) as error:
            self._departure.discard(held)
            raise _as_container_error(held.spec.id, error) from error
        try:
            pid = self._spawn_crun(held, mounts)
        except OSError as error:
            self._departure.discard(held)
            raise _as_container_error(held.spec.id, error) from error
        finally:
            mounts.close()
        timer = self._loop.after(CREATE_TIMEOUT_S, lambda: os.kill(pid, signal.SIGKILL))
        self._loop.on_child_end(pid, partial(self._crun_ended, held, timer, answer))

    def _prepare(self, held: Held) -> Mounts:
        spec = held.spec
        write_spec(held.folder, spec)
        held.lock_layers()
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
        self._logs.open(held)
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
            terminal=spec.terminal,
            adapt=lambda config: self._crun.adapt(config, berth.slot.ids, held.group.path),
        )
        if spec.is_attended:
            held.preparation = Preparation(spec, held.folder)
        extra = held.preparation.arguments if held.preparation else ()
        argv = self._crun.create_argv(spec.id, held.folder, held.folder / "crun.log", *extra)

        def prepare() -> None:
            self._crun.prepare(held.group)
            linux.unshare(linux.CLONE_NEWNS)
            attach_mounts(mounts, files, self._place)

        if held.preparation is not None:
            return spawn(prepare, lambda: self._crun.exec(argv), stdio=held.preparation.stdio)
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
            self._departure.discard(held)
            answer(error)
            return
        pid = self._crun.read_pid(held.spec.id)
        stat = read_stat(pid)
        if stat is None:
            self._departure.discard(held)
            answer(ContainerError(f"the container {held.spec.id!r} ended while it was made"))
            return
        try:
            self._attend(held, pid)
        except (HakoError, OSError) as error:
            self._departure.discard(held)
            answer(_as_container_error(held.spec.id, error))
            return
        self._departure.watch.child(held, pid)
        self._forward_ports(held)
        self._ledger.change(
            held, EventKind.CREATED, phase=Phase.CREATED, pid=pid, start_time=stat.start_time
        )
        self._departure.watch.memory(held)
        answer(held.status)

    def _attend(self, held: Held, pid: int) -> None:
        """Give its terminal or its input to a process that ends with it, also if we are no more."""
        if held.preparation is None:
            return
        assert held.output is not None
        until = os.pidfd_open(pid)
        try:
            process = held.preparation.begin(held.output, until=until)
        finally:
            os.close(until)
        held.preparation.close()
        held.preparation = None
        held.attendance = Attendance.of_child(self._loop, process)

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


def _as_container_error(id: str, error: HakoError | OSError) -> ContainerError:
    if isinstance(error, ContainerError):
        return error
    if isinstance(error, HakoError):
        return ContainerError(error.what, why=error.why, fix=error.fix)
    return ContainerError(
        f"cannot make the container {id!r}", why=error.strerror or str(error), kind="failed"
    )
