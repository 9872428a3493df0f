"""What every benchmark shares: medians of interleaved runs, a private docker daemon, a section of RESULTS.md."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.e2e.docker_daemon import docker_daemon as daemon_of_tests

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "RESULTS.md"


@dataclass(frozen=True, slots=True)
class Series:
    """The seconds of one measure, in the order they were taken."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def row(self, base: float | None = None) -> str:
        """A line of a markdown table: name, median, min–max, n, ratio to *base*."""
        ratio = "" if base is None else f"{self.median / base:.2f}"
        return (
            f"| {self.name} | {self.median:.3f} | {min(self.seconds):.3f}–{max(self.seconds):.3f} "
            f"| {len(self.seconds)} | {ratio} |"
        )


def interleave(measures: Mapping[str, Callable[[], float]], *, rounds: int) -> dict[str, Series]:
    """Take each measure once a round, in turn, so that a disturbance hits all of them.

    A measure returns its own seconds: set-up and clean-up inside it do not count. The first round warms up
    and is thrown away.
    """
    taken: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(rounds + 1):
        for name, measure in measures.items():
            seconds = measure()
            if number:
                taken[name].append(seconds)
    return {name: Series(name, tuple(values)) for name, values in taken.items()}


def timed(action: Callable[[], object]) -> float:
    """The seconds *action* takes."""
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def run(
    argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> str:
    """Run a program to its end and return its stdout; its output is shown when it fails."""
    done = subprocess.run(
        argv, env={**os.environ, **(env or {})}, cwd=cwd, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def need_docker() -> None:
    """End, saying what to install, where no docker daemon can be started."""
    if shutil.which("dockerd") is None:
        raise SystemExit("this measure needs dockerd: apt-get install docker.io")


@contextlib.contextmanager
def docker_daemon(*, network: bool = True) -> Iterator[Mapping[str, str]]:
    """A docker daemon of our own; yields the client's environment.

    Its bridge and rules are docker's usual ones, so at most one such daemon runs at a time; without *network* it
    makes neither, for measures whose containers need none.
    """
    with daemon_of_tests(network=network) as daemon:
        yield daemon.env


def write_section(title: str, command: str, body: str) -> None:
    """Replace (or add) the section *title* of RESULTS.md; *command* is what gives its figures."""
    text = RESULTS.read_text() if RESULTS.exists() else "# Figures\n"
    section = f"## {title}\n\n`{command}`\n\n{body.strip()}\n"
    pattern = re.compile(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    if pattern.search(text):
        text = pattern.sub(lambda _: section + "\n", text)
    else:
        text = f"{text.rstrip()}\n\n{section}"
    RESULTS.write_text(text.rstrip() + "\n")


TABLE_HEAD = "| measure | median s | min–max | n | ratio |\n| --- | --- | --- | --- | --- |"
