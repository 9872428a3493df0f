"""A container as values: what it shall be (`ContainerSpec`) and what it is (`ContainerStatus`).

The phases are the runtime-spec's ("State") plus `frozen`. Everything here is JSON-able with the standard
library alone, because the supervisor imports nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from hakobune.errors import HakoError

ID_PATTERN = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
DEFAULT_TOP_BYTES = 64 << 20
DEFAULT_PIDS = 1024
DEFAULT_LOG_BYTES = 10 << 20
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NEWER = frozenset({"interactive", "terminal", "owned"})


class ContainerError(HakoError):
    """A container cannot be made, started or found; `kind` says which.

    `kind` is one of `not_found`, `exists`, `invalid`, `phase` (a verb that does not fit the phase),
    `no_command` (argv[0] is not in the image), `not_executable`, `in_use` (an address), `failed`.
    """

    def __init__(self, what: str, *, why: str = "", fix: str = "", kind: str = "failed") -> None:
        super().__init__(what, why=why, fix=fix)
        self.kind = kind


class Phase(StrEnum):
    """Where a container is in its life."""

    CREATING = "creating"
    CREATED = "created"
    RUNNING = "running"
    FROZEN = "frozen"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class User:
    """Numeric ids inside the container."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerLimits:
    """What a container may use; `None` is "as much as there is"."""

    memory_bytes: int | None = None
    cpus: float | None = None
    pids: int | None = DEFAULT_PIDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A folder or file of the host at *target*, or with *source* `None` an empty tmpfs.

    A bind shows the ids that are on disk (it is idmapped into the container's range), and is made in
    the container's own mount namespace only.
    """

    target: str
    source: str | None = None
    read_only: bool = False
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPort:
    """A port of the host that leads to *container_port*.

    Args:
        host_port: 0 is any that is free.
        host_address: the one address that it is open on; empty is loopback, IPv4 and IPv6.
    """

    container_port: int
    host_port: int = 0
    host_address: str = ""
    protocol: str = "tcp"

    def __str__(self) -> str:
        """`127.0.0.1:8080->80/tcp`, as lists show it."""
        address = self.host_address or "127.0.0.1"
        shown = f"[{address}]" if ":" in address else address
        return f"{shown}:{self.host_port or '*'}->{self.container_port}/{self.protocol}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """What a container shall be.

    Args:
        id: unique in the installation; lower-case letters, digits, `_.-`, at most 63.
        lowers: the root file system's layer directories, uppermost first.
        locks: snapshot lock files; a shared flock is held on each while the container exists.
        top_bytes: size of the writable top, a tmpfs that counts as the container's memory.
        top: a folder on disk with `up/` and `wk/` to use as the top instead.
        env: variables of the process; `PATH` gets a default if it is missing.
        network: an address of its own on the installation's bridge, with egress; else loopback only.
        host_network: the host's own network instead, with all its interfaces and ports.
        ports: what of the host leads to it; needs `network`.
        log_path: the file that gets the output as JSON lines (several containers may share one);
            `None` is `HAKO_HOME/containers/ID/log`, which goes with the container.
        labels: free text for the owner; `list` filters by it.
        remove_on_exit: forget it, with its folder, as soon as it has stopped.
        no_new_privileges: off only where an image needs its setuid programs.
        interactive: it has standard input, from whoever is attached; else it has none.
        terminal: its streams are a terminal, which outlives those who are attached to it.
        owned: it ends, too, when the command that is attached as its owner does.
    """

    id: str
    lowers: tuple[str, ...]
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    user: User = User()
    hostname: str = ""
    limits: ContainerLimits = ContainerLimits()
    network: bool = True
    host_network: bool = False
    ports: tuple[PublishedPort, ...] = ()
    mounts: tuple[Mount, ...] = ()
    locks: tuple[str, ...] = ()
    top_bytes: int = DEFAULT_TOP_BYTES
    top: str | None = None
    read_only_root: bool = False
    no_new_privileges: bool = True
    stop_signal: str = "SIGTERM"
    log_path: str | None = None
    log_bytes: int = DEFAULT_LOG_BYTES
    labels: Mapping[str, str] = field(default_factory=dict)
    remove_on_exit: bool = False
    interactive: bool = False
    terminal: bool = False
    owned: bool = False

    @property
    def is_attended(self) -> bool:
        """Whether a process of its own keeps its terminal or its standard input."""
        return self.interactive or self.terminal or self.owned

    def to_json(self) -> dict[str, Any]:
        # A supervisor of an earlier version knows everything but the last ones.
        return {k: v for k, v in asdict(self).items() if v or k not in _NEWER}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ContainerSpec:
        """Read what `to_json` wrote and check it.

        Raises:
            ContainerError: kind `invalid`; a key is unknown, missing or of the wrong kind.
        """
        try:
            spec = cls(
                **{
                    **data,
                    "lowers": tuple(data["lowers"]),
                    "argv": tuple(data["argv"]),
                    "user": _user(data.get("user", {})),
                    "limits": ContainerLimits(**data.get("limits", {})),
                    "mounts": tuple(Mount(**m) for m in data.get("mounts", ())),
                    "locks": tuple(data.get("locks", ())),
                    "ports": tuple(PublishedPort(**p) for p in data.get("ports", ())),
                }
            )
        except (KeyError, TypeError) as error:
            raise ContainerError(
                "cannot read the container's specification", why=str(error), kind="invalid"
            ) from error
        try:
            spec.check()
        except (TypeError, AttributeError) as error:  # a value of the wrong type
            raise ContainerError(
                "cannot read the container's specification", why=str(error), kind="invalid"
            ) from error
        return spec

    def check(self) -> None:
        """Refuse what no container can be.

        Raises:
            ContainerError: kind `invalid`, naming the field.
        """
        problem = _problem(self)
        if problem:
            raise ContainerError(
                f"cannot make the container {self.id!r}", why=problem, kind="invalid"
            )


def _user(data: Mapping[str, Any]) -> User:
    return User(data.get("uid", 0), data.get("gid", 0), tuple(data.get("groups", ())))


def _problem(spec: ContainerSpec) -> str:
    if not ID_PATTERN.fullmatch(spec.id):
        return "an id is 1 to 63 of a-z 0-9 _ . - and begins with a letter or digit"
    if not spec.argv or any("\0" in word for word in spec.argv):
        return "argv needs at least one word, and no word holds a NUL"
    if not spec.lowers or not all(lower.startswith("/") for lower in spec.lowers):
        return "lowers needs at least one absolute path"
    if not spec.cwd.startswith("/"):
        return f"the working directory {spec.cwd!r} is not absolute"
    for name, value in spec.env.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            return f"the environment variable {name!r} cannot be set"
    for mount in spec.mounts:
        if not mount.target.startswith("/"):
            return f"the mount target {mount.target!r} is not absolute"
        if mount.source is not None and not mount.source.startswith("/"):
            return f"the mount source {mount.source!r} is not absolute"
    if spec.ports and (spec.host_network or not spec.network):
        return "ports can only be published where the container has an address of its own"
    for port in spec.ports:
        if not (0 < port.container_port < 65536 and 0 <= port.host_port < 65536):
            return f"{port} has a port that is not 1 to 65535"
        if port.protocol not in ("tcp", "udp"):
            return f"the protocol {port.protocol!r} is neither tcp nor udp"
    ids = (spec.user.uid, spec.user.gid, *spec.user.groups)
    if not all(0 <= i < 65536 for i in ids):
        return "user and group ids in a container are 0 to 65535"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerStatus:
    """What a container is now, as the supervisor knows it.

    `exit_code` is 128+N after signal N, as shells count; it is `None` while the container lives, and stays
    `None` for one that ended while nobody could watch. `start_time` is clock ticks since boot: pid and
    start time together name a process. `stopping`: it has been sent its stop signal.
    """

    id: str
    phase: Phase
    pid: int | None = None
    start_time: int | None = None
    address: str | None = None
    ports: tuple[PublishedPort, ...] = ()
    exit_code: int | None = None
    signal: int | None = None
    oom_killed: bool = False
    stopping: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    log_path: str = ""
    created_at: float = 0.0
    started_at: float | None = None
    stopped_at: float | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ContainerStatus:
        """Read what `to_json` wrote."""
        ports = tuple(PublishedPort(**port) for port in data.get("ports", ()))
        return cls(**{**data, "phase": Phase(data["phase"]), "ports": ports})


@dataclass(frozen=True, slots=True, kw_only=True)
class ListeningSocket:
    """A TCP socket that some process of a container listens on."""

    address: str
    port: int
    pid: int | None
    command: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
