"""Our registry against docker-registry (Debian) and distribution 3, on one core each, per second of CPU.

    .venv/bin/python bench/registry_server.py [--rounds N] [--seconds N] [--write]

Every server runs on core 0, every client on core 1; all servers run all the time, one is asked at a time, in turn. What counts
is work for a second of CPU of the server's processes (utime + stime), since the client's core is the limit of some.
Ours runs as it is shipped, with rights, access log and metrics; the others without any of them, their descriptor
cache on. Needs root, wrk, gcc, skopeo, haproxy, docker-registry and Go.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import re
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from harness import ROOT, run, write_section
from registry_peers import (  # sets the path
    CLIENT_CORE,
    DEBIANS,
    NEW,
    OURS,
    Costs,
    Memory,
    Server,
    add_cache_of,
    distribution,
    haproxy,
    ours,
)

from tests.registry_client import RegistryHttp

MIB = 1 << 20
IMAGE = "bench/images/web"
BIG, SMALL = "bench/images/big", "bench/images/small"
READERS = 8
Figures = dict[str, dict[str, list[float]]]  # by measure and server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of load for each measure")
    parser.add_argument("--write", action="store_true", help="put the figures into RESULTS.md")
    arguments = parser.parse_args()
    figures: Figures = defaultdict(lambda: defaultdict(list))
    memories: dict[str, dict[str, Memory]] = defaultdict(dict)
    with contextlib.ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="hk-", dir="/var/tmp"))
        )
        bench = Bench(folder, arguments.seconds)
        servers = [
            stack.enter_context(ours(folder / "h")),
            stack.enter_context(distribution(folder / "d3", NEW)),
            stack.enter_context(distribution(folder / "d2", DEBIANS)),
        ]
        for server in servers:
            memories["idle"][server.name] = server.memory()
            bench.fill(server)
        pairs = [(server, (server,)) for server in servers]
        for server in servers[:2]:
            proxy = stack.enter_context(haproxy(folder / f"ha-{server.pid}", server))
            pairs.append((proxy, (proxy, server)))
        for number in range(arguments.rounds + 1):
            for asked, counted in pairs:
                took = bench.reads(asked, counted)
                if asked in servers:
                    took |= bench.pushes(asked, number)
                    memories["loaded"][asked.name] = asked.memory()
                if number:  # the first round warms up
                    for measure, figure in took.items():
                        figures[measure][asked.name].append(figure)
        cold_readers(bench, stack, servers[0], figures, arguments.rounds)
    body = report(figures, memories, arguments.rounds)
    print(body)
    if arguments.write:
        write_section("Registry server", ".venv/bin/python bench/registry_server.py --write", body)


class Bench:
    """The load, and what is loaded."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder = folder
        self._seconds = seconds
        self._drain = folder / "drain"
        source = ROOT / "bench/drain.c"
        run(["gcc", "-O2", "-D_GNU_SOURCE", "-o", str(self._drain), str(source)])
        self._layers = [os.urandom(MIB) for _ in range(8)]
        self._big = os.urandom(256 * MIB)

    def fill(self, server: Server) -> None:
        """An image of eight layers, their blobs, and one of 256 MiB."""
        with server.http() as http:
            http.push_image(IMAGE, "1", *self._layers)
            for layer in self._layers:
                http.push_blob(SMALL, layer)
            put_blob(http, BIG, self._big)

    def reads(self, asked: Server, counted: tuple[Server, ...]) -> dict[str, float]:
        """Requests or MB for a second of CPU."""
        took: dict[str, float] = {}
        for connections in (16, 32):
            with Costs(counted) as costs:
                requests = self.wrk(asked, f"/v2/{IMAGE}/manifests/1", connections)
            took[f"manifest GET, {connections} connections (requests)"] = requests / costs.cpu_s
        for server in counted:
            server.forget_peaks()
        big = [f"/v2/{BIG}/blobs/{digest_of(self._big)}"]
        small = [f"/v2/{SMALL}/blobs/{digest_of(layer)}" for layer in self._layers]
        for name, paths in (("256 MiB", big), ("1 MiB", small)):
            with Costs(counted) as costs:
                size, _ = self.drain(asked, paths, connections=16)
            took[f"blob GET of {name}, 16 connections (MB)"] = size / 1e6 / costs.cpu_s
        return took

    def pushes(self, server: Server, number: int) -> dict[str, float]:
        """CPU seconds of pushes, lower is better."""
        layout = self.folder / f"layout-{number}-{server.pid}"
        make_layout(layout)
        credentials = ["--dest-creds", f"oauth2accesstoken:{server.headers[0].rpartition(' ')[2]}"] if server.headers else []  # fmt: skip
        with Costs((server,)) as pushed:
            on_client_core(
                "skopeo", "copy", "--dest-tls-verify=false", *credentials,
                f"oci:{layout}:image", f"docker://{server.host}/bench/pushes/p{number}:1",
            )  # fmt: skip
        shutil.rmtree(layout)
        uploads = [os.urandom(65536) for _ in range(50)]
        with Costs((server,)) as small, server.http() as http:
            for data in uploads:
                put_blob(http, "bench/uploads/x", data)
        data = os.urandom(256) + self._big[256:]
        with Costs((server,)) as stream, server.http() as http:
            location = http.send("POST", "/v2/bench/uploads/x/blobs/uploads/").header("location")
            done = http.send("PATCH", location, data)
            assert done.status == 202, done.body
        http = server.http()
        http.send("DELETE", done.header("location"))
        http.close()
        return {
            "skopeo push of 256 MiB and 50 × 64 KiB (CPU seconds)": pushed.cpu_s,
            "50 uploads of 64 KiB one after another (CPU seconds)": small.cpu_s,
            "PATCH of 256 MiB (CPU seconds)": stream.cpu_s,
        }

    def wrk(self, server: Server, path: str, connections: int) -> int:
        lines = (*server.headers, "Accept: application/vnd.oci.image.manifest.v1+json")
        headers = [argument for line in lines for argument in ("-H", line)]
        text = on_client_core(
            "wrk", "-t1", f"-c{connections}", f"-d{self._seconds:g}s", *headers,
            f"http://{server.host}{path}",
        )  # fmt: skip
        assert "Non-2xx" not in text, text
        found = re.search(r"(\d+) requests in", text)
        assert found is not None, text
        return int(found[1])

    def drain(
        self, server: Server, paths: Iterable[str], *, connections: int, once: bool = False
    ) -> tuple[int, float]:
        """The bytes that came, and the longest wait for a first one."""
        text = on_client_core(
            str(self._drain), *server.address, str(connections),
            "ONCE" if once else f"{self._seconds:g}", "\n".join(server.headers), *paths,
        )  # fmt: skip
        requests, size, _, first, errors = text.split()
        assert errors == "0", f"{server.name}: {text}"
        assert int(requests) >= connections
        return int(size), float(first)


