"""`hako container run|ls|logs|stop|rm`: containers by hand, as docker's command line has them.

In the foreground a container belongs to the command and ends with it; `-d` gives it to the supervisor.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from hakobune.cli.main import Context
from hakobune.cli.serve import ensure_supervisor
from hakobune.cli.table import add_format, print_json, print_table
from hakobune.errors import HakoError, UsageError
from hakobune.oci.image_user import resolve_user
from hakobune.oci.manifest import Image
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from hakobune.runtime.container import (
    ID_PATTERN,
    ContainerError,
    ContainerLimits,
    ContainerSpec,
    ContainerStatus,
    LogRecord,
    Mount,
    Phase,
    User,
)
from hakobune.runtime.supervisor_client import SupervisorClient, SupervisorUnavailableError

IMAGE_LABEL = "hako.image"
_FAILED, _NOT_EXECUTABLE, _NO_COMMAND = 125, 126, 127
_SIZES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    _configure_run(verbs.add_parser("run", help="make a container of an image and start it"))

    listing = verbs.add_parser("ls", help="the containers that run without a command")
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
        "--network", choices=("bridge", "none"), default="bridge", help="egress, or loopback only"
    )
    run.add_argument("image", metavar="IMAGE")
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND …")
    run.set_defaults(run=_run)


# run


def _run(arguments: argparse.Namespace, context: Context) -> int:
    """Exit codes are docker's: 125 not started, 126 not executable, 127 no such program, else the container's."""
    try:
        return _run_container(arguments, context)
    except UsageError:
        raise
    except HakoError as error:
        print(f"error: {error}", file=context.err)
        return _exit_code(error)


def _exit_code(error: HakoError) -> int:
    match error:
        case ContainerError(kind="no_command"):
            return _NO_COMMAND
        case ContainerError(kind="not_executable"):
            return _NOT_EXECUTABLE
        case _:
            return _FAILED


def _run_container(arguments: argparse.Namespace, context: Context) -> int:
    reference = Reference.parse(arguments.image)
    with Store(context.settings.home) as store:
        image = store.find_image(reference)
        if image is None:
            raise HakoError(
                f"there is no image {reference.short}",
                why="it is not in this installation's store",
                fix="`hako image ls` lists what there is; `hako build` and `hako image load` add to it",
            )
        snapshots, hold = store.hold_image(image)
        with hold:
            lowers = tuple(d for snapshot in reversed(snapshots) for d in snapshot.lower_dirs())
            locks = tuple(dict.fromkeys(lock for s in snapshots for lock in s.locks()))
            spec = make_spec(arguments, image, lowers, locks, context.env)
            if arguments.detach:
                return _run_detached(spec, store, image, context)
            return _run_attached(spec, arguments.interactive, context)


def make_spec(
    arguments: argparse.Namespace,
    image: Image,
    lowers: Sequence[Path],
    locks: Sequence[Path],
    env: Mapping[str, str],
) -> ContainerSpec:
    """The container that the command line and the image's configuration ask for."""
    config = image.config.config
    user = resolve_user(config.user if arguments.user is None else arguments.user, lowers)
    id = arguments.name or os.urandom(6).hex()
    if not ID_PATTERN.fullmatch(id):
        raise UsageError(
            f"--name {id!r} is no container's name",
            why="it has 1 to 63 of a-z 0-9 _ . - and begins with a letter or digit",
        )
    return ContainerSpec(
        id=id,
        lowers=tuple(map(str, lowers)),
        locks=tuple(map(str, locks)),
        argv=_argv(arguments, config.entrypoint, config.cmd),
        env=_env(arguments.env, config.env, user.home, env),
        cwd=arguments.workdir or config.working_dir or "/",
        user=User(user.uid, user.gid, user.groups),
        hostname=arguments.hostname or id[:63],
        limits=ContainerLimits(
            memory_bytes=None if arguments.memory is None else parse_size(arguments.memory),
            cpus=_cpus(arguments.cpus),
        ),
        network=arguments.network != "none",
        mounts=tuple(parse_volume(text) for text in arguments.volume),
        top_bytes=_top_bytes(arguments.memory),
        stop_signal=config.stop_signal or "SIGTERM",
        labels={IMAGE_LABEL: arguments.image},
        remove_on_exit=arguments.rm,
    )


def _argv(
    arguments: argparse.Namespace, entrypoint: Sequence[str], cmd: Sequence[str]
) -> tuple[str, ...]:
    """As docker puts them together: a new entrypoint drops the image's command."""
    command = list(arguments.command)
    if command[:1] == ["--"]:
        command = command[1:]
    if arguments.entrypoint is not None:
        argv = [arguments.entrypoint, *command] if arguments.entrypoint else command
    else:
        argv = [*entrypoint, *(command or cmd)]
    if not argv:
        raise HakoError("no program to run", why="neither the image nor the command line names one")
    return tuple(argv)


