"""`hako container run`: from a command line and an image to a container, as docker puts them together."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hakobune.cli.container_process import environment, exit_code_of
from hakobune.cli.container_roots import drop_stale_roots
from hakobune.cli.main import Context
from hakobune.cli.pull_option import get_image
from hakobune.cli.serve import ensure_supervisor
from hakobune.errors import HakoError, UsageError
from hakobune.oci.image_user import resolve_user
from hakobune.oci.manifest import Image
from hakobune.oci.platform import Platform
from hakobune.oci.snapshot import stacked_dirs
from hakobune.oci.store import Store
from hakobune.runtime.container import (
    ID_PATTERN,
    ContainerError,
    ContainerLimits,
    ContainerSpec,
    Mount,
    PublishedPort,
    User,
)
from hakobune.runtime.detach_keys import parse_detach_keys
from hakobune.runtime.foreground_record import find_foreground
from hakobune.runtime.supervisor_client import SupervisorClient

IMAGE_LABEL = "hako.image"
_SIZES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Exit codes are docker's: 125 not started, 126 not executable, 127 no such program, else the container's."""
    try:
        return _run_container(arguments, context)
    except UsageError:
        raise
    except HakoError as error:
        print(f"error: {error}", file=context.err)
        return exit_code_of(error)


def _run_container(arguments: argparse.Namespace, context: Context) -> int:
    keys = parse_detach_keys(arguments.detach_keys)
    with Store(context.settings.home) as store:
        image = get_image(store, arguments.image, arguments, context)
        if not image.platform.matches(Platform.host()):
            from hakobune.runtime.emulation import check_can_run  # most images are this machine's

            check_can_run(image.platform, name=arguments.image)
        snapshots, hold = store.hold_image(image)
        with hold:
            lowers = stacked_dirs(snapshots)
            locks = tuple(dict.fromkeys(lock for s in snapshots for lock in s.locks()))
            spec = make_spec(arguments, image, lowers, locks, context.env)
            if arguments.detach:
                spec = _detachable(spec, arguments, context)
                return _run_detached(spec, store, image, context)
            if _can_be_left(arguments):
                return _run_leavable(spec, keys, store, image, context)
            return _run_attached(spec, arguments, context)


def make_spec(
    arguments: argparse.Namespace,
    image: Image,
    lowers: Sequence[Path],
    locks: Sequence[Path],
    env: Mapping[str, str],
) -> ContainerSpec:
    """The container that the command line and the image's configuration ask for."""
    config = image.config.config
    network = _network(arguments)
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
        env=environment(
            arguments.env, [f"HOME={user.home}", *_terminal(arguments), *config.env], env
        ),
        cwd=arguments.workdir or config.working_dir or "/",
        user=User(user.uid, user.gid, user.groups),
        hostname=arguments.hostname or id[:63],
        limits=ContainerLimits(
            memory_bytes=None if arguments.memory is None else parse_size(arguments.memory),
            cpus=_cpus(arguments.cpus),
        ),
        network=network == "bridge",
        host_network=network == "host",
        ports=_ports(arguments, config.exposed_ports),
        mounts=tuple(parse_volume(text) for text in arguments.volume),
        top_bytes=_top_bytes(arguments.memory),
        stop_signal=config.stop_signal or "SIGTERM",
        labels={IMAGE_LABEL: arguments.image},
        remove_on_exit=arguments.rm,
    )


def _network(arguments: argparse.Namespace) -> str:
    """`bridge`, `none`, `host` or `container:NAME`."""
    network: str = arguments.network
    joins = network.startswith("container:") and network != "container:"
    if network not in ("bridge", "none", "host") and not joins:
        raise UsageError(
            f"there is no network {network!r}", fix="--network bridge, none, host or container:NAME"
        )
    if network != "bridge" and (arguments.publish or arguments.publish_all):
        raise UsageError(
            f"-p does nothing with --network {network}",
            why="the container has no address of its own there",
            fix="leave one of them away"
            if network != "host"
            else "leave -p away: its ports are the host's",
        )
    return network


def _ports(
    arguments: argparse.Namespace, exposed: Mapping[str, object]
) -> tuple[PublishedPort, ...]:
    from hakobune.cli.published_port import parse_exposed, parse_published

    given = [port for text in arguments.publish for port in parse_published(text)]
    known = {(port.container_port, port.protocol) for port in given}
    if arguments.publish_all:
        given += [
            port
            for port in map(parse_exposed, exposed)
            if (port.container_port, port.protocol) not in known
        ]
    return tuple(given)


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