def cold_readers(
    bench: Bench, stack: contextlib.ExitStack, own: Server, figures: Figures, rounds: int
) -> None:
    """Eight clients ask a cache at once for a blob of 256 MiB that it has not got."""
    upstream = stack.enter_context(
        distribution(bench.folder / "up", NEW, core=CLIENT_CORE, access_log=True)
    )
    caches = {
        own: add_cache_of(own, upstream.host),
        stack.enter_context(distribution(bench.folder / "c3", NEW, upstream=upstream.host)): "",
        stack.enter_context(distribution(bench.folder / "c2", DEBIANS, upstream=upstream.host)): "",
    }
    data = os.urandom(256 * MIB)
    for number in range(rounds + 1):
        blob = os.urandom(64) + data[64:]
        with upstream.http() as http:
            digest = put_blob(http, "far/away/web", blob)
        for cache, prefix in caches.items():
            before = transfers(bench.folder / "up/log", digest)
            with Costs((cache,)) as costs:
                _, first = bench.drain(
                    cache,
                    [f"/v2/{prefix}far/away/web/blobs/{digest}"],
                    connections=READERS,
                    once=True,
                )
            time.sleep(0.5)  # its log is written
            fetched = transfers(bench.folder / "up/log", digest) - before
            if number:
                name = f"{READERS} cold readers of a remote blob of 256 MiB"
                figures[f"{name} (seconds)"][cache.name].append(costs.wall_s)
                figures[f"{name} (CPU seconds)"][cache.name].append(costs.cpu_s)
                figures[f"{name} (slowest first byte, ms)"][cache.name].append(first * 1000)
                figures[f"{name} (upstream transfers)"][cache.name].append(fetched)


