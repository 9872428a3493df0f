"""What `hako container run` asks for: options and an image's configuration as one specification, as docker puts them together."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from hakobune.cli.container_process import environment
from hakobune.errors import HakoError, UsageError
from hakobune.oci.image_user import resolve_user
from hakobune.oci.manifest import Image
from hakobune.runtime.container import (
    ID_PATTERN,
    ContainerLimits,
    ContainerSpec,
    Mount,
    PublishedPort,
    User,
)

IMAGE_LABEL = "hako.image"
_SIZES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


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
