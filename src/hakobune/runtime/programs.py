"""Host programs that the supervisor keeps alive: the controller, HAProxy, the registry.

A program outlives a supervisor that was killed: its output goes straight to a file, and the next supervisor finds it
by the pid and start time in `run/programs/NAME.json`. It runs in the host's mount namespace, in a cgroup of its own,
and is given listening sockets (`listeners.py`) that stay open while it is started again. One that is started lazily
costs nothing until somebody connects to one of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hakobune.runtime import linux
from hakobune.runtime.cgroups import Cgroups
from hakobune.runtime.container import ContainerError
from hakobune.runtime.event import Event, EventKind
from hakobune.runtime.launch import spawn
from hakobune.runtime.listeners import Listeners
from hakobune.runtime.loop import Loop
from hakobune.runtime.process import (
    boot_id,
    exit_status_of,
    open_process,
    read_stat,
    split_status,
)
from hakobune.runtime.program import Done, Program, become, open_log, restart_delay
from hakobune.runtime.program_status import ProgramStatus
from hakobune.support.files import write_atomically

STEADY_AFTER_S = 10.0  # a program that ran this long is started again at once


class Programs:
    """The programs of one supervisor.

    Args:
        kept: by name, the sockets that an upgrade left to us.
    """

    def __init__(
        self,
        loop: Loop,
        folder: Path,
        cgroups: Cgroups,
        *,
        host_mounts: int,
        tell: Callable[[Event], None],
        kept: Mapping[str, Mapping[str, int]],
    ) -> None:
        self._loop = loop
        self._folder = folder
        self._cgroups = cgroups
        self._host_mounts = host_mounts
        self._tell = tell
        self._kept = kept
        self._programs: dict[str, Program] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def statuses(self) -> tuple[ProgramStatus, ...]:
        return tuple(program.status() for program in self._programs.values())

    def listeners(self) -> dict[str, dict[str, int]]:
        """The open sockets of each program, by address: what an upgrade has to keep."""
        return {name: program.listeners.descriptors() for name, program in self._programs.items()}

    def start(
        self,
        name: str,
        argv: tuple[str, ...],
        env: Mapping[str, str] | None,
        cwd: str,
        listen: tuple[str, ...] = (),
        *,
        lazily: bool = False,
    ) -> ProgramStatus:
        """Run *name*; nothing happens if the same command runs already; another one is replaced.

        Args:
            lazily: if it does not run, hold its sockets and run it as soon as somebody connects to one.

        Raises:
            ContainerError: name, command or an address in *listen* cannot be used. Everything is as it was.
        """
        if not name.replace("-", "").isalnum() or not argv:
            raise ContainerError(f"cannot start the program {name!r}", why="bad name or command")
        environment = None if env is None else dict(env)
        program = self._programs.get(name)
        if program is None:
            listeners = Listeners()
            listeners.hold(listen)
            program = self._add(name, argv, environment, cwd, listen, listeners)
            self._begin(program, lazily=lazily)
        elif (program.argv, program.env, program.cwd, program.listen) != (
            argv,
            environment,
            cwd,
            listen,
        ):
            program.listeners.hold(listen)
            self._expect_nobody(program)
            program.listeners.close_others(listen)
            program.argv, program.env, program.cwd = argv, environment, cwd
            program.listen = listen
            self._replace(program, lazily=lazily)
        elif program.pid is None:
            self._begin(program, lazily=lazily)
        program.wanted = True
        return program.status()

    def stop(self, name: str, timeout_s: float, done: Done) -> None:
        """End *name* for good; *done* is called when it has gone, at once if there is none."""
        program = self._programs.get(name)
        if program is None:
            done()
            return
        program.wanted = False
        program.waiting.append(done)
        if program.timer is not None:
            program.timer.cancel()
        if program.pid is None:
            self._forget(program)
            return
        self._signal(program, signal.SIGTERM)
        program.kill_timer = self._loop.after(timeout_s, lambda: self._kill(program))

    def adopt(self, *, restart: bool) -> None:
        """Find the programs of the supervisor before; *restart* those that have ended meanwhile, or forget them."""
        for path in sorted(self._folder.glob("*.json")):
            try:
                record = json.loads(path.read_bytes())
                if record["boot_id"] != boot_id():  # whoever wants it will ask for it
                    raise ValueError("another boot's")
                program = self._add(
                    record["name"],
                    tuple(record["argv"]),
                    record["env"],
                    record["cwd"],
                    tuple(record.get("listen", ())),
                    Listeners(self._kept.get(record["name"])),
                )
            except (ValueError, KeyError):
                path.unlink()
                continue
            pidfd = open_process(record["pid"], record["start_time"])
            if pidfd is None and restart:
                self._launch(program)
            elif pidfd is None:
                program.group.kill()
                self._forget(program)
            else:
                program.pid, program.start_time = record["pid"], record["start_time"]
                program.started_at = time.monotonic()
                program.listeners.regain(pidfd, program.listen)
                self._watch(program, pidfd)
        for name in self._kept.keys() - self._programs.keys():
            Listeners(self._kept[name]).close_others()

    def _add(
        self,
        name: str,
        argv: tuple[str, ...],
        env: dict[str, str] | None,
        cwd: str,
        listen: tuple[str, ...],
        listeners: Listeners,
    ) -> Program:
        group = self._cgroups.create(f"system/{name}")
        log_path = self._folder / f"{name}.log"
        program = Program(name, argv, env, cwd, listen, log_path, group, listeners)
        self._programs[name] = program
        return program

    def _begin(self, program: Program, *, lazily: bool) -> None:
        if not lazily or not program.listen:
            self._launch(program)
        elif not program.expecting and program.timer is None:
            program.expecting = tuple(program.listeners.descriptors().values())
            for fd in program.expecting:
                self._loop.on_readable(fd, lambda: self._launch(program))

    def _expect_nobody(self, program: Program) -> None:
        for fd in program.expecting:
            self._loop.forget(fd)
        program.expecting = ()

    def _replace(self, program: Program, *, lazily: bool) -> None:
        if program.pid is None:
            self._begin(program, lazily=lazily)
        else:
            program.failures = 0
            self._signal(program, signal.SIGTERM)
            program.kill_timer = self._loop.after(10.0, lambda: self._kill(program))

    def _launch(self, program: Program) -> None:
        self._expect_nobody(program)
        if program.timer is not None:  # asked for before its time
            program.timer.cancel()
            program.timer = None
        log = open_log(program.log_path)
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        try:
            program.group.kill()  # one of which there is no record
            program.listeners.hold(program.listen)  # all are open, unless nobody has held them
            pid = spawn(
                lambda: self._prepare(program),
                lambda: become(program),
                stdio={0: null, 1: log, 2: log},
            )
        except ContainerError as error:
            with contextlib.suppress(OSError):  # a full disk
                os.write(log, f"{error}\n".encode())
            self._start_again(program)
            return
        finally:
            os.close(log)
            os.close(null)
        stat = read_stat(pid)
        program.pid = pid
        program.start_time = stat.start_time if stat else 0
        program.started_at = time.monotonic()
        program.exit_code = None
        self._loop.on_child_end(pid, lambda status: self._ended(program, status))
        # On a full disk it runs without a record: the next supervisor does not find it and starts it anew.
        with contextlib.suppress(OSError):
            self._write(program)
        self._tell(Event(kind=EventKind.PROGRAM_STARTED, subject=program.name, time=time.time()))

    def _prepare(self, program: Program) -> None:
        os.setsid()
        program.group.enter()
        linux.setns(self._host_mounts, linux.CLONE_NEWNS)
        os.chdir(program.cwd)

    def _watch(self, program: Program, pidfd: int) -> None:
        assert program.pid is not None
        stat = read_stat(program.pid)
        if stat is not None and stat.parent == os.getpid():
            os.close(pidfd)
            self._loop.on_child_end(program.pid, lambda status: self._ended(program, status))
            return
        program.pidfd = pidfd
        pid, start_time = program.pid, program.start_time or 0
        self._loop.on_readable(
            pidfd, lambda: self._ended(program, exit_status_of(pidfd, pid, start_time))
        )

    def _ended(self, program: Program, status: int | None) -> None:
        if program.pidfd is not None:
            self._loop.forget(program.pidfd)
            os.close(program.pidfd)
            program.pidfd = None
        program.pid = None
        code, number = split_status(status)
        program.exit_code = code
        if program.kill_timer is not None:
            program.kill_timer.cancel()
            program.kill_timer = None
        program.group.kill()  # what it started and left behind
        self._tell(
            Event(
                kind=EventKind.PROGRAM_EXITED,
                subject=program.name,
                time=time.time(),
                exit_code=code,
                signal=number,
            )
        )
        if program.wanted:
            self._start_again(program)
        else:
            self._forget(program)

    def _start_again(self, program: Program) -> None:
        steady = time.monotonic() - program.started_at >= STEADY_AFTER_S
        program.failures = 0 if steady else program.failures + 1
        program.restarts += 1
        delay = restart_delay(program.failures)
        program.timer = self._loop.after(delay, lambda: self._launch(program))

    def _forget(self, program: Program) -> None:
        self._programs.pop(program.name, None)
        with contextlib.suppress(FileNotFoundError):
            (self._folder / f"{program.name}.json").unlink()
        program.group.remove()
        self._expect_nobody(program)
        program.listeners.close_others()
        for done in program.waiting:
            done()

    def _signal(self, program: Program, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            if program.pidfd is not None:
                signal.pidfd_send_signal(program.pidfd, number)
            elif program.pid is not None:  # our child: its pid is its own until it is reaped
                os.kill(program.pid, number)

    def _kill(self, program: Program) -> None:
        self._signal(program, signal.SIGKILL)

    def _write(self, program: Program) -> None:
        record: dict[str, Any] = {
            "name": program.name,
            "argv": list(program.argv),
            "env": program.env,
            "cwd": program.cwd,
            "listen": list(program.listen),
            "pid": program.pid,
            "start_time": program.start_time,
            "boot_id": boot_id(),
        }
        path = self._folder / f"{program.name}.json"
        write_atomically(path, json.dumps(record).encode(), mode=0o600)
