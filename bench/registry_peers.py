"""The registries that bench/registry_server.py compares, each pinned to one core, and what their processes cost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from harness import ROOT

sys.path.insert(0, str(ROOT))

from hakobune.registry.generation import Generation
from hakobune.registry.metadata import Metadata
from hakobune.registry.repository import Mode, RemoteConfig, Repository
from hakobune.state.sql import open_sql
from tests.e2e.installation import free_ports
from tests.real_registry import go_tool
from tests.registry_client import RegistryHttp
from tests.registry_server import hako_registry

SERVER_CORE, CLIENT_CORE = "0", "1"
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
OURS, DEBIANS, NEW = "hako", "docker-registry 2.8.2", "distribution 3.1.1"


@dataclass(frozen=True, slots=True)
class Server:
    """A running registry.

    Attributes:
        headers: lines that its clients send.
        cached: what stands before an image's name to have it come through the cache of `upstream`.
    """

    name: str
    host: str
    pid: int
    headers: tuple[str, ...] = ()
    home: Path | None = None

    @property
    def address(self) -> tuple[str, str]:
        host, _, port = self.host.partition(":")
        return host, port

    def http(self) -> RegistryHttp:
        authorization = self.headers[0].partition(": ")[2] if self.headers else ""
        return RegistryHttp(f"http://{self.host}", authorization=authorization)

    def cpu_s(self) -> float:
        """Seconds of CPU of its processes so far."""
        return sum(cpu_s(pid) for pid in tree(self.pid))

    def memory(self) -> Memory:
        """What its processes have now, and had at most since `forget_peaks`."""
        taken = [_memory_of(pid) for pid in tree(self.pid)]
        return Memory(
            processes=len(taken),
            pss_mb=sum(pss for pss, _, _ in taken),
            rss_mb=tuple(rss for _, rss, _ in taken),
            peak_mb=sum(peak for _, _, peak in taken),
        )

    def forget_peaks(self) -> None:
        for pid in tree(self.pid):
            Path(f"/proc/{pid}/clear_refs").write_text("5")


@dataclass(frozen=True, slots=True)
class Memory:
    """Of a tree of processes, in MB; *rss_mb* has the parent first."""

    processes: int
    pss_mb: float
    rss_mb: tuple[float, ...]
    peak_mb: float


def tree(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text()
            found += [int(child) for child in children.split()]
    return found


def cpu_s(pid: int) -> float:
    """Of one process and of those of its children that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return 0.0
    return sum(int(text) for text in fields[11:15]) * TICK_S


def _memory_of(pid: int) -> tuple[float, float, float]:
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    pss = next(line for line in rollup if line.startswith("Pss:"))
    return tuple(
        int(text.split()[0]) / 1024
        for text in (pss.split(":")[1], status["VmRSS"], status["VmHWM"])
    )  # type: ignore[return-value] # three


@contextlib.contextmanager
def ours(folder: Path) -> Iterator[Server]:
    """Ours with one worker on its core, as it is shipped: rights, access log and metrics on."""
    folder.mkdir()
    pinned = ("taskset", "-c", SERVER_CORE)
    with hako_registry(home=folder, prefix=pinned) as registry:
        assert registry.process is not None
        token = f"Authorization: Bearer {registry.owner_token}"
        yield Server(OURS, registry.host, registry.process.pid, (token,), folder)


@contextlib.contextmanager
def distribution(
    folder: Path,
    name: str,
    *,
    core: str = SERVER_CORE,
    upstream: str = "",
    access_log: bool = False,
) -> Iterator[Server]:
    """Debian's docker-registry or distribution 3, without rights and logs, descriptors cached in memory.

    Args:
        upstream: the registry that it is a cache of.
        access_log: requests are written to *folder*/log.
    """
    folder.mkdir()
    program = "docker-registry" if name == DEBIANS else go_tool("registry")
    port = free_ports(1)
    settings: dict[str, object] = {
        "version": "0.1",
        "log": {
            "level": "info" if access_log else "error",
            "accesslog": {"disabled": not access_log},
        },
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "data")},
            "delete": {"enabled": True},
            "cache": {"blobdescriptor": "inmemory"},
        },
        "http": {"addr": f"127.0.0.1:{port}", "secret": "bench"},
    }
    if upstream:
        settings["proxy"] = {"remoteurl": f"http://{upstream}"}
    (folder / "config.yml").write_text(json.dumps(settings))
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            ["taskset", "-c", core, program, "serve", str(folder / "config.yml")],
            stdout=log,
            stderr=log,
            env={"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"},
        )
    try:
        _await_port(port)
        yield Server(name, f"127.0.0.1:{port}", process.pid, home=folder)
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def haproxy(folder: Path, server: Server) -> Iterator[Server]:
    """HAProxy on the server's core before *server*, in its unix socket if it has one."""
    folder.mkdir()
    port = free_ports(1)
    unix = server.home / "run/registry-tcp.sock" if server.name == OURS and server.home else None
    target = f"unix@{unix}" if unix else server.host
    (folder / "haproxy.cfg").write_text(
        "global\n  nbthread 1\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n"
        "  timeout server 60s\n  option http-keep-alive\n  http-reuse always\n"
        f"listen bench\n  bind 127.0.0.1:{port}\n  server one {target}\n"
    )
    process = subprocess.Popen(
        ["taskset", "-c", SERVER_CORE, "haproxy", "-db", "-f", str(folder / "haproxy.cfg")]
    )
    try:
        _await_port(port)
        yield Server(
            f"{server.name} behind HAProxy", f"127.0.0.1:{port}", process.pid, server.headers
        )
    finally:
        process.terminate()
        process.wait(10)


def _await_port(port: int) -> None:
    end = time.monotonic() + 20
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert time.monotonic() < end, f"nobody listens on {port}"
        time.sleep(0.02)


def add_cache_of(server: Server, upstream: str) -> str:
    """Give our registry a remote repository in front of *upstream*; what stands before an image's name."""
    assert server.home is not None
    home = server.home

    async def create() -> str:
        sql = await open_sql(f"sqlite:///{home}/registry/meta.db")
        generation = Generation(home / "registry/generation")
        try:
            made = await Metadata(sql, generation).create_repository(
                Repository(
                    project="bench",
                    location="local",
                    name="cache",
                    mode=Mode.REMOTE,
                    remote=RemoteConfig(upstream=f"http://{upstream}"),
                ),
                "owner",
            )
            return f"{made.path}/"
        finally:
            await sql.close()
            generation.close()

    return asyncio.run(create())


@dataclass
class Costs:
    """CPU seconds of servers over a block of code."""

    servers: tuple[Server, ...]
    cpu_s: float = 0.0
    wall_s: float = 0.0
    _before: float = field(default=0.0)

    def __enter__(self) -> Costs:
        self._before = sum(server.cpu_s() for server in self.servers)
        self.wall_s = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_s = time.perf_counter() - self.wall_s
        self.cpu_s = sum(server.cpu_s() for server in self.servers) - self._before
