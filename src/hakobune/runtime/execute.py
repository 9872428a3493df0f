"""Another process in a running container, for the command that asked: it ends with that command or by itself.

The OCI runtime starts it, detached, and is seen by us through a helper that is its subreaper: in the mount namespace
where the runtime has what it needs, and in the pid namespace in which it counts. One that nobody reaped would keep the
container's first process from ending.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from hakobune.runtime import linux
from hakobune.runtime.adoption import read_found
from hakobune.runtime.cgroup import Cgroup
from hakobune.runtime.cgroups import Cgroups
from hakobune.runtime.container import ContainerError, ContainerSpec, Phase
from hakobune.runtime.crun import Crun, hierarchies_of, open_runtime
from hakobune.runtime.exec_files import ExecFiles
from hakobune.runtime.foreground_record import find_foreground
from hakobune.runtime.launch import attach_place, restore_signals, spawn
from hakobune.runtime.process import split_status
from hakobune.runtime.relay import Relay
from hakobune.runtime.streams import PlainStreams, Streams, TerminalStreams
from hakobune.runtime.supervisor_client import SupervisorClient
from hakobune.settings import Settings

_LET_GO = 0  # no signal: the program's terminal comes with it
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A running container, and where its runtime works.

    Args:
        pid: its first process, as we count.
        folder: private to it; for files of ours.
        state: the runtime's own folder.
        view: a process in whose mount namespace the runtime finds the control groups it accepts.
        place: where its root was attached.
        init: the first process of the pid namespace in which the runtime counts; `None` is the host's.
    """

    spec: ContainerSpec
    pid: int
    folder: Path
    runtime: str
    state: Path
    view: int
    place: str
    init: int | None


def find_target(settings: Settings, id: str) -> Target:
    """The running container of that name: the supervisor's, or one that a command runs.

    Raises:
        ContainerError: kind `not_found`, or `phase`: it does not run.
        SupervisorUnavailableError: nobody knows of it, and the supervisor does not run.
    """
    own = find_foreground(settings, id)
    if own is not None and own.status.pid is not None:
        return Target(
            spec=own.spec,
            pid=own.status.pid,
            folder=own.folder,
            runtime=own.runtime,
            state=own.folder / "runtime",
            view=own.init,
            place=attach_place(settings.home),
            init=own.init,
        )
    with SupervisorClient(settings.supervisor_socket) as client:
        status, hello = client.get(id), client.hello()
    folder = settings.home / "containers" / id
    spec = read_found(folder).spec
    if status.phase is not Phase.RUNNING or status.pid is None or spec is None:
        raise ContainerError(
            f"cannot run anything in the container {id!r}",
            why=f"it is {status.phase}",
            fix=f"hako container start {id}" if status.phase is Phase.STOPPED else "",
            kind="phase",
        )
    return Target(
        spec=spec,
        pid=status.pid,
        folder=folder,
        runtime=hello["runtime"],
        state=settings.run / hello["runtime"],
        view=hello["pid"],
        place=attach_place(settings.home),
        init=None,
    )


def execute(
    target: Target,
    installation: str,
    process: Mapping[str, Any],
    *,
    stdin: int | None,
    stdout: int,
    stderr: int,
    keys: bytes = b"",
) -> int | None:
    """Run *process* (runtime-spec "process") with our own streams and wait for its end; gives the exit code.

    Our signals are forwarded to it. `terminal` in the description makes its streams a terminal of its own.
    `None`: *keys* were typed there, and it runs on; nobody can come back to its terminal.

    Raises:
        ContainerError: it cannot be started (by `kind`).
    """
    with ExitStack() as undo:
        crun = open_runtime(target.runtime, target.state)
        undo.callback(crun.close)
        cgroups = Cgroups.open(installation, also=hierarchies_of(target.runtime))
        undo.callback(cgroups.close)
        files = ExecFiles(target.folder, process)
        undo.callback(files.finish, failed=False)
        orders, our_orders = socket.socketpair()
        undo.callback(orders.close)
        undo.callback(our_orders.close)
        was_left = False

        def leave(relay: Relay, terminal: int) -> None:
            nonlocal was_left
            was_left = True
            socket.send_fds(our_orders, [bytes([_LET_GO])], [terminal])
            relay.stop()

        streams: Streams = undo.enter_context(
            TerminalStreams(
                stdin, stdout, target.folder / f"tty-{os.getpid()}", keys=keys, leave=leave
            )
            if process["terminal"]
            else PlainStreams(stdin, stdout, stderr)
        )
        group = cgroups.group(f"containers/{target.spec.id}")
        call = _Call(target, crun, group, files, streams, orders, our_orders)
        status = _supervise(call, lambda: was_left)
    if was_left:
        return None
    code, _ = split_status(status)
    return 137 if code is None else code  # without a status it went with the container


@dataclass(frozen=True, slots=True)
class _Call:
    target: Target
    crun: Crun
    group: Cgroup
    files: ExecFiles
    streams: Streams
    orders: socket.socket
    our_orders: socket.socket


def _supervise(call: _Call, was_left: Callable[[], bool]) -> int | None:
    reports, report = os.pipe2(os.O_CLOEXEC)
    helper = os.fork()
    if helper == 0:
        call.our_orders.close()
        os.close(reports)
        _help(call, report)
    os.close(report)
    call.orders.close()
    call.streams.close_inner()
    said: dict[str, object] = {}
    try:
        with _forwarding(call.our_orders), call.streams.using() as begin:

            def heard(line: bytes) -> None:
                message = json.loads(line)
                said.update(message)
                if "started" in message:
                    begin(relay)

            relay = Relay(reports, heard)
            relay.copy()
    finally:
        call.our_orders.close()
        os.close(reports)
        if not was_left():  # else it stays, for the program's sake
            os.waitpid(helper, 0)
    if said.get("failed"):
        error = call.files.finish(failed=True)
        assert error is not None
        raise error
    if "error" in said:
        raise ContainerError("cannot run anything in the container", why=str(said["error"]))
    status = said.get("status")
    return status if isinstance(status, int) else None


@contextmanager
def _forwarding(orders: socket.socket) -> Iterator[None]:
    def forward(number: int, _: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            orders.send(bytes([number]))

    before: dict[int, Callable[..., Any] | int | None] = {
        number: signal.signal(number, forward) for number in _FORWARDED
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _help(call: _Call, report: int) -> NoReturn:
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


def _start_and_wait(call: _Call, report: int) -> None:
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
