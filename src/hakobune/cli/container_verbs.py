"""`hako container logs|kill|port|stop|rm`, for containers of both owners."""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
from pathlib import Path

from hakobune.cli.main import Context
from hakobune.errors import UsageError
from hakobune.runtime.container import ContainerError, Phase
from hakobune.runtime.foreground_record import Foreground, find_foreground
from hakobune.runtime.log_record import LogRecord
from hakobune.runtime.supervisor_client import SupervisorClient, SupervisorUnavailableError


def _client(context: Context) -> SupervisorClient:
    return SupervisorClient(context.settings.supervisor_socket)


def logs(arguments: argparse.Namespace, context: Context) -> int:
    from hakobune.runtime.logs import follow_records, read_records

    if find_foreground(context.settings, arguments.container) is not None:
        raise ContainerError(
            f"the container {arguments.container!r} has no log",
            why="a command runs it in the foreground, and prints what it says",
            fix="run it with -d to have its output kept",
        )
    with _client(context) as client:
        status = client.get(arguments.container)
        path = Path(status.log_path)
        if not arguments.follow:
            for record in read_records(path):
                print_record(record, status.id, context)
            return 0
        records = follow_records(path)
        stopped = False
        for found in records:
            if found is not None:
                print_record(found, status.id, context)
                continue
            context.out.flush()
            if stopped:
                break
            stopped = _has_stopped(client, status.id)
    return 0


def _has_stopped(client: SupervisorClient, id: str) -> bool:
    try:
        return client.get(id).phase is Phase.STOPPED
    except (ContainerError, SupervisorUnavailableError):
        return True


def print_record(record: LogRecord, id: str, context: Context) -> None:
    if record.container == id:
        stream = context.err if record.stream == "stderr" else context.out
        print(record.text, end="" if record.partial else "\n", file=stream)


def kill(arguments: argparse.Namespace, context: Context) -> int:
    number = parse_signal(arguments.signal)
    for id in arguments.containers:
        own = find_foreground(context.settings, id)
        if own is not None:
            _signal_foreground(own, number)
        else:
            with _client(context) as client:
                client.kill(id, number)
        print(id, file=context.out)
    return 0


def parse_signal(text: str) -> int:
    """`KILL`, `SIGKILL` or `9`.

    Raises:
        UsageError: there is no such signal.
    """
    name = text.upper()
    if name.isdecimal() and 0 < int(name) < signal.NSIG:
        return int(name)
    try:
        return signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
    except KeyError:
        raise UsageError(
            f"there is no signal {text!r}", fix="`kill -l` lists them: -s TERM, -s HUP, -s 9"
        ) from None


def _signal_foreground(container: Foreground, number: int) -> None:
    from hakobune.runtime.process import open_process

    pidfd = open_process(container.status.pid or 0, container.status.start_time or 0)
    if pidfd is not None:
        try:
            signal.pidfd_send_signal(pidfd, number)
        finally:
            os.close(pidfd)


def port(arguments: argparse.Namespace, context: Context) -> int:
    own = find_foreground(context.settings, arguments.container)
    if own is not None:
        ports = own.status.ports
    else:
        with _client(context) as client:
            ports = client.get(arguments.container).ports
    for port in ports:
        host, _, inside = str(port).partition("->")
        print(f"{inside} -> {host}", file=context.out)
    return 0


def stop(arguments: argparse.Namespace, context: Context) -> int:
    for id in arguments.containers:
        own = find_foreground(context.settings, id)
        if own is not None:
            _stop_foreground(own, arguments.time)
        else:
            with _client(context) as client:
                client.stop(id, timeout_s=arguments.time)
        print(id, file=context.out)
    return 0


def _stop_foreground(container: Foreground, timeout_s: float) -> None:
    """Its command sees the end and ends too."""
    from hakobune.runtime.process import open_process

    pidfd = open_process(container.status.pid or 0, container.status.start_time or 0)
    if pidfd is None:
        return
    try:
        for number in (parse_signal(container.spec.stop_signal), signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, number)
            if select.select([pidfd], [], [], timeout_s)[0]:
                return
    finally:
        os.close(pidfd)


def _remove_foreground(container: Foreground, *, force: bool) -> None:
    """It is forgotten when it ends; *force* ends it."""
    if not force:
        raise ContainerError(
            f"cannot remove the container {container.spec.id!r}",
            why="it is running",
            fix="stop it first, or force",
            kind="phase",
        )
    _signal_foreground(container, signal.SIGKILL)


def remove(arguments: argparse.Namespace, context: Context) -> int:
    from hakobune.oci.store import Store

    with _client(context) as client, Store(context.settings.home) as store:
        for id in arguments.containers:
            own = find_foreground(context.settings, id)
            if own is not None:
                _remove_foreground(own, force=arguments.force)
                print(id, file=context.out)
                continue
            with contextlib.suppress(SupervisorUnavailableError):
                client.remove(id, force=arguments.force)
            store.drop_root("containers", id)
            print(id, file=context.out)
    return 0
