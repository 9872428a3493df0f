"""What is done at a container's end: the last output, the record, and everything that was held for it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from functools import partial

from hakobune.errors import HakoError
from hakobune.runtime.cgroup import Cgroup
from hakobune.runtime.container import Phase
from hakobune.runtime.crun import Crun
from hakobune.runtime.event import EventKind
from hakobune.runtime.held import Held
from hakobune.runtime.ledger import Ledger
from hakobune.runtime.log_book import LogBook
from hakobune.runtime.loop import Loop
from hakobune.runtime.pool import BerthPool
from hakobune.runtime.process import split_status
from hakobune.runtime.watch import Watch

_ATTEMPTS = 50  # to remove a control group, 20 ms apart


class Departure:
    """Ends containers; *gone* is called for each that nobody will hear of again."""

    def __init__(
        self,
        loop: Loop,
        *,
        crun: Crun,
        pool: BerthPool,
        logs: LogBook,
        ledger: Ledger,
        gone: Callable[[Held], None],
    ) -> None:
        self._loop = loop
        self._crun = crun
        self._pool = pool
        self._logs = logs
        self._ledger = ledger
        self._gone = gone
        self.watch = Watch(loop, ended=self.ended, oom=self._out_of_memory)

    def ended(self, held: Held, status: int | None) -> None:
        """Its first process has ended with a wait *status*; what it said last may still be with its attendant."""
        if held.attendance is None:
            self._end(held, status)
            return
        held.attendance.at_end(partial(self._end, held, status))

    def _end(self, held: Held, status: int | None) -> None:
        held.attendance = None
        code, number = split_status(status)
        self._out_of_memory(held)
        if held.stop_timer is not None:
            held.stop_timer.cancel()
            held.stop_timer = None
        held.group.kill()
        self._let_go(held)
        self._ledger.change(
            held,
            EventKind.EXITED,
            phase=Phase.STOPPED,
            pid=None,
            start_time=None,
            stopping=False,
            exit_code=code,
            signal=number,
            stopped_at=time.time(),
        )
        waiting, held.waiting = held.waiting, []
        if held.remove_at_end:
            self.remove(held)
        for answer in waiting:
            answer(held.status)

    def discard(self, held: Held) -> None:
        """Undo a creation that failed: nobody will hear of the container."""
        held.group.kill()
        self._let_go(held)
        if held.before is not None:
            held.status, held.before = held.before, None
            self._ledger.write(held)
            return
        self._gone(held)
        shutil.rmtree(held.folder, ignore_errors=True)

    def remove(self, held: Held) -> None:
        """Forget one that has stopped, with its folder."""
        self._gone(held)
        shutil.rmtree(held.folder, ignore_errors=True)
        self._ledger.tell(held, EventKind.REMOVED)

    def remove_group(self, group: Cgroup) -> None:
        """Remove a control group as soon as its last process is out of the way."""
        self._remove_group(group, _ATTEMPTS)

    def wants_berths(self) -> None:
        """Let the pool be filled when there is nothing else to do."""
        self._loop.when_idle(self._fill)

    def _let_go(self, held: Held) -> None:
        """Release everything but the record."""
        self.watch.forget(held)
        if held.preparation is not None:
            held.preparation.close()
            held.preparation = None
        if held.attendance is not None:
            held.attendance.close()
            held.attendance = None
        self._logs.close(held)
        if held.berth is not None:
            self._pool.release(held.berth)
            held.berth = None
            self.wants_berths()
        for fd in held.locks:
            os.close(fd)
        held.locks.clear()
        held.ports.close()
        self._crun.forget(held.spec.id)
        self.remove_group(held.group)

    def _out_of_memory(self, held: Held) -> None:
        if held.group.oom_kills() > 0 and not held.status.oom_killed:
            self._ledger.change(held, EventKind.OOM, oom_killed=True)

    def _fill(self) -> bool:
        try:
            return self._pool.fill()
        except (HakoError, OSError):
            return False  # the next creation says why

    def _remove_group(self, group: Cgroup, attempts: int) -> None:
        if not group.remove() and attempts:  # the last process is still on its way out
            self._loop.after(0.02, partial(self._remove_group, group, attempts - 1))
