"""A PostgreSQL of a test's own: a private cluster in a temporary folder, reached by a unix socket, gone afterwards."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

_SETTINGS = ("listen_addresses=", "fsync=off", "max_connections=60", "shared_buffers=16MB")


@dataclass(slots=True)
class Cluster:
    """A server; databases are cheap."""

    folder: Path
    programs: Path
    process: subprocess.Popen[bytes] | None = None
    _numbers: Iterator[int] = field(default_factory=count)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = [part for setting in _SETTINGS for part in ("-c", setting)]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [
                    self.programs / "postgres",
                    "-D",
                    self.folder / "data",
                    "-k",
                    self.folder,
                    *options,
                ],
                stdout=subprocess.DEVNULL,
                stderr=log,
                **_user(),
            )
        _run(self.programs / "pg_isready", "-h", str(self.folder), "-t", "30", retries=100)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End the server: SIGINT cuts clients off, SIGQUIT does not even write what it holds."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(30)
            self.process = None

    def new_database(self, template: str = "template0") -> str:
        """The URL of a fresh database, perhaps a copy of another (which nobody may be connected to)."""
        name = f"test{next(self._numbers)}"
        _run(self.programs / "createdb", "-h", str(self.folder), "-T", template, name)
        return self.url(name)

    def url(self, name: str) -> str:
        return f"postgresql://postgres@/{name}?host={self.folder}"


@contextlib.contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Make a cluster, start its server, and end and remove both."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name))
    folder = Path(tempfile.mkdtemp(prefix="hk-pg-"))
    cluster = Cluster(folder, programs)
    try:
        _own(folder)
        _run(programs / "initdb", "-D", str(folder / "data"), "-A", "trust", "-E", "UTF8", "-N")
        cluster.start()
        yield cluster
    finally:
        cluster.stop(signal.SIGQUIT)  # nothing of it is kept
        shutil.rmtree(folder, ignore_errors=True)


def _own(folder: Path) -> None:
    if os.getuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)


def _user() -> dict[str, Any]:
    """The server refuses to run as root."""
    if os.getuid() != 0:
        return {}
    user = pwd.getpwnam("postgres")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": "/tmp"}


def _run(program: Path, *arguments: str, retries: int = 0) -> None:
    for left in range(retries, -1, -1):
        done = subprocess.run(
            [program, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PGUSER": "postgres", "LC_ALL": "C.UTF-8"},
            check=False,
            **_user(),
        )
        if done.returncode == 0:
            return
        if left:
            time.sleep(0.05)
    raise AssertionError(f"{program.name} ended with {done.returncode}: {done.stdout.decode()}")
