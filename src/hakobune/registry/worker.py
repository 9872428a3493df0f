"""One worker: an event loop over sockets that the parent has opened, and everything that its connections share."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import resource
import signal
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hakobune.iam.master_key import load_master_key, master_key_path
from hakobune.iam.opened import open_iam
from hakobune.iam.secret_box import SecretBox
from hakobune.iam.store import IamStore
from hakobune.registry.access_log import AccessLog
from hakobune.registry.admission import Admission
from hakobune.registry.answer import Answer
from hakobune.registry.app import App
from hakobune.registry.authorize import Authorizer
from hakobune.registry.blobs import Storage
from hakobune.registry.connection import Connection
from hakobune.registry.fast_path import FastPath
from hakobune.registry.generation import Generation
from hakobune.registry.head import Head
from hakobune.registry.limits import Limits
from hakobune.registry.metadata import Metadata
from hakobune.registry.metrics import Gauge, Metrics, MetricsPage, series_of
from hakobune.registry.mirror import NO_MIRRORS, Mirrors
from hakobune.registry.parts import Parts
from hakobune.registry.peer import owner_peer_of, proxy_peer, tcp_peer
from hakobune.registry.repeats import Repeats
from hakobune.registry.repository import Repository
from hakobune.registry.route import Route, find_route
from hakobune.registry.sockets import BACKLOG, Sockets
from hakobune.registry.sources import Sources
from hakobune.registry.storages import open_storage
from hakobune.registry.token_endpoint import TokenEndpoint
from hakobune.registry.turn_taker import Closable, TurnTaker
from hakobune.registry.upstream_gate import AgentGate
from hakobune.registry.upstream_metrics import RateLimitNotes
from hakobune.registry.upstream_password import open_password
from hakobune.settings import Settings
from hakobune.state.sql import Sql, open_sql

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_ROUTES: Final = 8192  # that are remembered, if they are no longer than this:
_PATH_BYTES: Final = 512
_THREADS: Final = 4
_TICK_S: Final = 1.0
_PULLS_S: Final = 60.0
_GRACE_S: Final = 20.0  # for requests under way when the worker is told to end

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What all workers of a registry have in common."""

    settings: Settings
    limits: Limits
    certificate: Path | None = None
    key: Path | None = None
    mirrors: Mirrors = NO_MIRRORS


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


async def serve(plan: Plan, sockets: Sockets, page: MetricsPage, number: int) -> None:
    """Serve until SIGTERM."""
    _raise_descriptor_limit()
    _keep_pieces_in_the_heap()
    settings = plan.settings
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    loop.add_signal_handler(signal.SIGINT, ended.set)
    encryption = _encryption(plan)
    if encryption is not None:
        loop.add_signal_handler(signal.SIGHUP, _reload, plan, encryption)
    else:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    sql = await open_sql(settings.registry_database)
    generation = Generation(settings.registry / "generation")
    await sql.listen(generation.bump)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="disk") as threads:
        worker, parts = _make_worker(plan, sql, generation, page, number, threads)
        servers = await _listen(worker, plan, sockets, encryption)
        ticking = loop.create_task(_tick(worker, parts))
        await ended.wait()
        for server in servers:
            server.close()
        await worker.end()
        ticking.cancel()
        await parts.metadata.flush_pulls()
        await parts.sources.close()
        await sql.close()


