"""An installation of its own for a test: a short home, free ports, the real command line; nothing stays behind."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
HAKO = str(ROOT / "hako")


@dataclass(slots=True)
class Installation:
    """`hako` with its own `HAKO_HOME` and ports."""

    home: Path
    port: int
    extra_env: dict[str, str] = field(default_factory=dict)

    @property
    def env(self) -> Mapping[str, str]:
        return {
            **os.environ,
            "HAKO_HOME": str(self.home),
            "HAKO_LISTEN": f"localhost:{self.port}",
            "HAKO_PORTS": f"{self.port + 1}-{self.port + 40}",
            "HAKO_REGISTRY_LISTEN": f"localhost:{self.port + 41}",
            "NO_COLOR": "1",
            **self.extra_env,
        }

    def hako(
        self, *arguments: str, cwd: Path | None = None, check: bool = True, timeout_s: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; a failure shows what it printed."""
        done = subprocess.run(
            [HAKO, *arguments],
            env=self.env,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        if check and done.returncode:
            raise AssertionError(
                f"hako {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        return done

    def start(self, *arguments: str, cwd: Path | None = None) -> subprocess.Popen[str]:
        """Start a command; the caller ends it."""
        return subprocess.Popen(
            [HAKO, *arguments],
            env=self.env,
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # A run in the background ignores SIGINT, and what it starts would, too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def deploy(self, source: Path, *arguments: str) -> str:
        """Deploy a folder; returns the URL."""
        return self.hako("deploy", "--source", str(source), *arguments).stdout.strip()

    def get(
        self, path: str = "/", *, host: str, timeout_s: float = 30, method: str = "GET"
    ) -> tuple[int, bytes]:
        """Ask the ingress for a page under a host name; returns status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request(method, path, headers={"Host": f"{host}:{self.port}"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def pids(self) -> set[int]:
        """The processes of this installation: those that have its home in their environment or command line."""
        mark = str(self.home).encode()
        found = set()
        for entry in os.listdir("/proc"):
            if not entry.isdecimal() or int(entry) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                folder = Path("/proc") / entry
                if mark in (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes():
                    found.add(int(entry))
        return found

    def lasting_pids(self) -> set[int]:
        """`pids`, but for a sync to disk in the background, which may still have its work to end."""
        end = time.monotonic() + 15
        while (left := self.pids()) and time.monotonic() < end:
            time.sleep(0.1)
        return left


@contextlib.contextmanager
def new_installation(seed: Path | None = None) -> Iterator[Installation]:
    """An installation that ends, with all it started, when the block ends.

    Args:
        seed: a home whose images, snapshots and caches are taken over by hard links.
    """
    home = Path(tempfile.mkdtemp(prefix="hk-", dir="/var/tmp"))
    if seed is not None:
        for name in ("images", "snapshots", "roots", "cache", "format"):
            if (seed / name).exists():
                link_tree(seed / name, home / name)
    installation = Installation(home=home, port=free_ports(42))
    try:
        yield installation
    finally:
        installation.hako("serve", "--stop", check=False, timeout_s=60)
        left = installation.lasting_pids()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(home, ignore_errors=True)
        assert not left, f"`hako serve --stop` left {len(left)} processes"


def link_tree(source: Path, target: Path) -> None:
    """Copy a tree by hard links; it may be in use: what vanishes meanwhile (a file on its way to its name) is left out."""
    for _ in range(5):
        done = subprocess.run(["cp", "-al", source, target], capture_output=True, text=True)
        if done.returncode == 0:
            return
        shutil.rmtree(target, ignore_errors=True)
    raise AssertionError(done.stderr)


def free_ports(count: int) -> int:
    """The first of *count* successive ports of loopback on which nobody listens now.

    Where to look first depends on the process: tests that run side by side would else choose the same ones.
    """
    every = range(21000, 32000, count)
    begin = os.getpid() * 7 % len(every)
    for first in (*every[begin:], *every[:begin]):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    listener = stack.enter_context(socket.socket())
                    listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise AssertionError("no free ports on loopback")


def wait_until(condition: object, *, timeout_s: float = 30, what: str = "it") -> None:
    """Call *condition* until it is true.

    Raises:
        AssertionError: it is not within *timeout_s*.
    """
    assert callable(condition)
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen within {timeout_s:.0f} s"
        time.sleep(0.05)
