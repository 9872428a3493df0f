"""The supervisor's event loop: descriptors, timers and children that end, in one thread, never blocking long."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import selectors
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

Callback = Callable[[], object]
ChildCallback = Callable[[int], None]  # gets the wait status
READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE


@dataclass(order=True, slots=True)
class Timer:
    """A call that is due at *when* on the monotonic clock, unless it is cancelled."""

    when: float
    order: int
    callback: Callback = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """Calls back. Only one in a process: it owns SIGCHLD and reaps every child, known or not."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[Timer] = []
        self._order = itertools.count()
        self._children: dict[int, ChildCallback] = {}
        self._ended: dict[int, int] = {}
        self._soon: list[Callback] = []
        self._idle: Callable[[], bool] | None = None
        self._running = False
        self._wakeup = _wakeup_pipe()
        self.on_readable(self._wakeup, self._on_signal)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def on_readable(self, fd: int, callback: Callback) -> None:
        """Call whenever *fd* can be read."""
        self._selector.register(fd, READ, callback)

    def set_interest(self, fd: int, events: int, callback: Callback) -> None:
        """Change what is waited for on a registered *fd*; `READ`, `WRITE` or both."""
        self._selector.modify(fd, events, callback)

    def forget(self, fd: int) -> None:
        """Stop waiting on *fd*, before it is closed. One that is not waited on is fine."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(fd)

    def after(self, seconds: float, callback: Callback) -> Timer:
        """Call once, *seconds* from now."""
        timer = Timer(time.monotonic() + seconds, next(self._order), callback)
        heapq.heappush(self._timers, timer)
        return timer

    def soon(self, callback: Callback) -> None:
        """Call in the next round."""
        self._soon.append(callback)

    def when_idle(self, callback: Callable[[], bool]) -> None:
        """Call whenever there is nothing else to do, until it answers that it has nothing to do either."""
        self._idle = callback

    def on_child_end(self, pid: int, callback: ChildCallback) -> None:
        """Call with the wait status when the child *pid* has ended, even if it has ended already."""
        self._children[pid] = callback
        if pid in self._ended:
            self.soon(self._report_ended)

    def on_termination(self, callback: Callback) -> None:
        """Call at SIGTERM, SIGINT and SIGHUP."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: self.soon(callback))

    def run(self) -> None:
        """Go round until `stop`."""
        self._running = True
        self.reap()  # children that ended before anybody could be told
        while self._running:
            self._round()

    def stop(self) -> None:
        self._running = False

    def _round(self) -> None:
        ready = self._selector.select(self._timeout())
        soon, self._soon = self._soon, []
        for callback in soon:
            callback()
        for key, _ in ready:
            # A callback may have closed the descriptor of a later one in the same round.
            if self._selector.get_map().get(key.fd) is key:
                key.data()
        self._run_timers()
        if not ready and not soon and self._idle is not None and not self._idle():
            self._idle = None

    def _timeout(self) -> float | None:
        if self._soon or self._idle is not None:
            return 0.0
        if self._timers:
            return max(0.0, self._timers[0].when - time.monotonic())
        return None

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0].when <= now:
            timer = heapq.heappop(self._timers)
            if not timer.cancelled:
                timer.callback()

    def _on_signal(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wakeup, 4096):
                pass
        self.reap()

    def reap(self) -> None:
        """Collect every child that has ended and report those that somebody waits for."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            self._ended[pid] = status
        self._report_ended()

    def _report_ended(self) -> None:
        for pid in [pid for pid in self._ended if pid in self._children]:
            status = self._ended.pop(pid)
            self._children.pop(pid)(status)
        if len(self._ended) > 256:  # grandchildren that nobody asked about
            for pid in list(self._ended)[:128]:
                del self._ended[pid]


def _wakeup_pipe() -> int:
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    return read
