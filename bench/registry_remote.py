"""Eight cold readers of one remote blob of 256 MiB: ours, and docker-registry as a proxy of the same upstream.

    .venv/bin/python bench/registry_remote.py [--rounds N] [--size-mb N] [--readers N] [--peer PROGRAM]

The cache runs on core 0, upstream and readers on core 1, as in facts/registry.md §5. Each round has a blob of its own.
Counted: wall time until the last reader has all, CPU seconds of the cache's processes, the slowest first byte, requests
that the upstream got. Needs docker-registry and a C compiler.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from harness import ROOT

sys.path.insert(0, str(ROOT))

from hakobune.registry.generation import Generation
from hakobune.registry.metadata import Metadata
from hakobune.registry.repository import Mode, RemoteConfig, Repository
from hakobune.state.sql import open_sql
from tests.e2e.installation import free_ports
from tests.registry_client import RegistryHttp
from tests.registry_server import HakoRegistry, hako_registry

CACHE_CORE, OTHER_CORE = "0", "1"


@dataclass(frozen=True, slots=True)
class Taken:
    """One round."""

    wall_s: float
    cpu_s: float
    slowest_first_byte_s: float
    transfers: int


@contextlib.contextmanager
def program(
    folder: Path, argv: list[str], core: str, settings: dict[str, object]
) -> Iterator[tuple[str, int]]:
    """A registry of Docker's; gives HOST:PORT and its pid."""
    folder.mkdir(parents=True)
    host = f"127.0.0.1:{free_ports(1)}"
    configuration = folder / "config.yml"
    configuration.write_text(
        json.dumps(
            {
                "version": "0.1",
                "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
                "http": {"addr": host, "secret": "bench"},
                **settings,
            }
        )
    )
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            ["taskset", "-c", core, *argv, "serve", str(configuration)],
            stdout=log,
            stderr=log,
            env={"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none", "GOMAXPROCS": "1"},
        )
    try:
        for _ in range(500):
            with contextlib.suppress(OSError), RegistryHttp(f"http://{host}") as client:
                if client.send("GET", "/v2/").status == 200:
                    break
            time.sleep(0.02)
        yield host, process.pid
    finally:
        process.terminate()
        process.wait(20)


def push_blob(host: str, size: int) -> str:
    """A new random blob in `shop/web` of the upstream."""
    data = os.urandom(size)
    digest = f"sha256:{sha256(data).hexdigest()}"
    with RegistryHttp(f"http://{host}") as client:
        begun = client.send("POST", "/v2/shop/web/blobs/uploads/")
        done = client.send("PUT", begun.header("location"), data, parameters=[("digest", digest)])
        assert done.status == 201, done
    return digest


def cpu_s(pids: list[int]) -> float:
    """User and system seconds of these processes so far."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def drain(tool: Path, host: str, path: str, readers: int, headers: str) -> tuple[float, float]:
    """Seconds until all have all, and the slowest first byte."""
    name, _, port = host.rpartition(":")
    argv = ["taskset", "-c", OTHER_CORE, str(tool), name, port, str(readers), "ONCE", headers, path]
    began = time.monotonic()
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    wall = time.monotonic() - began
    _, _, _, first, errors = done.stdout.split()
    if errors != "0":
        raise SystemExit(f"{path}: {errors} errors")
    return wall, float(first)


def transfers(log: Path, digest: str) -> int:
    """How often the upstream was asked for the blob itself."""
    return len(re.findall(rf'"GET /v2/\S*{digest} HTTP', log.read_text()))


def add_remote(server: HakoRegistry, upstream: str) -> str:
    """PROJECT/NAME of a new remote repository."""

    async def create() -> Repository:
        sql = await open_sql(f"sqlite:///{server.home}/registry/meta.db")
        generation = Generation(server.home / "registry/generation")
        try:
            return await Metadata(sql, generation).create_repository(
                Repository(
                    project="bench",
                    location="local",
                    name="hub",
                    mode=Mode.REMOTE,
                    remote=RemoteConfig(upstream=f"http://{upstream}"),
                ),
                "owner",
            )
        finally:
            await sql.close()
            generation.close()

    return asyncio.run(create()).path


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size-mb", type=int, default=256)
    parser.add_argument("--readers", type=int, default=8)
    parser.add_argument("--peer", default="docker-registry")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hk-bench-", dir="/var/tmp") as name:
        folder = Path(name)
        tool = folder / "drain"
        subprocess.run(
            ["cc", "-O2", "-D_GNU_SOURCE", "-o", tool, ROOT / "bench/drain.c"], check=True
        )
        with (
            program(folder / "upstream", ["docker-registry"], OTHER_CORE, {}) as (upstream, _),
            program(
                folder / "peer",
                [options.peer],
                CACHE_CORE,
                {
                    "proxy": {"remoteurl": f"http://{upstream}"},
                    "log": {"accesslog": {"disabled": True}},
                },
            ) as (peer, peer_pid),
            hako_registry(prefix=("taskset", "-c", CACHE_CORE)) as server,
        ):
            hub = add_remote(server, upstream)
            headers = f"Authorization: Bearer {server.owner_token}"
            assert server.process is not None
            ours = [server.process.pid, *server.children()]
            series: dict[str, list[Taken]] = {"ours": [], options.peer: []}

            def take(
                name: str, host: str, path: Callable[[str], str], pids: list[int], more: str
            ) -> None:
                digest = push_blob(upstream, options.size_mb << 20)
                before = cpu_s(pids)
                wall, first = drain(tool, host, path(digest), options.readers, more)
                found = transfers(folder / "upstream/log", digest)
                series[name].append(Taken(wall, cpu_s(pids) - before, first, found))

            for _ in range(options.rounds):
                take("ours", server.host, lambda d: f"/v2/{hub}/shop/web/blobs/{d}", ours, headers)
                take(options.peer, peer, lambda d: f"/v2/shop/web/blobs/{d}", [peer_pid], "")
        print(
            f"{options.readers} cold readers of {options.size_mb} MiB, medians of {options.rounds}"
        )
        for name, rounds in series.items():
            print(
                f"{name}: {statistics.median(t.wall_s for t in rounds):.2f} s wall, "
                f"{statistics.median(t.cpu_s for t in rounds):.2f} s CPU, "
                f"slowest first byte {statistics.median(t.slowest_first_byte_s for t in rounds) * 1000:.0f} ms, "
                f"upstream transfers {sorted({t.transfers for t in rounds})}"
            )


if __name__ == "__main__":
    main()