def _make_worker(
    plan: Plan,
    sql: Sql,
    generation: Generation,
    page: MetricsPage,
    number: int,
    threads: ThreadPoolExecutor,
) -> tuple[Worker, Parts]:
    settings = plan.settings
    storage = open_storage(settings, os.environ)
    uploads = settings.registry_files / "uploads"
    uploads.mkdir(parents=True, exist_ok=True)
    metadata = Metadata(sql, generation, grace_s=settings.registry_grace_s)
    metrics = Metrics(page, number)
    log = AccessLog(settings.registry / "access.log")
    repeats = Repeats(generation, metrics, log)
    fast = FastPath(generation, metadata.note_pull, repeats)
    iam = open_iam(settings.home, sql, changed=generation.bump)
    authorizer = Authorizer(iam.store, iam.authenticator, generation, clock=time.time)
    parts = Parts(
        metadata=metadata,
        storage=storage,
        sources=_make_sources(settings, metadata, storage, iam.store),
        fast=fast,
        metrics=metrics,
        limits=plan.limits,
        uploads=uploads,
        incoming=settings.registry_files / "incoming",
        run=settings.run,
        threads=threads,
        mirrors=plan.mirrors,
    )
    admission = Admission(metadata, authorizer, fast)
    tokens = TokenEndpoint(iam.store, iam.authenticator, authorizer, metadata.find_repository)
    app = App(parts, admission, tokens)
    return Worker(app, fast, repeats, metrics, log, plan.limits, plan.mirrors), parts


def _make_sources(
    settings: Settings, metadata: Metadata, storage: Storage, iam: IamStore
) -> Sources:
    box = SecretBox(load_master_key(master_key_path(settings.home)))
    return Sources(
        metadata,
        storage,
        partial=settings.registry_files / "partial",
        open_password=lambda repository: _password(box, repository),
        env=os.environ,
        home=settings.home,
        own_hosts=settings.registry_hosts,
        gate=AgentGate(iam),
    )


def _password(box: SecretBox, repository: Repository) -> str:
    remote = repository.remote
    return "" if remote is None else open_password(box, repository.resource, remote.password)


async def _listen(
    worker: Worker, plan: Plan, sockets: Sockets, encryption: ssl.SSLContext | None
) -> list[Closable]:
    loop = worker.loop
    owner = owner_peer_of(plan.settings.registry.stat().st_uid)
    servers: list[Closable] = [
        await loop.create_unix_server(
            lambda: Connection(worker, owner), sock=sockets.owner, backlog=BACKLOG
        ),
        TurnTaker(loop, sockets.proxy, lambda: Connection(worker, proxy_peer)),
    ]
    for listener in sockets.own_port:
        _spare_pacing(listener)
        servers.append(
            await loop.create_server(
                lambda: Connection(worker, tcp_peer),
                sock=listener,
                backlog=BACKLOG,
                ssl=encryption,
                ssl_handshake_timeout=plan.limits.head_s if encryption else None,
            )
        )
    return servers


def _spare_pacing(listener: socket.socket) -> None:
    """On loopback, nothing is lost and nothing has to be paced: BBR, where it is the default, doubles the kernel's work."""
    address = listener.getsockname()[0]
    if address == "::1" or address.startswith("127."):
        with contextlib.suppress(OSError):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")


async def _tick(worker: Worker, parts: Parts) -> None:
    flushed = worker.loop.time()
    limits = RateLimitNotes(parts.run, parts.metrics.worker)
    while True:
        await asyncio.sleep(_TICK_S)
        try:
            worker.tick()
            limits.write(parts.sources.upstreams.rate_limits())
            if worker.loop.time() - flushed > _PULLS_S:
                flushed = worker.loop.time()
                await parts.metadata.flush_pulls()
        except Exception:
            logger.exception("what is done every second failed")


def _encryption(plan: Plan) -> ssl.SSLContext | None:
    if plan.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(plan.certificate, plan.key)
    return context


def _reload(plan: Plan, encryption: ssl.SSLContext) -> None:
    """Use the certificate that lies there now, for new connections."""
    assert plan.certificate is not None
    try:
        encryption.load_cert_chain(plan.certificate, plan.key)
    except (OSError, ssl.SSLError) as error:
        logger.error("the certificate cannot be read", extra={"reason": str(error)})


def _keep_pieces_in_the_heap() -> None:
    """What uploads are read into (256 KB each) is not to be mapped, faulted in and unmapped every time (mallopt(3))."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # of glibc alone
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1024 * 1024)
        mallopt(_M_TRIM_THRESHOLD, 2 * 1024 * 1024)


def _raise_descriptor_limit() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


__all__ = ["Plan", "Worker", "serve"]
