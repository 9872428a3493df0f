"""Containers by the command line, for tests: run, kept for a block, gone afterwards."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator

from tests.e2e.installation import HAKO, Installation
from tests.supervised import wait_for


def container(
    here: Installation, *arguments: str, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [HAKO, "container", *arguments],
        env=here.env,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )


@contextlib.contextmanager
def foreground(here: Installation, name: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A container that a command runs, once it is known."""
    process = here.start("container", "run", "--name", name, *arguments)
    try:
        wait_for(lambda: name in names(here) or process.poll() is not None, "it runs")
        yield process
    finally:
        process.kill()
        process.communicate(timeout=20)


@contextlib.contextmanager
def detached(here: Installation, name: str, *arguments: str) -> Iterator[None]:
    started = container(here, "run", "-d", "--name", name, *arguments)
    assert started.returncode == 0, started.stderr
    try:
        yield
    finally:
        container(here, "rm", "-f", name)


def names(here: Installation) -> list[str]:
    listing = json.loads(container(here, "ls", "--format", "json").stdout)
    return [status["id"] for status in listing]


def inspect(here: Installation, name: str) -> dict[str, object]:
    (document,) = json.loads(container(here, "inspect", name).stdout)
    found: dict[str, object] = document
    return found