def _terminal(arguments: argparse.Namespace) -> tuple[str, ...]:
    return ("TERM=xterm",) if arguments.tty else ()


def _detachable(
    spec: ContainerSpec, arguments: argparse.Namespace, context: Context
) -> ContainerSpec:
    """What is the supervisor's, with a top on disk: what it writes outlives `stop` and `start`."""
    if arguments.network.startswith("container:"):
        raise UsageError(
            f"--network {arguments.network} does not go with -d",
            why="the container ends with the one whose network it shares, so a command watches it",
            fix="leave -d away",
        )
    spec = replace(spec, interactive=arguments.interactive, terminal=arguments.tty)
    return spec if spec.remove_on_exit else _with_top_on_disk(spec, context)


def _with_top_on_disk(spec: ContainerSpec, context: Context) -> ContainerSpec:
    return replace(spec, top=str(context.settings.home / "containers" / spec.id / "top"))


def _can_be_left(arguments: argparse.Namespace) -> bool:
    """Whether there is a person who may type the keys: the supervisor has the container from the beginning then.

    One that shares another's network ends with that, and so has a command to itself.
    """
    typed = arguments.interactive and arguments.tty and sys.stdin.isatty()
    return typed and not arguments.network.startswith("container:")


def _joined(network: str, context: Context) -> int | None:
    """The process whose network is shared."""
    kind, _, id = network.partition(":")
    if kind != "container":
        return None
    from hakobune.runtime.execute import find_target

    return find_target(context.settings, id).pid


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


def _run_attached(spec: ContainerSpec, arguments: argparse.Namespace, context: Context) -> int:
    from hakobune.runtime.foreground import run_foreground  # a detached container needs none of it

    for stream in (context.out, context.err):
        stream.flush()
    ended = run_foreground(
        spec,
        context.settings,
        stdin=sys.stdin.fileno() if arguments.interactive else None,
        stdout=context.out.fileno(),
        stderr=context.err.fileno(),
        terminal=arguments.tty,
        join=_joined(arguments.network, context),
    )
    if ended.oom_killed and ended.exit_code == 137:
        limit = (spec.limits.memory_bytes or 0) >> 20
        print(f"killed: it needed more than its {limit} MiB of memory", file=context.err)
    return ended.exit_code


def _run_detached(spec: ContainerSpec, store: Store, image: Image, context: Context) -> int:
    with SupervisorClient(context.settings.supervisor_socket) as client:
        _create(spec, store, image, context, client)
        client.start(spec.id)
    print(spec.id, file=context.out)
    return 0


def _create(
    spec: ContainerSpec, store: Store, image: Image, context: Context, client: SupervisorClient
) -> None:
    """Make it the supervisor's, up to the point where its program may begin."""
    if find_foreground(context.settings, spec.id) is not None:
        raise ContainerError(
            f"cannot make the container {spec.id!r}", why="there is one already", kind="exists"
        )
    ensure_supervisor(context.settings)
    drop_stale_roots(store, context.settings.home)
    store.set_root("containers", spec.id, [image.digest])
    try:
        client.create(spec)
    except ContainerError as error:
        if error.kind != "exists":
            store.drop_root("containers", spec.id)
        raise


def _run_leavable(
    spec: ContainerSpec,
    keys: bytes,
    store: Store,
    image: Image,
    context: Context,
) -> int:
    """At a terminal: it ends with the command, unless the person leaves it by the keys. Then it stays, as with -d."""
    from hakobune.cli.container_attach import stand_before

    kept = not spec.remove_on_exit
    spec = replace(spec, interactive=True, terminal=True, owned=True, remove_on_exit=True)
    if kept:
        spec = _with_top_on_disk(spec, context)
    was_left = False

    with SupervisorClient(context.settings.supervisor_socket) as client:

        def let_go() -> bool:
            nonlocal was_left
            try:
                client.keep(spec.id, forgotten_at_end=not kept)
            except ContainerError:  # it has ended this moment
                return False
            was_left = True
            return True

        _create(spec, store, image, context, client)
        try:
            return stand_before(
                spec.id,
                context,
                keys=keys,
                typing=True,
                signals=True,
                begin=lambda: client.start(spec.id),
                owner=True,
                let_go=let_go,
            )
        finally:
            if not was_left:
                store.drop_root("containers", spec.id)
