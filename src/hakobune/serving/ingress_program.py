"""HAProxy as a program of this installation: what it listens on, its limits, and that the supervisor keeps it running."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import shutil
import socket
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from hakobune.errors import HakoError
from hakobune.runtime.listeners import join_address, split_address
from hakobune.runtime.program_status import ProgramStatus
from hakobune.serving.haproxy import HAProxy, HAProxyError
from hakobune.serving.haproxy_files import StartUp
from hakobune.serving.supervisor_link import SupervisorLink
from hakobune.settings import Settings

PROGRAM = "haproxy"
START_TIMEOUT_S = 15.0

logger = logging.getLogger(__name__)


class IngressError(HakoError):
    """HAProxy cannot be started."""


def make_start_up(settings: Settings, service_ports: Sequence[int], *, pending_s: int) -> StartUp:
    """How HAProxy is started for this installation."""
    nofile = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return StartUp(
        folder=settings.run / "haproxy",
        api_socket=settings.api_tcp_socket,
        registry_socket=settings.registry_tcp_socket,
        grpc_socket=settings.grpc_socket,
        binds=listen_addresses(settings.host),
        port=settings.port,
        service_ports=tuple(service_ports),
        own_hosts=tuple(sorted({"localhost", "127.0.0.1", "::1", settings.host.lower()})),
        mirror_hosts=settings.mirror_hosts,
        max_connections=max_connections(nofile),
        threads=max((os.cpu_count() or 1) // 4, 1),
        pending_s=pending_s,
    )


def max_connections(open_files: int) -> int:
    """A connection needs two descriptors; HAProxy refuses to start above its limit."""
    return max(min((open_files - 1000) // 2, 20_000), 100)


def listen_addresses(host: str) -> tuple[str, ...]:
    """The addresses that a host name means here. `localhost` is both loopbacks, where IPv6 is on."""
    if host != "localhost":
        return (str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0]),)
    return ("127.0.0.1", "::1") if is_free("::1", 0) else ("127.0.0.1",)


def is_free(address: str, port: int) -> bool:
    """Whether a program could listen there now."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
            return True
    except OSError as error:
        return error.errno not in (
            errno.EADDRINUSE,
            errno.EADDRNOTAVAIL,
            errno.EACCES,
            errno.EAFNOSUPPORT,
        )


def free_ports(
    addresses: Iterable[str], ports: Iterable[int], held: Collection[str] = ()
) -> tuple[int, ...]:
    """Those of *ports* on which HAProxy can listen, being free or *held* for it; the others are said in the log."""
    binds = tuple(addresses)
    free: list[int] = []
    taken: list[int] = []
    for port in ports:
        (free if _is_ours_or_free(binds, port, held) else taken).append(port)
    if taken:
        logger.warning(
            "service ports in use by other programs are left out", extra={"ports": taken}
        )
    return tuple(free)


def _is_ours_or_free(addresses: Iterable[str], port: int, held: Collection[str]) -> bool:
    return all(join_address(a, port) in held or is_free(a, port) for a in addresses)


class IngressProgram:
    """Starts HAProxy through the supervisor, or finds the one that runs."""

    def __init__(self, settings: Settings, link: SupervisorLink, *, pending_s: int) -> None:
        self._settings = settings
        self._link = link
        self._pending_s = pending_s

    async def prepare(self) -> StartUp:
        """What HAProxy was started with, or what it shall be started with.

        Raises:
            IngressError: its address is taken.
        """
        program = await self._find()
        held = program.listen if program is not None else ()
        own = {split_address(address)[1] for address in held} - {self._settings.port}
        start = make_start_up(self._settings, sorted(own), pending_s=self._pending_s)
        if start.listen == held:
            return start
        if not _is_ours_or_free(start.binds, self._settings.port, held):
            raise IngressError(
                f"cannot listen on {self._settings.host}:{self._settings.port}",
                why="another program does",
                fix="end it, or choose another address: HAKO_LISTEN=localhost:8081",
            )
        first, last = self._settings.first_service_port, self._settings.last_service_port
        wanted = [port for port in range(first, last + 1) if port != self._settings.port]
        ports = await asyncio.to_thread(free_ports, start.binds, wanted, held)
        return make_start_up(self._settings, ports, pending_s=self._pending_s)

    async def is_running(self) -> bool:
        program = await self._find()
        return program is not None and program.running

    async def _find(self) -> ProgramStatus | None:
        return next((p for p in await self._link.programs() if p.name == PROGRAM), None)

    async def ensure(self, haproxy: HAProxy) -> None:
        """Start it if it does not run, and wait until it answers. Its files are in place.

        Raises:
            IngressError: it is not installed or does not start.
        """
        program = shutil.which("haproxy") or shutil.which(
            "haproxy", path="/usr/sbin:/usr/local/sbin"
        )
        if program is None:
            raise IngressError(
                "haproxy is not installed",
                why="it carries every request",
                fix="apt-get install haproxy",
            )
        configuration = str(haproxy.start.configuration)
        await self._link.start_program(
            PROGRAM,
            (program, "-db", "-f", configuration),
            env=_ENVIRONMENT,
            listen=haproxy.start.listen,
        )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while not await _answers(haproxy):
                    await asyncio.sleep(0.02)
        except TimeoutError as error:
            raise IngressError("haproxy does not start", why=await self._last_words()) from error

    async def _last_words(self) -> str:
        program = await self._find()
        if program is None:
            return "it says nothing"
        try:
            lines = Path(program.log_path).read_text(errors="replace").splitlines()
        except OSError as error:
            return str(error)
        return " | ".join(lines[-3:])


_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


async def _answers(haproxy: HAProxy) -> bool:
    try:
        return await haproxy.pid() > 0
    except HAProxyError:
        return False
