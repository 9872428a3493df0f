"""The registry's parent process: opens the sockets, imports, forks one worker a core and the keeper, starts dead ones again.

`python -I -m hakobune.registry.server`. It reads no request and opens no database; the short child that
migrates the database is a process of its own, so that what that imports is in no worker's memory.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine, Mapping, MutableMapping
from dataclasses import replace
from typing import Any, Final

import uvloop

from hakobune.errors import HakoError
from hakobune.registry.apology import apologize
from hakobune.registry.assembly import Plan
from hakobune.registry.generation import Generation
from hakobune.registry.limits import Limits
from hakobune.registry.metrics import MetricsPage
from hakobune.registry.mirror import Mirrors
from hakobune.registry.parent import Child, Parent
from hakobune.registry.port_share import share
from hakobune.registry.serve import serve
from hakobune.registry.server_flags import read_flags
from hakobune.registry.sockets import Sockets, open_sockets
from hakobune.registry.storages import open_storage
from hakobune.settings import Settings

_APOLOGY_S: Final = 5.0
_MIGRATION_TRIES: Final = 3

Run = Callable[[], None]
Serve = Callable[[Plan, Sockets, MetricsPage, int], Coroutine[Any, Any, None]]


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
