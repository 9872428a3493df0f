"""One declaration a setting, and the places on disk that follow from `HAKO_HOME`.

Flag over environment over default. Two installations live side by side because everything they touch
(files, sockets, ports, bridge, nftables table, cgroups, id ranges) follows from `home` and `listen`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hakobune.errors import UsageError

_MIRROR = re.compile(r"([A-Za-z0-9][A-Za-z0-9.-]*(?::\d{1,5})?)=([a-z0-9._-]+)/([a-z0-9._-]+)")
DEFAULT_LISTEN = "localhost:8080"
SERVICE_PORTS = 100
REGISTRY_GRACE_S = 24 * 3600.0
# As Cloud Audit Logs keep admin activity: a year, and time to look at it.
REGISTRY_HISTORY_DAYS = 400
REGISTRY_PORT_DISTANCE = 10100  # just above the service ports
NOWHERE = "off"
RUNTIMES = ("crun", "runc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How one setting is spelled, what it is when nobody says, and what it means."""

    variable: str
    default: str
    meaning: str


SETTINGS = (
    Setting(
        variable="HAKO_HOME",
        default="/var/lib/hakobune for root, else $XDG_DATA_HOME/hakobune",
        meaning="the folder that holds images, builds, containers, services and everything that runs",
    ),
    Setting(
        variable="HAKO_LISTEN",
        default=DEFAULT_LISTEN,
        meaning="HOST:PORT of the services, the Google APIs and the registry; service ports follow from it",
    ),
    Setting(
        variable="HAKO_PORTS",
        default="HAKO_LISTEN's port + 10000, 100 ports",
        meaning="FIRST-LAST: the range from which each service gets a stable port of its own",
    ),
    Setting(
        variable="HAKO_RUNTIME",
        default="crun",
        meaning="the OCI runtime that starts containers and instances: crun, or runc (four times slower)",
    ),
    Setting(
        variable="HAKO_REGISTRY_LISTEN",
        default="HAKO_LISTEN's host, its port + 10100",
        meaning="HOST:PORT at which the registry answers without HAProxy before it, with /metrics and /healthz; "
        "or `off`. It also answers at HAKO_LISTEN",
    ),
    Setting(
        variable="HAKO_REGISTRY_DATABASE",
        default="sqlite:///HAKO_HOME/registry/meta.db",
        meaning="URL of the database of repositories, manifests, tags and rights: sqlite:///PATH, or "
        "postgresql://USER:PASSWORD@HOST/NAME",
    ),
    Setting(
        variable="HAKO_REGISTRY_STORAGE",
        default="HAKO_HOME/registry",
        meaning="where the registry keeps blobs: a folder, or s3://BUCKET/PREFIX?endpoint=URL",
    ),
    Setting(
        variable="HAKO_REGISTRY_GRACE",
        default="86400",
        meaning="seconds for which a blob that no manifest names stays after it was pushed or asked for last; "
        "pushes that take longer may fail, so it is 600 or more except in tests",
    ),
    Setting(
        variable="HAKO_REGISTRY_HISTORY_DAYS",
        default="400",
        meaning="days for which the registry's audit trail and the history of its tags are kept; 0: for ever. "
        "400 is what Cloud Audit Logs keep of changes: a year, and time to look at it",
    ),
    Setting(
        variable="HAKO_REGISTRY_MIRRORS",
        default="",
        meaning="host names and namespaces that stand for a repository, NAME=PROJECT/REPOSITORY with spaces between them: "
        "docker's `registry-mirrors` have no path, containerd says `?ns=docker.io`",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where an installation lives and what it listens on."""

    home: Path
    host: str
    port: int
    first_service_port: int
    last_service_port: int
    runtime: str = RUNTIMES[0]
    registry_listen: tuple[str, int] | None = None  # None: no port of its own
    registry_database: str = ""
    registry_storage: str = ""
    registry_grace_s: float = REGISTRY_GRACE_S
    registry_history_days: int = REGISTRY_HISTORY_DAYS  # 0: for ever
    registry_mirrors: tuple[tuple[str, str, str], ...] = ()  # name, project, repository

    @classmethod
    def from_environment(cls, env: Mapping[str, str], *, uid: int) -> Settings:
        """Read the `HAKO_…` variables.

        Raises:
            UsageError: a value cannot be understood; the variable is named.
        """
        home = Path(env.get("HAKO_HOME") or _default_home(env, uid)).absolute()
        host, port = _parse_listen(env.get("HAKO_LISTEN") or DEFAULT_LISTEN)
        first, last = _parse_ports(env.get("HAKO_PORTS"), port)
        return cls(
            home=home,
            host=host,
            port=port,
            first_service_port=first,
            last_service_port=last,
            runtime=_parse_runtime(env.get("HAKO_RUNTIME") or RUNTIMES[0]),
            registry_listen=_parse_registry_listen(env.get("HAKO_REGISTRY_LISTEN"), host, port),
            registry_database=_parse_database(
                env.get("HAKO_REGISTRY_DATABASE") or f"sqlite:///{home}/registry/meta.db"
            ),
            registry_storage=_parse_storage(env.get("HAKO_REGISTRY_STORAGE") or f"{home}/registry"),
            registry_grace_s=_parse_grace(env.get("HAKO_REGISTRY_GRACE")),
            registry_history_days=_parse_history_days(env.get("HAKO_REGISTRY_HISTORY_DAYS")),
            registry_mirrors=_parse_mirrors(env.get("HAKO_REGISTRY_MIRRORS") or ""),
        )

    @property
    def run(self) -> Path:
        """Sockets and other state that may vanish at a reboot."""
        return self.home / "run"

    @property
    def api_socket(self) -> Path:
        """The Google APIs for this machine's own users (peer credentials are the identity)."""
        return self.run / "api.sock"

    @property
    def api_tcp_socket(self) -> Path:
        """The same for what came over TCP and was handed on: callers are known by their tokens."""
        return self.run / "api-tcp.sock"

    @property
    def supervisor_socket(self) -> Path:
        return self.run / "supervisor.sock"

    @property
    def registry(self) -> Path:
        """What the registry keeps on this machine, wherever database and blobs are."""
        return self.home / "registry"

    @property
    def registry_files(self) -> Path:
        """The folder of blobs and of what is on its way to become one; with blobs in S3, of the latter alone."""
        elsewhere = self.registry_storage.startswith("s3://")
        return self.registry if elsewhere else Path(self.registry_storage)

    @property
    def registry_hosts(self) -> tuple[str, ...]:
        """`HOST:PORT` by which this machine's programs reach the registry: an upstream there is one of its own repositories."""
        ports = [self.port]
        if self.registry_listen is not None:
            ports.append(self.registry_listen[1])
        own = f"[{self.host}]" if ":" in self.host else self.host
        hosts = dict.fromkeys((own, "localhost", "127.0.0.1", "[::1]"))
        return tuple(f"{host}:{port}" for host in hosts for port in ports)

    @property
    def mirror_hosts(self) -> tuple[str, ...]:
        """The names in HAKO_REGISTRY_MIRRORS without their ports, sorted."""
        return tuple(sorted({name.partition(":")[0] for name, _, _ in self.registry_mirrors}))

    @property
    def registry_socket(self) -> Path:
        """The registry for this machine's own users (peer credentials are the identity)."""
        return self.run / "registry.sock"

    @property
    def registry_tcp_socket(self) -> Path:
        """The registry for what HAProxy forwards; its peer means nothing."""
        return self.run / "registry-tcp.sock"

    @property
    def grpc_socket(self) -> Path:
        """The Google APIs by gRPC, for what HAProxy forwards; its peer means nothing."""
        return self.run / "grpc.sock"

    @property
    def is_default_home(self) -> bool:
        return str(self.home) == "/var/lib/hakobune"

    @property
    def installation(self) -> str:
        """A short name for kernel objects: `hako`, or `hako` with six hex digits of the home's path.

        At most ten characters, so that an interface name (15) has room for a suffix.
        """
        if self.is_default_home:
            return "hako"
        return "hako" + hashlib.sha256(str(self.home).encode()).hexdigest()[:6]


def _default_home(env: Mapping[str, str], uid: int) -> str:
    if uid == 0:
        return "/var/lib/hakobune"
    data = env.get("XDG_DATA_HOME") or os.path.join(env.get("HOME", "/"), ".local/share")
    return os.path.join(data, "hakobune")


def _parse_runtime(text: str) -> str:
    if text not in RUNTIMES:
        raise UsageError(
            f"cannot run containers with {text!r}",
            why="HAKO_RUNTIME is the name of an OCI runtime that hakobune knows",
            fix=f"HAKO_RUNTIME={' or HAKO_RUNTIME='.join(RUNTIMES)}",
        )
    return text


def _parse_listen(
    text: str, *, variable: str = "HAKO_LISTEN", example: str = DEFAULT_LISTEN
) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(
            f"cannot listen on {text!r}",
            why=f"{variable} is HOST:PORT with a port from 1 to 65535",
            fix=f"{variable}={example}",
        )
    return host.strip("[]"), int(port)


def _parse_registry_listen(text: str | None, host: str, port: int) -> tuple[str, int] | None:
    if text == NOWHERE:
        return None
    if text:
        return _parse_listen(text, variable="HAKO_REGISTRY_LISTEN", example="localhost:18180")
    own = port + REGISTRY_PORT_DISTANCE
    return (host, own) if own < 65536 else None


def _parse_database(url: str) -> str:
    if not url.startswith(("sqlite:///", "postgresql://")):
        shown = url.partition("@")[2] or url  # never a password
        raise UsageError(
            f"cannot keep the registry's metadata in {shown!r}",
            why="HAKO_REGISTRY_DATABASE is a URL that begins with sqlite:/// or postgresql://",
            fix="HAKO_REGISTRY_DATABASE=postgresql://hako:PASSWORD@localhost/hako",
        )
    return url


def _parse_storage(text: str) -> str:
    if not text.startswith(("/", "s3://")):
        raise UsageError(
            f"cannot keep blobs in {text!r}",
            why="HAKO_REGISTRY_STORAGE is the whole path of a folder, or begins with s3://",
            fix="HAKO_REGISTRY_STORAGE=/srv/blobs",
        )
    return text


def _parse_grace(text: str | None) -> float:
    if not text:
        return REGISTRY_GRACE_S
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 10**9:
        raise UsageError(
            f"cannot wait {text!r} before a blob that nothing names is removed",
            why="HAKO_REGISTRY_GRACE is a number of seconds",
            fix="HAKO_REGISTRY_GRACE=86400",
        )
    return seconds


def _parse_history_days(text: str | None) -> int:
    if not text:
        return REGISTRY_HISTORY_DAYS
    if not text.isascii() or not text.isdecimal() or len(text) > 6:
        raise UsageError(
            f"cannot keep the registry's audit trail for {text!r}",
            why="HAKO_REGISTRY_HISTORY_DAYS is a whole number of days, or 0 for ever",
            fix=f"HAKO_REGISTRY_HISTORY_DAYS={REGISTRY_HISTORY_DAYS}",
        )
    return int(text)


def _parse_mirrors(text: str) -> tuple[tuple[str, str, str], ...]:
    entries = []
    for item in text.replace(",", " ").split():
        match = _MIRROR.fullmatch(item)
        if match is None:
            raise UsageError(
                f"{item[:200]!r} in HAKO_REGISTRY_MIRRORS is no mirror",
                why="entries are HOST=PROJECT/REPOSITORY or NAMESPACE=PROJECT/REPOSITORY",
                fix="for example HAKO_REGISTRY_MIRRORS='mirror.localhost=hako/hub docker.io=hako/hub'",
            )
        entries.append((match[1].lower(), match[2], match[3]))
    return tuple(entries)


def _parse_ports(text: str | None, listen_port: int) -> tuple[int, int]:
    if not text:
        first = listen_port + 10000 if listen_port < 65536 - 10000 - SERVICE_PORTS else 20000
        return first, first + SERVICE_PORTS - 1
    first_text, _, last_text = text.partition("-")
    if not (first_text.isdecimal() and last_text.isdecimal()) or not (
        0 < int(first_text) <= int(last_text) < 65536
    ):
        raise UsageError(
            f"cannot use {text!r} as service ports",
            why="HAKO_PORTS is FIRST-LAST with ports from 1 to 65535",
            fix="HAKO_PORTS=18080-18179",
        )
    return int(first_text), int(last_text)
