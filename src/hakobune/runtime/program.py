"""One program of the supervisor's: what it is, since when it runs or waits, and how its process begins."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hakobune.runtime.cgroup import Cgroup
from hakobune.runtime.launch import place_descriptors
from hakobune.runtime.listeners import FIRST_DESCRIPTOR, Listeners
from hakobune.runtime.loop import Timer
from hakobune.runtime.program_status import ProgramStatus

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 10.0
MAX_LOG_BYTES = 10 << 20
Done = Callable[[], None]


def restart_delay(failures: int) -> float:
    """Seconds to wait before the start after *failures* quick ends in a row; the first costs nothing."""
    if failures <= 1:
        return 0.0
    return min(FIRST_DELAY_S * 2.0 ** (failures - 2), LONGEST_DELAY_S)


@dataclass(slots=True)
class Program:
    """One program and what is known of its process."""

    name: str
    argv: tuple[str, ...]
    env: dict[str, str] | None
    cwd: str
    listen: tuple[str, ...]
    log_path: Path
    group: Cgroup
    listeners: Listeners
    pid: int | None = None
    start_time: int | None = None
    pidfd: int | None = None
    started_at: float = 0.0
    restarts: int = 0
    failures: int = 0
    exit_code: int | None = None
    wanted: bool = True
    timer: Timer | None = None
    kill_timer: Timer | None = None
    waiting: list[Done] = field(default_factory=list)
    expecting: tuple[int, ...] = ()  # its sockets, while the first connection is waited for

    def status(self) -> ProgramStatus:
        return ProgramStatus(
            name=self.name,
            pid=self.pid,
            running=self.pid is not None,
            restarts=self.restarts,
            exit_code=self.exit_code,
            log_path=str(self.log_path),
            argv=self.argv,
            listen=self.listen,
        )


def become(program: Program) -> None:
    """In the child: become the program, its sockets in place and told of as sd_listen_fds(3) says."""
    env = dict(os.environ) if program.env is None else program.env
    if program.listen:
        sockets = program.listeners.descriptors()
        given = (sockets[address] for address in program.listen)
        # Over descriptors of ours: nothing needs them any more.
        place_descriptors(dict(enumerate(given, FIRST_DESCRIPTOR)))
        env = {**env, "LISTEN_FDS": str(len(program.listen)), "LISTEN_PID": str(os.getpid())}
    os.execvpe(program.argv[0], program.argv, env)


def open_log(path: Path) -> int:
    """The program's log, begun anew beside the old one when it has grown large; nowhere if there is no room for it."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > MAX_LOG_BYTES:
            os.rename(path, path.with_name(path.name + ".1"))
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError:
        return os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
