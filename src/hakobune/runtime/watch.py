"""How a container's end, and its want of memory, are noticed: by pidfd, by SIGCHLD, by its control group."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from functools import partial

from hakobune.runtime.held import Held
from hakobune.runtime.loop import Loop
from hakobune.runtime.process import exit_status_of

_STATUS_WAIT_S = 10.0  # how long an adopted container's exit code may take to become readable

Ended = Callable[[Held, int | None], None]


class Watch:
    """Calls *ended* with the wait status, or `None` if nobody can know it; *oom* at each kill for want of memory."""

    def __init__(self, loop: Loop, *, ended: Ended, oom: Callable[[Held], None]) -> None:
        self._loop = loop
        self._ended = ended
        self._oom = oom

    def child(self, held: Held, pid: int) -> None:
        """The container's first process became our child when crun ended: we are its subreaper."""
        held.pidfd = os.pidfd_open(pid)
        self._loop.on_child_end(pid, partial(self._ended, held))

    def stranger(self, held: Held, pidfd: int) -> None:
        """The first process is somebody else's child."""
        held.pidfd = pidfd
        self._loop.on_readable(pidfd, partial(self._stranger_ended, held))

    def memory(self, held: Held) -> None:
        """Notice that it is killed for want of memory."""
        held.oom_fd = held.group.oom_events()
        if held.oom_fd is not None:
            self._loop.on_readable(held.oom_fd, partial(self._out_of_memory, held))

    def forget(self, held: Held) -> None:
        """Watch no more. Idempotent."""
        for fd in (held.oom_fd, held.pidfd):
            if fd is not None:
                self._loop.forget(fd)
                os.close(fd)
        held.oom_fd = held.pidfd = None

    def _stranger_ended(self, held: Held) -> None:
        """The exit code can be read once whoever inherited the process has reaped it."""
        assert held.pidfd is not None
        self._loop.forget(held.pidfd)
        self._await_status(held, time.monotonic() + _STATUS_WAIT_S)

    def _await_status(self, held: Held, deadline: float) -> None:
        assert held.pidfd is not None
        pid, start_time = held.status.pid or 0, held.status.start_time or 0
        status = exit_status_of(held.pidfd, pid, start_time)
        if status is None and time.monotonic() < deadline:
            self._loop.after(0.02, partial(self._await_status, held, deadline))
        else:
            self._ended(held, status)

    def _out_of_memory(self, held: Held) -> None:
        assert held.oom_fd is not None
        with contextlib.suppress(BlockingIOError):
            os.read(held.oom_fd, 4096)
        self._oom(held)
