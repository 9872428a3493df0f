"""`hako container attach`, `start`, and what they share with `run -it`: a person in front of a supervisor's container."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from hakobune.cli.container_process import exit_code_of
from hakobune.cli.main import Context
from hakobune.cli.serve import ensure_supervisor
from hakobune.errors import HakoError, UsageError
from hakobune.runtime.adoption import read_found
from hakobune.runtime.container import (
    ID_PATTERN,
    ContainerError,
    ContainerSpec,
    ContainerStatus,
    Phase,
)
from hakobune.runtime.container_end import ContainerEnd
from hakobune.runtime.container_names import no_container
from hakobune.runtime.detach_keys import parse_detach_keys
from hakobune.runtime.foreground_record import find_foreground
from hakobune.runtime.supervisor_client import SupervisorClient

_AT_ONCE_S = 0.2  # for what it has said already, or for its being gone to be noticed
_LAST_S = 5.0  # for the supervisor to say how a container ended whose output has ended

Begin = Callable[[], object]


def attach(arguments: argparse.Namespace, context: Context) -> int:
    """The container's exit code, or 0 when it was left."""
    id: str = arguments.container
    keys = parse_detach_keys(arguments.detach_keys)
    if find_foreground(context.settings, id) is not None:
        raise ContainerError(
            f"cannot attach to the container {id!r}",
            why="it belongs to the command that runs it in the foreground, and is shown there",
            fix=f"hako container exec -it {id} sh (or run it with -d, -dit or -it)",
        )
    if ID_PATTERN.fullmatch(id) and _folder(context, id).exists():
        ensure_supervisor(context.settings)  # one that was killed left its containers running
    with SupervisorClient(context.settings.supervisor_socket) as client:
        status = client.get(id)
    _expect_running(status)
    return stand_before(
        id,
        context,
        keys=keys,
        typing=not arguments.no_stdin,
        signals=arguments.sig_proxy,
        begin=None,
    )


def start(arguments: argparse.Namespace, context: Context) -> int:
    """Start what has stopped; with -a or -i one of them, in front of which we stay."""
    keys = parse_detach_keys(arguments.detach_keys)
    if not (arguments.attach or arguments.interactive):
        ensure_supervisor(context.settings)
        with SupervisorClient(context.settings.supervisor_socket) as client:
            for id in arguments.containers:
                _make_again(client, id)
                if client.get(id).phase is Phase.CREATED:
                    client.start(id)
                print(id, file=context.out)
        return 0
    if len(arguments.containers) > 1:
        raise UsageError(
            "-a and -i go with one container",
            why="nobody can stand before several at once",
            fix=f"hako container start -a {arguments.containers[0]}",
        )
    ensure_supervisor(context.settings)
    (id,) = arguments.containers
    try:
        return _start_attached(id, arguments, context, keys)
    except UsageError:
        raise
    except HakoError as error:
        print(f"error: {error}", file=context.err)
        return exit_code_of(error)


def _start_attached(id: str, arguments: argparse.Namespace, context: Context, keys: bytes) -> int:
    with SupervisorClient(context.settings.supervisor_socket) as client:
        if client.get(id).phase is Phase.STOPPED and _spec(context, id).terminal:
            _require_terminal(typing=arguments.interactive)  # before anything is started
        _make_again(client, id)
        runs = client.get(id).phase is Phase.RUNNING
        return stand_before(
            id,
            context,
            keys=keys,
            typing=arguments.interactive,
            signals=arguments.sig_proxy,
            begin=None if runs else lambda: client.start(id),
        )


def _make_again(client: SupervisorClient, id: str) -> None:
    if client.get(id).phase is Phase.STOPPED:
        client.create_again(id)


def _expect_running(status: ContainerStatus) -> None:
    if status.phase is Phase.RUNNING:
        return
    why = f"it is {status.phase}"
    if status.phase is Phase.STOPPED and status.exit_code is not None:
        why = f"it has stopped (exit code {status.exit_code})"
    raise ContainerError(
        f"cannot attach to the container {status.id!r}",
        why=why,
        fix=f"hako container start -a {status.id}" if status.phase is Phase.STOPPED else "",
        kind="phase",
    )


