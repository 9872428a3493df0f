"""What a build pays for its sandbox: the first executable, further ones, five with all set up and taken down.

Beside it the host's own spawn of the same program (what no sandbox can beat) and docker's `run` and `exec`
(what a build in containers pays), each called as its users call it: docker's figures hold its client's start.

    .venv/bin/python bench/sandbox.py [--rounds N] [--write]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from harness import (
    ROOT,
    TABLE_HEAD,
    Series,
    docker_daemon,
    interleave,
    run,
    timed,
    write_section,
)

sys.path.insert(0, str(ROOT))  # the tests' root file system

from hakobune.runtime.cgroups import Cgroups
from hakobune.runtime.mount import RootFs
from hakobune.runtime.room import build_sandbox
from hakobune.runtime.sandbox import Sandbox
from tests.small_root import make_small_root

INSTALLATION = "hkbench"
CHAIN = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--write", action="store_true", help="put the section into RESULTS.md")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="hk-bench-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        make_small_root(folder / "lower", programs=("sh", "true", "sleep"))
        series = measure(folder, arguments.rounds)
    finally:
        shutil.rmtree(folder)
        with contextlib.closing(Cgroups.open(INSTALLATION)) as cgroups:
            cgroups.remove_all()
    body = as_markdown(series)
    print(body)
    if arguments.write:
        command = f".venv/bin/python {Path(__file__).resolve().relative_to(ROOT)} --write"
        write_section("Build sandbox", command, body)


def measure(folder: Path, rounds: int) -> dict[str, Series]:
    with Bench(folder) as ours, docker_daemon(network=False) as env, Docker(folder, env) as docker:
        measures: dict[str, Callable[[], float]] = {
            "host: spawn": lambda: timed(lambda: subprocess.run(["/bin/true"], check=True)),
            "hakobune: further executable": ours.further,
            "hakobune: first executable": ours.first,
            "hakobune: first executable, with network": ours.first_with_network,
            f"hakobune: {CHAIN} executables and the end": ours.chain,
            "docker: exec": docker.further,
            "docker: run": docker.first,
            f"docker: run, {CHAIN - 1} exec, rm": docker.chain,
        }
        return interleave(measures, rounds=rounds)


class Bench(contextlib.ExitStack):
    """Our sandbox over one layer and a top on disk; the cgroup, the id range and the overlay are made each time."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._long = self.enter_context(self._sandbox(network=False))

    def further(self) -> float:
        return timed(lambda: run_true(self._long))

    def first(self) -> float:
        return self._first(network=False)

    def first_with_network(self) -> float:
        return self._first(network=True)

    def chain(self) -> float:
        def five() -> None:
            with self._sandbox(network=False) as sandbox:
                for _ in range(CHAIN):
                    run_true(sandbox)

        return timed(five)

    def _first(self, *, network: bool) -> float:
        with contextlib.ExitStack() as undo:
            return timed(lambda: run_true(undo.enter_context(self._sandbox(network=network))))

    @contextlib.contextmanager
    def _sandbox(self, *, network: bool) -> Iterator[Sandbox]:
        top = Path(tempfile.mkdtemp(prefix="top-", dir=self._folder))
        rootfs = RootFs(lowers=(self._folder / "lower",), top=top, redirect_dir=True)
        with build_sandbox(
            rootfs, installation=INSTALLATION, run=self._folder / "run", network=network
        ) as sandbox:
            yield sandbox


def run_true(sandbox: Sandbox) -> None:
    code = sandbox.run(["/bin/true"], env={}, cwd="/", uid=1001, gid=1000, output=lambda _: None)
    if code:
        raise SystemExit(f"/bin/true in the sandbox: exit {code}")


class Docker(contextlib.ExitStack):
    """The same root file system as an image, without a network."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        super().__init__()
        self._env = env
        tar = folder / "lower.tar"
        run(["tar", "-C", str(folder / "lower"), "-cf", str(tar), "."])
        self._docker("import", str(tar), "bench")
        self._long = self._start()
        self.callback(self._docker, "rm", "-f", self._long)

    def further(self) -> float:
        return timed(lambda: self._docker("exec", "-u", "1001:1000", self._long, "/bin/true"))

    def first(self) -> float:
        arguments = ("--rm", "--network=none", "-u", "1001:1000", "bench", "/bin/true")
        return timed(lambda: self._docker("run", *arguments))

    def chain(self) -> float:
        def five() -> None:
            name = self._start()
            for _ in range(CHAIN - 1):
                self._docker("exec", "-u", "1001:1000", name, "/bin/true")
            self._docker("rm", "-f", name)

        return timed(five)

    def _start(self) -> str:
        return self._docker("run", "-d", "--network=none", "bench", "/bin/sleep", "1000").strip()

    def _docker(self, *arguments: str) -> str:
        return run(["docker", *arguments], env=self._env)


def as_markdown(series: Mapping[str, Series]) -> str:
    """A table in milliseconds: everything here is far below a second."""
    base = series["host: spawn"].median
    head = TABLE_HEAD.replace("median s", "median ms")
    rows = "\n".join(
        f"| {s.name} | {s.median * 1000:.1f} | {min(s.seconds) * 1000:.1f}–{max(s.seconds) * 1000:.1f} "
        f"| {len(s.seconds)} | {s.median / base:.1f} |"
        for s in series.values()
    )
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"`/bin/true` over one layer, interleaved; {os.cpu_count()} cores, load {load} at the end.\n\n"
        f"{head}\n{rows}"
    )


if __name__ == "__main__":
    main()
