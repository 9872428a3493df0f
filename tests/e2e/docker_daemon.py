"""A docker daemon of the tests' own: a private socket and data, gone afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DockerDaemon:
    """A running one; *env* leads its client, and us, to it."""

    env: Mapping[str, str]

    def docker(self, *arguments: str) -> str:
        """What the client prints."""
        done = subprocess.run(
            ["docker", *arguments], env=self.env, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextlib.contextmanager
def docker_daemon(*, network: bool = False, options: Sequence[str] = ()) -> Iterator[DockerDaemon]:
    """Started by hand: the tests' machine has no service manager. With *network* it makes docker's bridge and rules.

    Args:
        options: more of dockerd's.
    """
    folder = Path(tempfile.mkdtemp(prefix="hk-dockerd-", dir="/var/tmp"))
    env = {
        **os.environ,
        "DOCKER_HOST": f"unix://{folder}/docker.sock",
        "DOCKER_CLI_HINTS": "false",
        "PATH": f"/usr/bin:{os.environ['PATH']}",  # the client of the daemon's own package
    }
    with (folder / "log").open("w") as log:
        daemon = subprocess.Popen(
            [
                "dockerd",
                f"--host=unix://{folder}/docker.sock",
                f"--data-root={folder}/data",
                f"--exec-root={folder}/exec",
                f"--pidfile={folder}/pid",
                *([] if network else ["--iptables=false", "--ip6tables=false", "--bridge=none"]),
                *options,
            ],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            _await(daemon, env, folder / "log")
            yield DockerDaemon(env)
        finally:
            daemon.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(30)
            daemon.kill()
            daemon.wait(10)
            # dockerd leaves its host's namespace mounted, and the folder could not be removed.
            subprocess.run(["umount", folder / "exec/netns/default"], capture_output=True)
            shutil.rmtree(folder, ignore_errors=True)


def _await(daemon: subprocess.Popen[bytes], env: Mapping[str, str], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and daemon.poll() is None:
        if subprocess.run(["docker", "version"], env=env, capture_output=True).returncode == 0:
            return
        time.sleep(0.2)
    raise AssertionError(f"dockerd does not answer:\n{log.read_text()[-2000:]}")
