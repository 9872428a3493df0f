"""`hako container …`: containers by hand, as docker's command line has them.

In the foreground a container belongs to the command and ends with it; `-d` gives it to the supervisor.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import time
from pathlib import Path

from hakobune.cli.main import Context
from hakobune.cli.output import add_format, print_document, print_json
from hakobune.cli.pull_option import add_pull
from hakobune.cli.table import print_table
from hakobune.errors import UsageError
from hakobune.runtime.container import (
    ContainerError,
    ContainerStatus,
    LogRecord,
    Phase,
)
from hakobune.runtime.foreground_record import (
    Foreground,
    find_foreground,
    foreground_containers,
)
from hakobune.runtime.supervisor_client import SupervisorClient, SupervisorUnavailableError

IMAGE_LABEL = "hako.image"


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    _configure_run(verbs.add_parser("run", help="make a container of an image and start it"))

    listing = verbs.add_parser("ls", help="the containers that run")
    listing.add_argument("-a", "--all", action="store_true", help="also those that have stopped")
    add_format(listing)
    listing.set_defaults(run=_list)

    logs = verbs.add_parser("logs", help="what a container has printed")
    logs.add_argument("-f", "--follow", action="store_true", help="and what it prints from now on")
    logs.add_argument("container", metavar="CONTAINER")
    logs.set_defaults(run=_logs)

    stop = verbs.add_parser("stop", help="send the stop signal, then kill")
    stop.add_argument(
        "-t", "--time", type=float, default=10.0, metavar="SECONDS", help="patience (default: 10)"
    )
    stop.add_argument("containers", nargs="+", metavar="CONTAINER")
    stop.set_defaults(run=_stop)

    _configure_exec(verbs.add_parser("exec", help="run another program in a running container"))

    inspect = verbs.add_parser("inspect", help="all that is known of containers, as JSON")
    inspect.add_argument("containers", nargs="+", metavar="CONTAINER")
    inspect.set_defaults(run=_inspect)

    start = verbs.add_parser("start", help="start stopped containers again, with what they wrote")
    start.add_argument("containers", nargs="+", metavar="CONTAINER")
    start.set_defaults(run=_start)

    kill = verbs.add_parser("kill", help="send a signal to the first process of containers")
    kill.add_argument(
        "-s", "--signal", default="KILL", metavar="SIGNAL", help="a name or number (default: KILL)"
    )
    kill.add_argument("containers", nargs="+", metavar="CONTAINER")
    kill.set_defaults(run=_kill)

    port = verbs.add_parser("port", help="the published ports of a container")
    port.add_argument("container", metavar="CONTAINER")
    port.set_defaults(run=_port)

    remove = verbs.add_parser("rm", help="forget stopped containers")
    remove.add_argument("-f", "--force", action="store_true", help="kill running ones first")
    remove.add_argument("containers", nargs="+", metavar="CONTAINER")
    remove.set_defaults(run=_remove)


def _configure_run(run: argparse.ArgumentParser) -> None:
    run.add_argument("-d", "--detach", action="store_true", help="leave it running, print its id")
    run.add_argument(
        "--rm", action="store_true", help="forget it when it has stopped (always in the foreground)"
    )
    run.add_argument("-i", "--interactive", action="store_true", help="give it standard input")
    run.add_argument("-t", "--tty", action="store_true", help="give it a terminal of its own")
    run.add_argument("-e", "--env", action="append", default=[], metavar="NAME[=VALUE]")
    run.add_argument(
        "-v",
        "--volume",
        action="append",
        default=[],
        metavar="HOST:INSIDE[:ro]",
        help="a bind mount",
    )
    run.add_argument("-w", "--workdir", metavar="DIR")
    run.add_argument("-u", "--user", metavar="USER[:GROUP]")
    run.add_argument("--name", help="its id (default: random)")
    run.add_argument("--hostname", metavar="NAME")
    run.add_argument("--entrypoint", metavar="PROGRAM")
    run.add_argument("--memory", "-m", metavar="SIZE", help="512m, 1g, or bytes")
    run.add_argument("--cpus", type=float, metavar="N", help="0.5, 2 …")
    run.add_argument(
        "--network",
        default="bridge",
        metavar="NETWORK",
        help="bridge (egress, the default), none (loopback only), host, or container:NAME",
    )
    run.add_argument(
        "-p",
        "--publish",
        action="append",
        default=[],
        metavar="[ADDRESS:][HOST:]PORT[/udp]",
        help="open a port of this machine that leads into the container (on loopback, without an address)",
    )
    run.add_argument(
        "-P", "--publish-all", action="store_true", help="every port that the image exposes"
    )
    add_pull(run)
    run.add_argument("image", metavar="IMAGE")
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND …")
    run.set_defaults(run=_run)


def _configure_exec(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-d", "--detach", action="store_true", help="do not wait; output: its log")
    parser.add_argument("-i", "--interactive", action="store_true", help="give it standard input")
    parser.add_argument("-t", "--tty", action="store_true", help="give it a terminal of its own")
    parser.add_argument("-e", "--env", action="append", default=[], metavar="NAME[=VALUE]")
    parser.add_argument("-u", "--user", metavar="USER[:GROUP]")
    parser.add_argument("-w", "--workdir", metavar="DIR")
    parser.add_argument("container", metavar="CONTAINER")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND …")
    parser.set_defaults(run=_exec)


def _run(arguments: argparse.Namespace, context: Context) -> int:
    from hakobune.cli.container_run import run  # the other verbs need no images

    return run(arguments, context)


def _exec(arguments: argparse.Namespace, context: Context) -> int:
    from hakobune.cli.container_exec import run

    return run(arguments, context)


def _client(context: Context) -> SupervisorClient:
    return SupervisorClient(context.settings.supervisor_socket)


def _list(arguments: argparse.Namespace, context: Context) -> int:
    own = foreground_containers(context.settings)
    statuses = [container.status for container in own]
    with contextlib.suppress(SupervisorUnavailableError), _client(context) as client:
        statuses += client.list()
    statuses.sort(key=lambda status: status.created_at)
    shown = [s for s in statuses if arguments.all or s.phase is not Phase.STOPPED]
    if arguments.format != "table":
        print_document([status.to_json() for status in shown], arguments.format, context.out)
        return 0
    rows = [
        (
            s.id,
            s.labels.get(IMAGE_LABEL, "-"),
            describe_phase(s, time.time()),
            s.address or "-",
            ", ".join(map(str, s.ports)) or "-",
        )
        for s in shown
    ]
    print_table(("CONTAINER", "IMAGE", "STATUS", "ADDRESS", "PORTS"), rows, context.out)
    return 0


def describe_phase(status: ContainerStatus, now: float) -> str:
    """`running 5 minutes`, `exited (137, out of memory)` …"""
    if status.phase is Phase.STOPPED:
        code = "unknown" if status.exit_code is None else str(status.exit_code)
        return f"exited ({code}{', out of memory' if status.oom_killed else ''})"
    if status.started_at is None:
        return str(status.phase)
    return f"{status.phase} {_age(now - status.started_at)}"


def _age(seconds: float) -> str:
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{int(seconds)} s"


def _logs(arguments: argparse.Namespace, context: Context) -> int:
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
                _print_record(record, status.id, context)
            return 0
        records = follow_records(path)
        stopped = False
        for found in records:
            if found is not None:
                _print_record(found, status.id, context)
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


def _print_record(record: LogRecord, id: str, context: Context) -> None:
    if record.container == id:
        stream = context.err if record.stream == "stderr" else context.out
        print(record.text, end="" if record.partial else "\n", file=stream)


def _inspect(arguments: argparse.Namespace, context: Context) -> int:
    from hakobune.runtime.adoption import read_found

    documents = []
    for id in arguments.containers:
        own = find_foreground(context.settings, id)
        if own is not None:
            status, spec, owner = own.status, own.spec, "command"
        else:
            with _client(context) as client:
                status = client.get(id)
            found = read_found(context.settings.home / "containers" / id).spec
            if found is None:
                raise ContainerError(f"there is no container {id!r}", kind="not_found")
            spec, owner = found, "supervisor"
        documents.append(
            {
                "id": id,
                "image": status.labels.get(IMAGE_LABEL, ""),
                "owner": owner,
                "status": status.to_json(),
                "spec": spec.to_json(),
            }
        )
    print_json(documents, context.out)
    return 0


def _start(arguments: argparse.Namespace, context: Context) -> int:
    from hakobune.cli.serve import ensure_supervisor

    ensure_supervisor(context.settings)
    with _client(context) as client:
        for id in arguments.containers:
            if client.get(id).phase is Phase.STOPPED:
                client.create_again(id)
            if client.get(id).phase is Phase.CREATED:
                client.start(id)
            print(id, file=context.out)
    return 0


def _kill(arguments: argparse.Namespace, context: Context) -> int:
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


def _port(arguments: argparse.Namespace, context: Context) -> int:
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


def _stop(arguments: argparse.Namespace, context: Context) -> int:
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


def _remove(arguments: argparse.Namespace, context: Context) -> int:
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
