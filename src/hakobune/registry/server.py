"""The registry's parent process: opens the sockets, imports, forks one worker a core and the keeper, starts dead ones again.

`python -I -m hakobune.registry.server`. It reads no request and opens no database; the short child that
migrates the database is a process of its own, so that what that imports is in no worker's memory.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import uvloop

from hakobune.errors import HakoError, UsageError
from hakobune.registry.apology import apologize
from hakobune.registry.assembly import Plan
from hakobune.registry.generation import Generation
from hakobune.registry.limits import Limits
from hakobune.registry.metrics import MetricsPage
from hakobune.registry.mirror import Mirrors
from hakobune.registry.port_share import share
from hakobune.registry.serve import serve
from hakobune.registry.sockets import Sockets, open_sockets
from hakobune.registry.storages import open_storage
from hakobune.settings import Settings

_MOST_WORKERS: Final = 256
_PR_SET_PDEATHSIG: Final = 1
_SIGNALS: Final = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_SOON_S: Final = 5.0  # who dies sooner is started again later
_LONGEST_WAIT_S: Final = 10.0
_GRACE_S: Final = 30.0
_APOLOGY_S: Final = 5.0
_MIGRATION_TRIES: Final = 3

Run = Callable[[], None]
Serve = Callable[[Plan, Sockets, MetricsPage, int], Coroutine[Any, Any, None]]

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
        """
        Args:
            died: called when a child has died, before another is started.
        """
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


def migrate(settings: Settings) -> None:
    """Bring the database up to date, in a process that ends.

    Raises:
        HakoError: that failed; its words have gone to stderr.
    """
    command = [
        *(sys.executable, "-I", "-m", "hakobune.state.migrate"),
        str(settings.registry / "migrate.lock"),
    ]
    for left in reversed(range(_MIGRATION_TRIES)):
        code = subprocess.run(
            command, input=settings.registry_database.encode(), check=False
        ).returncode
        if code == 0:
            return
        if code > 0 or not left:  # else it was killed, and has changed all or nothing
            raise HakoError("the registry's database cannot be used", why="see above")


def run(plan: Plan, *, workers: int, env: MutableMapping[str, str]) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        HakoError: the database, the storage or an address cannot be used.
    """
    settings = plan.settings
    settings.registry.mkdir(parents=True, exist_ok=True)
    try:
        migrate(settings)
        open_storage(settings, env)  # to fail now, and not in every worker
    except HakoError:
        if "LISTEN_FDS" in env:  # the supervisor's: connections wait in them, and it will try again
            apologize(
                open_sockets(settings, env),
                "the registry cannot open its database or its storage; its log says why",
                for_s=_APOLOGY_S,
            )
        raise
    page = MetricsPage(workers)
    sockets = open_sockets(settings, env)
    generation = Generation(settings.registry / "generation")
    ports = share(sockets.own_port, workers)
    children = [
        Child(
            f"worker {number}",
            _in_loop(serve, plan, replace(sockets, own_port=ports[number]), page, number),
        )
        for number in range(workers)
    ]
    children.append(Child("keeper", _keep(settings, env)))
    gc.collect()
    gc.freeze()
    Parent(children, generation.bump).run()
    sockets.close()


def _in_loop(serve: Serve, plan: Plan, sockets: Sockets, page: MetricsPage, number: int) -> Run:
    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(plan, sockets, page, number))

    return run


def _keep(settings: Settings, env: Mapping[str, str]) -> Run:
    def run() -> None:
        from hakobune.registry.keeper import keep  # what it imports is not the workers'

        asyncio.run(keep(settings, env))

    return run


class _JsonLines(logging.Formatter):
    """One JSON object a line: what happened, and what is known of it."""

    def format(self, record: logging.LogRecord) -> str:
        known = vars(logging.makeLogRecord({}))
        fields = {k: v for k, v in vars(record).items() if k not in known and k != "message"}
        document = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "event": record.getMessage(),
            **fields,
        }
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return json.dumps(document, default=str)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """The command line. *key* is None if it is in the certificate's file."""

    workers: int
    certificate: Path | None
    key: Path | None


def read_flags(arguments: Sequence[str]) -> Flags:
    """Read `--workers N --tls-cert FILE --tls-key FILE`; argparse would cost every worker a megabyte.

    Raises:
        UsageError: it is something else.
    """
    known = {"--workers": "", "--tls-cert": "", "--tls-key": ""}
    rest: list[str] = []
    for argument in arguments:
        rest += argument.split("=", 1) if argument.startswith("--") else [argument]
    while rest:
        flag, *rest = rest
        if flag not in known or not rest:
            raise UsageError(
                f"cannot understand {flag!r}",
                fix=f"the flags are {', '.join(known)}, each with a value",
            )
        known[flag], *rest = rest
    count = known["--workers"] or str(len(os.sched_getaffinity(0)))
    if not count.isdecimal() or not 0 < int(count) <= _MOST_WORKERS:
        raise UsageError(f"cannot start {count} workers", fix=f"1 to {_MOST_WORKERS}")
    certificate, key = known["--tls-cert"], known["--tls-key"]
    return Flags(
        workers=int(count),
        certificate=Path(certificate) if certificate else None,
        key=Path(key) if key else None,
    )


def main() -> int:
    """Run with the flags of the command line and the environment; the exit code."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    try:
        flags = read_flags(sys.argv[1:])
        settings = Settings.from_environment(os.environ, uid=os.getuid())
        plan = Plan(
            settings=settings,
            limits=Limits(),
            certificate=flags.certificate,
            key=flags.key,
            mirrors=Mirrors.of(settings.registry_mirrors),
        )
        run(plan, workers=flags.workers, env=os.environ)
    except HakoError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
