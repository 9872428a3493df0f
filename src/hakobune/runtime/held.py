"""One container as the supervisor has it: what it shall be, what it is now, and all that is open for it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hakobune.runtime.attendance import Attendance, Preparation
from hakobune.runtime.cgroup import Cgroup
from hakobune.runtime.container import ContainerError, ContainerSpec, ContainerStatus, Phase
from hakobune.runtime.logs import LogFile
from hakobune.runtime.loop import Timer
from hakobune.runtime.output import Output
from hakobune.runtime.pool import Berth
from hakobune.runtime.published import OpenPorts
from hakobune.support.locks import try_exclusive

ROOT_LOCK = (
    "root.lock"  # in the folder of a container that has stopped: somebody works on its files
)

Answer = Callable[[ContainerStatus | ContainerError], None]


@dataclass(slots=True)
class Held:
    """One container and everything that the supervisor holds for it."""

    spec: ContainerSpec
    folder: Path
    status: ContainerStatus
    group: Cgroup
    base: int = 0
    berth: Berth | None = None
    output: Output | None = None
    log: LogFile | None = None
    pidfd: int | None = None
    locks: list[int] = field(default_factory=list)
    oom_fd: int | None = None
    stop_timer: Timer | None = None
    waiting: list[Answer] = field(default_factory=list)
    remove_at_end: bool = False
    ports: OpenPorts = field(default_factory=OpenPorts)
    preparation: Preparation | None = None
    attendance: Attendance | None = None
    before: ContainerStatus | None = None  # of its last life, while it is made again

    def expect(self, verb: str, *phases: Phase) -> None:
        """Refuse *verb* in any other phase.

        Raises:
            ContainerError: kind `phase`.
        """
        if self.status.phase not in phases:
            raise ContainerError(
                f"cannot {verb} the container {self.spec.id!r}",
                why=f"it is {self.status.phase}",
                kind="phase",
            )

    def expect_nobody_at_its_files(self) -> None:
        """Refuse to start while somebody works on what it left. Once it counts as stopped no more, nobody begins to.

        Raises:
            ContainerError: kind `phase`.
        """
        lock = try_exclusive(self.folder / ROOT_LOCK)
        if lock is None:
            raise ContainerError(
                f"cannot start the container {self.spec.id!r}",
                why="files are being copied into it or out of it",
                fix="try again when `hako container cp` has ended",
                kind="phase",
            )
        os.close(lock)

    def lock_layers(self) -> None:
        """Keep the collector off what is mounted."""
        self.locks = [shared_lock(Path(path)) for path in self.spec.locks]

    def signal(self, number: int) -> None:
        """Send a signal to its first process. One that has ended is fine."""
        with contextlib.suppress(ProcessLookupError):
            if self.pidfd is not None:
                signal.pidfd_send_signal(self.pidfd, number)

    def kill(self) -> None:
        """Kill all of its processes."""
        self.group.kill()
        self.signal(signal.SIGKILL)


def shared_lock(path: Path) -> int:
    """A descriptor that holds the lock of a snapshot with others."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # never made here: it goes with what it guards
    fcntl.flock(fd, fcntl.LOCK_SH)
    return fd
