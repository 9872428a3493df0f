"""One worker process: an event loop over sockets that the parent has opened, until it is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import resource
import signal
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from hakobune.registry.assembly import Plan, make_worker
from hakobune.registry.connection import Connection
from hakobune.registry.generation import Generation
from hakobune.registry.metrics import MetricsPage
from hakobune.registry.parts import Parts
from hakobune.registry.peer import owner_peer_of, proxy_peer, tcp_peer
from hakobune.registry.sockets import BACKLOG, Sockets
from hakobune.registry.turn_taker import Closable, TurnTaker
from hakobune.registry.upstream_metrics import RateLimitNotes
from hakobune.registry.worker import Worker
from hakobune.state.sql import open_sql

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_THREADS: Final = 4
_TICK_S: Final = 1.0
_PULLS_S: Final = 60.0

logger = logging.getLogger(__name__)


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
        worker, parts = make_worker(plan, sql, generation, page, number, threads)
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
