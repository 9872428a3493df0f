"""Another process in a running container, for the command that asked: it ends with that command or by itself.

The OCI runtime starts it, detached, and is seen by us through a helper that is its subreaper: in the mount namespace
where the runtime has what it needs, and in the pid namespace in which it counts. One that nobody reaped would keep the
container's first process from ending.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from hakobune.runtime.cgroups import Cgroups
from hakobune.runtime.container import ContainerError
from hakobune.runtime.crun import hierarchies_of, open_runtime
from hakobune.runtime.exec_files import ExecFiles
from hakobune.runtime.exec_helper import LET_GO, Call, help_command
from hakobune.runtime.exec_target import Target
from hakobune.runtime.process import split_status
from hakobune.runtime.relay import Relay
from hakobune.runtime.streams import PlainStreams, Streams, TerminalStreams

_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


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
            socket.send_fds(our_orders, [bytes([LET_GO])], [terminal])
            relay.stop()

        streams: Streams = undo.enter_context(
            TerminalStreams(
                stdin, stdout, target.folder / f"tty-{os.getpid()}", keys=keys, leave=leave
            )
            if process["terminal"]
            else PlainStreams(stdin, stdout, stderr)
        )
        group = cgroups.group(f"containers/{target.spec.id}")
        call = Call(target, crun, group, files, streams, orders, our_orders)
        status = _supervise(call, lambda: was_left)
    if was_left:
        return None
    code, _ = split_status(status)
    return 137 if code is None else code  # without a status it went with the container


def _supervise(call: Call, was_left: Callable[[], bool]) -> int | None:
    reports, report = os.pipe2(os.O_CLOEXEC)
    helper = os.fork()
    if helper == 0:
        call.our_orders.close()
        os.close(reports)
        help_command(call, report)
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
