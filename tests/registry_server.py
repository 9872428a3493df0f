"""Our own registry as a program of its own for tests: workers and keeper, without supervisor, controller or HAProxy."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hakobune.iam.owner_token import load_token, owner_token_path
from tests.e2e.installation import free_ports
from tests.registry_client import RegistryHttp

SOURCE = Path(__file__).resolve().parent.parent / "src"


@dataclass(slots=True)
class HakoRegistry:
    """One that can be killed and started again on what it has left; *environment* is added to its own."""

    home: Path
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.home / "log"

    @property
    def owner_socket(self) -> Path:
        return self.home / "run/registry.sock"

    @property
    def owner_token(self) -> str:
        return load_token(owner_token_path(self.home))

    def as_owner(self, *, timeout_s: float = 60) -> RegistryHttp:
        """A connection of this machine's own user."""
        return RegistryHttp(self.url, unix_socket=self.owner_socket, timeout_s=timeout_s)

    def over_tcp(self, *, timeout_s: float = 60) -> RegistryHttp:
        """A connection over TCP with the owner's token."""
        return RegistryHttp(
            self.url, authorization=f"Bearer {self.owner_token}", timeout_s=timeout_s
        )

    def anonymous(self, *, timeout_s: float = 60) -> RegistryHttp:
        return RegistryHttp(self.url, timeout_s=timeout_s)

    def start(self, **environment: str) -> None:
        """Start it, with these variables this time, and wait until it answers."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, sys.executable, "-I", "-X", "utf8", "-m", "hakobune.registry.server",
                 *self.arguments],
                stdout=log, stderr=log, start_new_session=True,
                env={
                    "PATH": os.environ["PATH"], "HAKO_HOME": str(self.home),
                    "HAKO_REGISTRY_LISTEN": self.host, **self.environment, **environment,
                },
            )  # fmt: skip
        end = time.monotonic() + 30
        while True:
            try:
                with self.as_owner(timeout_s=5) as http:
                    if http.send("GET", "/healthz").status == 200:
                        return
            except OSError:
                pass
            alive = self.process.poll() is None and time.monotonic() < end
            assert alive, self.log.read_text()[-4000:]
            time.sleep(0.02)

    def children(self) -> list[int]:
        """The workers and the keeper, by pid."""
        assert self.process is not None
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def stop(self) -> None:
        """Let it end as a service manager does."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"it did not end:\n{self.log.read_text()[-3000:]}") from None
            self.process = None

    def kill(self) -> None:
        """Kill -9: the parent, its workers and its keeper."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
            self.process = None


@contextlib.contextmanager
def hako_registry(
    *,
    environment: Mapping[str, str] | None = None,
    home: Path | None = None,
    prefix: tuple[str, ...] = (),
    arguments: tuple[str, ...] = (),
) -> Iterator[HakoRegistry]:
    """Our registry with a new home, or the one given, until the block ends.

    Args:
        prefix: what it is started by, such as `taskset`.
        arguments: of its command line.
    """
    own = home is None
    home = home or Path(tempfile.mkdtemp(prefix="hk-", dir="/var/tmp"))
    registry = HakoRegistry(home, free_ports(1), dict(environment or {}), prefix, arguments)
    try:
        registry.start()
        yield registry
        registry.stop()
    finally:
        registry.kill()
        if own:
            shutil.rmtree(home, ignore_errors=True)