def stand_before(
    id: str,
    context: Context,
    *,
    keys: bytes,
    typing: bool,
    signals: bool,
    begin: Begin | None,
    owner: bool = False,
    let_go: Callable[[], bool] = lambda: True,
) -> int:
    """Show what a container of the supervisor's prints, and pass on what is typed; gives its exit code, or 0 if it was left.

    Args:
        begin: lets its program begin, once all of its output comes here; `None`: it has begun.
        owner: it ends when we do.
        let_go: called when the keys were typed; says whether it may be left.

    Raises:
        HakoError: it cannot be attached to, or its exit code is not known.
    """
    for stream in (context.out, context.err):
        stream.flush()
    spec = _spec(context, id)
    with closing(ContainerEnd(context.settings.supervisor_socket, id)) as end:
        if spec.is_attended:
            left_running = _carry(
                spec, context, end, keys, typing, signals, begin, owner=owner, let_go=let_go
            )
        else:
            left_running = False
            _follow(id, context, end, signals=signals, begin=begin)
        if left_running:
            print(f"left running: hako container attach {id}", file=context.err)
            return 0
        end.wait(_AT_ONCE_S)
        if owner and not end.waiting and _folder(context, id).exists():
            ensure_supervisor(context.settings)  # it was killed: somebody has to clean up
        status = end.wait(_LAST_S)
        runs_on = not end.ended and bool(end.waiting)
        if runs_on and not owner:
            raise _put_out(id)
        if runs_on:  # nobody keeps its terminal any more, and it does not mind
            with SupervisorClient(context.settings.supervisor_socket) as client:
                client.kill(id, signal.SIGKILL)
            status = end.wait(_LAST_S)
    return _exit_code(id, status, spec, context)


def _carry(
    spec: ContainerSpec,
    context: Context,
    end: ContainerEnd,
    keys: bytes,
    typing: bool,
    signals: bool,
    begin: Begin | None,
    *,
    owner: bool,
    let_go: Callable[[], bool],
) -> bool:
    """Through the container's attendant; says whether it was left running."""
    from hakobune.runtime.attach import Front, Left, Session

    front = Front(
        stdin=sys.stdin.fileno() if typing and spec.interactive else None,
        stdout=context.out.fileno(),
        stderr=context.err.fileno(),
        terminal=spec.terminal,
        keys=keys,
        signals=signals and (owner or not spec.terminal),
        owner=owner,
    )
    with Session(_folder(context, spec.id), front) as session:
        session.prepare(redraw=begin is None)
        if begin is not None:
            begin()
        left = session.carry(end, let_go)
    return left is Left.DETACHED or (left is Left.HUNG_UP and not owner)


def _follow(
    id: str, context: Context, end: ContainerEnd, *, signals: bool, begin: Begin | None
) -> None:
    """Through its log, line by line: nobody keeps a terminal or an input for it."""
    from hakobune.cli.container_verbs import print_record
    from hakobune.runtime.forwarded import FORWARDED
    from hakobune.runtime.logs import LogTail

    def pass_on(number: int, _: object) -> None:
        with SupervisorClient(context.settings.supervisor_socket) as client:
            client.kill(id, number)

    with SupervisorClient(context.settings.supervisor_socket) as client:
        path = Path(client.get(id).log_path)
    before = {number: signal.signal(number, pass_on) for number in FORWARDED if signals}
    try:
        with closing(LogTail(path)) as tail:
            if begin is not None:
                begin()
            while True:
                ended = end.ended  # asked before reading: what was printed last is read after it
                for record in tail.read():
                    print_record(record, id, context)
                for stream in (context.out, context.err):
                    stream.flush()
                if ended:
                    return
                end.wait(tail.pause_s)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _put_out(id: str) -> ContainerError:
    return ContainerError(
        f"no longer attached to the container {id!r}, which runs on",
        why="nothing was read here for 30 seconds while it waited, or the process that keeps its terminal has ended",
        fix=f"hako container attach {id}",
    )


def _exit_code(
    id: str, status: ContainerStatus | None, spec: ContainerSpec, context: Context
) -> int:
    if status is None or status.exit_code is None:
        raise ContainerError(
            f"the exit code of the container {id!r} is not known",
            why="it ended while no supervisor looked",
            fix=f"hako container logs {id}" if not spec.remove_on_exit else "",
        )
    if status.oom_killed and status.exit_code == 137:
        limit = (spec.limits.memory_bytes or 0) >> 20
        print(f"killed: it needed more than its {limit} MiB of memory", file=context.err)
    return status.exit_code


def _require_terminal(*, typing: bool) -> None:
    from hakobune.runtime.terminal import NoTerminalError

    if typing and not sys.stdin.isatty():
        raise NoTerminalError(
            "the input is not a terminal",
            why="the container has a terminal, and believes that somebody types",
            fix="leave -i away to look on, or start it from a terminal",
        )


def _spec(context: Context, id: str) -> ContainerSpec:
    folder = _folder(context, id)
    spec = read_found(folder).spec
    if spec is None and folder.exists() and not os.access(folder, os.X_OK):
        raise ContainerError(
            f"cannot attach to the container {id!r}",
            why="what it shows and reads is root's",
            fix=f"sudo hako container attach {id}",
        )
    if spec is None:
        raise no_container(id)
    return spec


def _folder(context: Context, id: str) -> Path:
    return context.settings.home / "containers" / id