def transfers(log: Path, digest: str) -> int:
    """How often the upstream was asked for the blob's bytes, by its access log."""
    return sum(
        f'"GET /v2/far/away/web/blobs/{digest}' in line for line in log.read_text().splitlines()
    )


def make_layout(folder: Path) -> None:
    """An OCI layout of an image that nobody has seen: one layer of 256 MiB, fifty of 64 KiB, stored as gzip."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def add(data: bytes, media_type: str) -> dict[str, object]:
        digest = sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    contents = [os.urandom(size) for size in (256 * MIB, *([65536] * 50))]
    layers = [
        add(gzip.compress(data, 0), "application/vnd.oci.image.layer.v1.tar+gzip")
        for data in contents
    ]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [digest_of(data) for data in contents]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": add(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": layers,
    }
    entry = add(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": "image"}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def put_blob(http: RegistryHttp, name: str, data: bytes) -> str:
    """POST and PUT: not every registry reads the body of a POST. Gives the digest."""
    digest = digest_of(data)
    location = http.send("POST", f"/v2/{name}/blobs/uploads/").header("location")
    done = http.send("PUT", location, data, parameters=[("digest", digest)])
    assert done.status == 201, done.body
    return digest


def digest_of(data: bytes) -> str:
    return f"sha256:{sha256(data).hexdigest()}"


def on_client_core(*command: str) -> str:
    return run(["taskset", "-c", CLIENT_CORE, *command])


def report(figures: Figures, memories: dict[str, dict[str, Memory]], rounds: int) -> str:
    """The tables. A ratio is ours to distribution 3's, turned so that more is better."""
    peers = [OURS, NEW, DEBIANS]
    lines = [
        "On one core, for one second of CPU of the server; medians (min–max).",
        "",
        f"| measure | {' | '.join(peers)} | ours ÷ {NEW} | ours ÷ {DEBIANS} |",
        "| --- " * (len(peers) + 3) + "|",
    ]
    for measure, taken in figures.items():
        if measure.endswith("(upstream transfers)"):
            ratios = ["", ""]
        else:
            more = measure.endswith(("(requests)", "(MB)"))
            ratios = [f"{ratio(taken[OURS], taken[peer], more=more):.1f}" for peer in peers[1:]]
        lines.append(
            f"| {measure} | {' | '.join(cell(taken[peer]) for peer in peers)} | {' | '.join(ratios)} |"
        )
    lines += ["", "Behind HAProxy on the same core, its CPU counted too:", ""]
    behind = [f"{OURS} behind HAProxy", f"{NEW} behind HAProxy"]
    lines += [f"| measure | {' | '.join(behind)} | ratio |", "| --- | --- | --- | --- |"]
    for measure, taken in figures.items():
        if behind[0] in taken:
            own, other = taken[behind[0]], taken[behind[1]]
            lines.append(
                f"| {measure} | {cell(own)} | {cell(other)} | {ratio(own, other, more=True):.1f} |"
            )
    lines += ["", "| MB | " + " | ".join(peers) + " |", "| --- | --- | --- | --- |"]
    idle, loaded = memories["idle"], memories["loaded"]
    for name, text in (
        ("idle, proportional", {p: f"{idle[p].pss_mb:.0f}" for p in peers}),
        ("idle, resident, each process", {p: ", ".join(f"{mb:.0f}" for mb in idle[p].rss_mb) for p in peers}),
        ("peak under 16 downloads, resident", {p: f"{loaded[p].peak_mb:.0f}" for p in peers}),
    ):  # fmt: skip
        lines.append(f"| {name} | {' | '.join(text[p] for p in peers)} |")
    lines += ["", TARGETS, ""]
    lines.append(
        f"{rounds} rounds, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end."
    )
    return "\n".join(lines)


def cell(values: list[float]) -> str:
    middle = statistics.median(values)
    digits = 0 if middle >= 100 else 2
    return f"{middle:.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def ratio(own: list[float], other: list[float], *, more: bool) -> float:
    a, b = statistics.median(own), statistics.median(other)
    return a / b if more else b / max(a, 1e-9)


TARGETS = (
    f"Targets against {NEW}: manifests ≥ 12, 256 MiB ≥ 2, 1 MiB ≥ 9, push ≥ 1.4, cold readers ≤ 0.65 of its time "
    "with one upstream transfer; ≤ 30 MB resident a worker, idle."
)


if __name__ == "__main__":
    main()