def _env(
    given: Sequence[str], of_image: Sequence[str], home: str, ours: Mapping[str, str]
) -> dict[str, str]:
    env = {"HOME": home} | dict(item.split("=", 1) for item in of_image if "=" in item)
    for item in given:
        name, equals, value = item.partition("=")
        if not name:
            raise UsageError(f"-e {item!r} names no variable", fix="-e NAME=VALUE")
        if equals:
            env[name] = value
        elif name in ours:
            env[name] = ours[name]
    return env


def parse_volume(text: str) -> Mount:
    """`HOST:INSIDE` with `:ro` or `:rw`, or `INSIDE` alone for an empty tmpfs.

    Raises:
        UsageError: it is none of these.
    """
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    if not rest:
        return Mount(target=source)
    if mode not in ("", "ro", "rw") or not target.startswith("/"):
        raise UsageError(f"-v {text!r} is no volume", fix="-v HOST:INSIDE, or -v HOST:INSIDE:ro")
    path = Path(source).absolute()
    if not path.exists():
        raise UsageError(f"-v {text!r}: there is no {path}", fix="make the folder first")
    return Mount(target=target, source=str(path), read_only=mode == "ro")


def parse_size(text: str) -> int:
    """`512m`, `1g`, `1.5g`, `64k` or bytes, powers of 1024 as docker's.

    Raises:
        UsageError: it is no size, or below the 6 MB that a container needs.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([bkmg]?)b?", text.strip().lower())
    size = int(float(match[1]) * _SIZES[match[2]]) if match else 0
    if size < 6 << 20:
        raise UsageError(f"--memory {text!r} is too little, or no size", fix="--memory 512m")
    return size


def _top_bytes(memory: str | None) -> int:
    """The top is memory of the container's, so half of its limit at most, and 1 GiB where there is none."""
    return 1 << 30 if memory is None else parse_size(memory) // 2


def _cpus(value: float | None) -> float | None:
    if value is not None and not 0.01 <= value <= 4096:
        raise UsageError(f"--cpus {value:g} is out of range", fix="--cpus 0.5")
    return value


def _run_attached(spec: ContainerSpec, interactive: bool, context: Context) -> int:
    from hakobune.runtime.foreground import run_foreground  # a detached container needs none of it

    for stream in (context.out, context.err):
        stream.flush()
    ended = run_foreground(
        spec,
        context.settings,
        stdin=sys.stdin.fileno() if interactive else None,
        stdout=context.out.fileno(),
        stderr=context.err.fileno(),
    )
    if ended.oom_killed and ended.exit_code == 137:
        limit = (spec.limits.memory_bytes or 0) >> 20
        print(f"killed: it needed more than its {limit} MiB of memory", file=context.err)
    return ended.exit_code


def _run_detached(spec: ContainerSpec, store: Store, image: Image, context: Context) -> int:
    ensure_supervisor(context.settings)
    store.set_root("containers", spec.id, [image.digest])
    with SupervisorClient(context.settings.supervisor_socket) as client:
        try:
            client.create(spec)
        except ContainerError as error:
            if error.kind != "exists":
                store.drop_root("containers", spec.id)
            raise
        client.start(spec.id)
    print(spec.id, file=context.out)
    return 0


# ls, logs, stop, rm


def _client(context: Context) -> SupervisorClient:
    return SupervisorClient(context.settings.supervisor_socket)


def _list(arguments: argparse.Namespace, context: Context) -> int:
    try:
        with _client(context) as client:
            statuses = client.list()
    except SupervisorUnavailableError:
        statuses = ()
    shown = [s for s in statuses if arguments.all or s.phase is not Phase.STOPPED]
    if arguments.format == "json":
        print_json([status.to_json() for status in shown], context.out)
        return 0
    rows = [
        (s.id, s.labels.get(IMAGE_LABEL, "-"), describe_phase(s, time.time()), s.address or "-")
        for s in shown
    ]
    print_table(("CONTAINER", "IMAGE", "STATUS", "ADDRESS"), rows, context.out)
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


def _stop(arguments: argparse.Namespace, context: Context) -> int:
    with _client(context) as client:
        for id in arguments.containers:
            client.stop(id, timeout_s=arguments.time)
            print(id, file=context.out)
    return 0


def _remove(arguments: argparse.Namespace, context: Context) -> int:
    with _client(context) as client, Store(context.settings.home) as store:
        for id in arguments.containers:
            with contextlib.suppress(SupervisorUnavailableError):
                client.remove(id, force=arguments.force)
            store.drop_root("containers", id)
            print(id, file=context.out)
    return 0
