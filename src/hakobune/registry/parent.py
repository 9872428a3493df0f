"""The parent of a registry's processes: starts workers and keeper, starts dead ones again, ends all."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_SIGNALS: Final = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_SOON_S: Final = 5.0  # who dies sooner is started again later
_LONGEST_WAIT_S: Final = 10.0
_GRACE_S: Final = 30.0

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Child:
    """One place among the children, and who has it now."""

    name: str
    run: Callable[[], None]
    pid: int = 0
    started: float = 0.0
    failures: int = 0
    due: float = 0.0  # when to start it again


class Parent:
    """Keeps the children alive until it is told to end."""

    def __init__(self, children: Sequence[Child], died: Callable[[], None]) -> None:
        """*died* is called when a child has died, before another is started."""
        self._children = children
        self._died = died
        self._ending = False

    def run(self) -> None:
        """Until SIGTERM or SIGINT. SIGHUP goes to the children."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        for child in self._children:
            self._start(child)
        while not self._ending:
            received = signal.sigtimedwait(_SIGNALS, self._wait_s())
            if received is None:
                pass
            elif received.si_signo == signal.SIGHUP:
                self._tell(signal.SIGHUP)
            elif received.si_signo != signal.SIGCHLD:
                self._ending = True
            self._reap()
            self._start_due()
        self._end()

    def _start(self, child: Child) -> None:
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            child.pid = pid
            child.started = time.monotonic()
            return
        code = 1
        try:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() == parent:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
                child.run()
                code = 0
        except BaseException:
            logger.exception("a child of the registry has failed", extra={"child": child.name})
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for child in self._children:
                if child.pid == pid:
                    self._note_death(child, status)

    def _note_death(self, child: Child, status: int) -> None:
        now = time.monotonic()
        child.pid = 0
        child.failures = child.failures + 1 if now - child.started < _SOON_S else 0
        wait_s = 0.0 if child.failures == 0 else min(0.1 * 2**child.failures, _LONGEST_WAIT_S)
        child.due = now + wait_s
        if not self._ending:
            logger.error(
                "a child of the registry has died", extra={"child": child.name, "status": status}
            )
            self._died()

    def _start_due(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if not child.pid and child.due <= now and not self._ending:
                self._start(child)

    def _wait_s(self) -> float:
        waiting = [child.due for child in self._children if not child.pid]
        return max(0.0, min(waiting) - time.monotonic()) if waiting else 3600.0

    def _tell(self, number: int) -> None:
        for child in self._children:
            if child.pid:
                os.kill(child.pid, number)

    def _end(self) -> None:
        self._tell(signal.SIGTERM)
        until = time.monotonic() + _GRACE_S
        while any(child.pid for child in self._children) and time.monotonic() < until:
            signal.sigtimedwait((signal.SIGCHLD,), 0.5)
            self._reap()
        self._tell(signal.SIGKILL)
