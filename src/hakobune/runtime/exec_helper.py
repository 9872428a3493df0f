"""The process between a command and another program in a container: starts it where the runtime works, and is its subreaper.

It ends with the program. If the command goes, so does the program, unless it was let go: then the helper keeps its terminal.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from hakobune.runtime import linux
from hakobune.runtime.cgroup import Cgroup
from hakobune.runtime.container import ContainerError
from hakobune.runtime.crun import Crun
from hakobune.runtime.exec_files import ExecFiles
from hakobune.runtime.exec_target import Target
from hakobune.runtime.launch import restore_signals, spawn
from hakobune.runtime.streams import Streams

LET_GO = 0  # no signal: the program's terminal comes with it


@dataclass(frozen=True, slots=True)
class Call:
    """What the command and its helper share by inheritance."""

    target: Target
    crun: Crun
    group: Cgroup
    files: ExecFiles
    streams: Streams
    orders: socket.socket
    our_orders: socket.socket


def help_command(call: Call, report: int) -> NoReturn:
    """The helper: goes where the runtime works, starts the process, waits for it."""
    try:
        restore_signals()
        # The command may be gone before it is told anything: what it left must be ended all the same.
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        call.streams.close_outer()
        _close_standard_streams()
        os.setsid()  # a terminal's signals are for the command, which forwards them
        target = call.target
        init = None
        if target.init is not None:
            init = os.open(f"/proc/{target.init}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        view = os.open(f"/proc/{target.view}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        linux.setns(view, linux.CLONE_NEWNS)
        if init is not None:
            linux.setns(init, linux.CLONE_NEWPID)
            child = os.fork()
            if child:
                os.close(report)
                os.waitpid(child, 0)
                os._exit(0)
        _start_and_wait(call, report)
    except (OSError, ContainerError) as error:
        _say(report, {"error": str(error)})
    finally:
        os._exit(0)


def _close_standard_streams() -> None:
    """It may outlive the command, whose terminal must not wait for it."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)


def _start_and_wait(call: Call, report: int) -> None:
    linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
    argv = call.files.argv(call.crun, call.target.spec.id, *call.streams.arguments)
    runtime = spawn(
        lambda: call.crun.prepare_exec(call.group, call.target.place),
        lambda: call.crun.exec(argv),
        stdio=call.streams.inner,
    )
    _, status = os.waitpid(runtime, 0)
    if status != 0:
        _say(report, {"failed": True})
        return
    pid = call.files.read_pid()
    call.streams.close_inner()
    _say(report, {"started": pid})
    pidfd = os.pidfd_open(pid)
    terminal = _obey(call.orders, pidfd)
    if terminal is not None:
        _drain(terminal, pidfd)
    _, status = os.waitpid(pid, 0)
    _say(report, {"status": status})


def _obey(orders: socket.socket, pidfd: int) -> int | None:
    """Pass signals on until the process has ended, or has been left: its terminal is ours then."""
    waiting: list[int] = [pidfd, orders.fileno()]
    while pidfd not in select.select(waiting, [], [])[0]:
        numbers, descriptors, _, _ = socket.recv_fds(orders, 64, 1)
        if descriptors:
            return descriptors[0]
        for number in numbers or (signal.SIGKILL,):
            signal.pidfd_send_signal(pidfd, number)
        if not numbers:  # the command has ended
            waiting = [pidfd]
    return None


def _drain(terminal: int, pidfd: int) -> None:
    """Read a terminal that nobody looks at, so that its programs do not wait, until the process has ended."""
    waiting = [pidfd, terminal]
    while pidfd not in (ready := select.select(waiting, [], [])[0]):
        try:
            data = os.read(terminal, 65536) if ready else b""
        except OSError:  # no program has it open any more
            data = b""
        if not data:
            waiting = [pidfd]


def _say(report: int, message: Mapping[str, object]) -> None:
    with contextlib.suppress(OSError):
        os.write(report, json.dumps(message).encode() + b"\n")
