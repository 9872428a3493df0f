"""What the connections of one worker process share: its memory, its log, its counters, its end."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from hakobune.registry.access_log import AccessLog
from hakobune.registry.answer import Answer
from hakobune.registry.app import App
from hakobune.registry.connection import Connection
from hakobune.registry.fast_path import FastPath
from hakobune.registry.head import Head
from hakobune.registry.limits import Limits
from hakobune.registry.metrics import Gauge, Metrics, series_of
from hakobune.registry.mirror import Mirrors
from hakobune.registry.repeats import Repeats
from hakobune.registry.route import Route, find_route

_ROUTES: Final = 8192  # that are remembered, if they are no longer than this:
_PATH_BYTES: Final = 512
_GRACE_S: Final = 20.0  # for requests under way when the worker is told to end


class Worker:
    """What the connections of one process share; fits `connection.Server`."""

    def __init__(
        self,
        app: App,
        fast: FastPath,
        repeats: Repeats,
        metrics: Metrics,
        log: AccessLog,
        limits: Limits,
        mirrors: Mirrors,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.limits = limits
        self.stopping = False
        self._app = app
        self._fast = fast
        self._metrics = metrics
        self._log = log
        self._mirrors = mirrors
        self._routes: dict[str, Route] = {}
        self.answer_hot = fast.answer
        self.answer_repeat = repeats.answer

    def find_route(self, path: str, host: str) -> Route:
        """What a path means; a host may be a mirror's, which stands for a repository."""
        route = self._routes.get(path)
        if route is None:
            route = find_route(path)
            if len(path) < _PATH_BYTES:
                if len(self._routes) >= _ROUTES:
                    self._routes.clear()
                self._routes[path] = route
        return self._mirrors.route(route, host) if self._mirrors.entries else route

    async def answer(self, connection: Connection, head: Head, route: Route) -> Answer:
        return await self._app.answer(connection, head, route)

    def record(self, connection: Connection, status: int) -> None:
        head, body = connection.head, connection.body
        seconds = time.monotonic() - connection.started
        received = 0 if body is None else body.received
        method, target, agent = "-", "-", ""
        if head is not None:
            method, target = head.method, head.target
            agent = head.fields.values.get("user-agent", "")
        series = series_of(connection.route.kind, method, status)
        self._metrics.add(series, seconds, connection.sent, received)
        facts = self._log.describe(
            principal=connection.principal,
            method=method,
            target=target,
            status=status,
            sent=connection.sent,
            received=received,
            agent=agent,
        )
        self._log.add(connection.client, seconds, facts)

    def tick(self) -> None:
        """What is done once a second."""
        now = time.monotonic()
        for connection in list(self.connections):
            connection.check(now)
        self._metrics.set(Gauge.CONNECTIONS, len(self.connections))
        self._metrics.set(Gauge.REQUESTS, len(self.tasks))
        self._metrics.set(Gauge.CACHED, len(self._fast))
        self._log.flush()

    async def end(self) -> None:
        """Answer what is under way, for a while, then close."""
        self.stopping = True
        for connection in list(self.connections):
            connection.end_when_idle()
        until = self.loop.time() + _GRACE_S
        while self.connections and self.loop.time() < until:
            await asyncio.sleep(0.05)
        for connection in list(self.connections):
            connection.abort()
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=5.0)
        self._log.flush()
