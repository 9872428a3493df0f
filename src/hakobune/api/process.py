"""What the processes that serve APIs have in common: servers on unix sockets, signals, logs, errors."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Collection, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from hakobune import __version__
from hakobune.api.artifacts_context import Registry
from hakobune.api.artifacts_v1 import artifacts_v1_routes
from hakobune.api.audit_v1 import audit_v1_routes
from hakobune.api.caller import OwnerCalls
from hakobune.api.errors import answer_hako_error, answer_unknown_path
from hakobune.api.guard import TokenGuard
from hakobune.api.iam_v1 import iam_v1_routes
from hakobune.api.registry_state import RegistryState
from hakobune.errors import HakoError
from hakobune.settings import Settings

SOCKET_GROUP = "hakobune"

logger = logging.getLogger(__name__)


def make_app(
    routes: Sequence[BaseRoute],
    state: RegistryState,
    registry: Registry,
    *,
    server: str,
    history_days: int,
) -> Starlette:
    """The APIs of the registry and of IAM, and *routes*; who calls is found out around it.

    Args:
        server: this installation's URL, for callers who have come by a socket.
        history_days: how long the audit trail is kept; 0 for ever.
    """
    app = Starlette(
        routes=[
            Route("/healthz", _healthz),
            *routes,
            *artifacts_v1_routes(registry),
            *iam_v1_routes(state.iam.store),
            *audit_v1_routes(state.sql, kept_days=history_days),
        ],
        exception_handlers={
            HakoError: answer_hako_error,
            HTTPException: answer_unknown_path,
        },
    )
    app.state.iam = state.iam.store
    app.state.server = server
    return app


async def _healthz(_: Request) -> Response:
    return JSONResponse({"status": "ok", "version": __version__})


def our_hosts(settings: Settings) -> Collection[str]:
    """The host names under which the API may be called over TCP."""
    return {"localhost", "127.0.0.1", "::1", settings.host.lower()}


async def serve_until_told(app: ASGIApp, settings: Settings, state: RegistryState) -> None:
    """Serve *app* on both unix sockets until SIGTERM or SIGINT."""
    guarded = TokenGuard(app, hosts=our_hosts(settings), authenticator=state.iam.authenticator)
    servers = [
        _server(OwnerCalls(app), settings.api_socket),
        _server(guarded, settings.api_tcp_socket),
    ]
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _end, servers)
    async with asyncio.TaskGroup() as tasks:
        for server, listener in servers:
            tasks.create_task(server.serve(sockets=[listener]))


class _Server(uvicorn.Server):
    """A uvicorn that leaves signals to the process, which runs two of them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(app: ASGIApp, path: Path) -> tuple[_Server, socket.socket]:
    config = uvicorn.Config(
        app,
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    return _Server(config), _listen(path)


def _listen(path: Path) -> socket.socket:
    """A listening unix socket at *path*, open to root and the group hakobune alone."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    listener.bind(str(temporary))
    os.chmod(temporary, 0o660)
    with contextlib.suppress(KeyError, PermissionError):
        os.chown(temporary, -1, grp.getgrnam(SOCKET_GROUP).gr_gid)
    listener.listen(128)
    listener.setblocking(False)
    os.rename(temporary, path)  # never absent while an old controller's socket lies there
    return listener


def _end(servers: list[tuple[_Server, socket.socket]]) -> None:
    for server, _ in servers:
        server.should_exit = True


class _JsonLines(logging.Formatter):
    """One JSON object a record: time, level, logger, event and the record's own fields."""

    _STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}

    def format(self, record: logging.LogRecord) -> str:
        fields = {k: v for k, v in vars(record).items() if k not in self._STANDARD}
        document = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **fields,
        }
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return json.dumps(document, default=str, ensure_ascii=False)


def run_process(work: Coroutine[Any, Any, None], *, ended: str) -> int:
    """Run until told to stop; an error of ours is logged as *ended* and becomes the exit code."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    try:
        asyncio.run(work)
    except HakoError as error:
        logger.error(ended, extra={"what": error.what, "why": error.why, "fix": error.fix})
        return error.exit_code
    return 0
