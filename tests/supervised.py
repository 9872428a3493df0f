"""A supervisor of a test's own: short home, small root file system, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hakobune.cli.serve import stop_all
from hakobune.runtime.container import ContainerSpec, ContainerStatus, Phase, User
from hakobune.runtime.log_record import LogRecord
from hakobune.runtime.logs import read_records
from hakobune.runtime.supervisor_client import SupervisorClient, SupervisorUnavailableError
from hakobune.settings import Settings
from tests.small_root import make_small_root

APP = User(1002, 1000)


@dataclass(slots=True)
class Supervised:
    """A home with a supervisor process and the means to treat it badly."""

    settings: Settings
    root: Path
    process: subprocess.Popen[bytes] | None = None
    _clients: list[SupervisorClient] = field(default_factory=list)

    def start(self) -> SupervisorClient:
        """Start a supervisor and wait until it answers."""
        if self.process is not None:
            self.process.wait(10)
        env = {**os.environ, "HAKO_HOME": str(self.settings.home)}
        command = [sys.executable, "-I", "-m", "hakobune.runtime.supervisor"]
        self.process = subprocess.Popen(command, env=env, start_new_session=True)
        return self.connect()

    def connect(self) -> SupervisorClient:
        """A client that the supervisor has answered."""
        client = SupervisorClient(self.settings.supervisor_socket, timeout_s=20)
        self._clients.append(client)

        def answers() -> bool:
            with contextlib.suppress(SupervisorUnavailableError):
                return bool(client.hello())
            client.close()
            return False

        wait_for(answers, "the supervisor answers")
        return client

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def spec(self, id: str, *argv: str, **changes: Any) -> ContainerSpec:
        """A container of the small root, as the app's user."""
        changes.setdefault("user", APP)
        return ContainerSpec(id=id, lowers=(str(self.root),), argv=argv, **changes)

    def run(self, client: SupervisorClient, id: str, *argv: str, **changes: Any) -> ContainerStatus:
        """Create, start, wait for the end."""
        client.create(self.spec(id, *argv, **changes))
        client.start(id)
        return client.wait(id, timeout_s=20)

    def shell(self, client: SupervisorClient, script: str, **changes: Any) -> list[str]:
        """What a shell script prints in a container, line by line."""
        status = self.run(client, os.urandom(4).hex(), "/bin/sh", "-c", script, **changes)
        return [record.text for record in self.records(status)]

    def records(self, status: ContainerStatus) -> list[LogRecord]:
        return list(read_records(Path(status.log_path)))

    def close(self) -> None:
        for client in self._clients:
            client.close()
        stop_all(self.settings)
        if self.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
            self.process.kill()
            self.process.wait(5)


@contextlib.contextmanager
def supervised(root: Path) -> Iterator[Supervised]:
    """A home without a supervisor yet; everything that was started in it ends with the block."""
    home = Path(tempfile.mkdtemp(prefix="hk-", dir="/tmp"))
    settings = Settings.from_environment({"HAKO_HOME": str(home)}, uid=0)
    world = Supervised(settings, root)
    try:
        yield world
    finally:
        world.close()
        shutil.rmtree(home, ignore_errors=True)


def shared_root(folder: Path) -> Path:
    """The small root with the HTTP server, at a place that every id may read."""
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(0o755)
    return make_small_root(folder / "root", server=True)


def wait_for(condition: Callable[[], object], what: str, *, timeout_s: float = 20.0) -> None:
    """Return when *condition* holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.005)


def fetch(address: str, port: int = 8080, *, timeout_s: float = 5.0) -> bytes:
    """The answer of an HTTP server, tried again until it listens."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with socket.create_connection((address, port), timeout=timeout_s) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return connection.recv(4096)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.002)


def is_alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


__all__ = [
    "APP",
    "Phase",
    "Supervised",
    "fetch",
    "is_alive",
    "shared_root",
    "supervised",
    "wait_for",
]
