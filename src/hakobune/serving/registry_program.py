"""The registry as a program of this installation: the supervisor holds its sockets, and runs it when it is needed.

One that holds nothing yet runs from the first connection on, so that a machine which only serves does not pay for it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from hakobune.errors import HakoError
from hakobune.runtime.container import ContainerError
from hakobune.runtime.listeners import join_address
from hakobune.serving.ingress_program import is_free, listen_addresses
from hakobune.serving.supervisor_link import SupervisorLink
from hakobune.settings import Settings

PROGRAM = "registry"

logger = logging.getLogger(__name__)


def registry_command() -> tuple[str, ...]:
    """How the registry is started; it finds its sockets as sd_listen_fds(3) says."""
    return (sys.executable, "-I", "-X", "utf8", "-m", "hakobune.registry.server")


def unix_sockets(settings: Settings) -> tuple[str, ...]:
    """For this machine's own users, and for what HAProxy forwards."""
    return (str(settings.registry_socket), str(settings.registry_tcp_socket))


def own_addresses(settings: Settings, *, held: Sequence[str] = ()) -> tuple[str, ...]:
    """The addresses of the registry's own port; none, with a warning, if another program has it.

    Args:
        held: those that the supervisor holds for it already.
    """
    if settings.registry_listen is None:
        return ()
    host, port = settings.registry_listen
    addresses = listen_addresses(host)
    wanted = tuple(join_address(address, port) for address in addresses)
    if all(w in held or is_free(a, port) for w, a in zip(wanted, addresses, strict=True)):
        return wanted
    logger.warning(
        "the registry's own port is in use by another program and left out",
        extra={"port": port, "fix": "HAKO_REGISTRY_LISTEN=HOST:PORT"},
    )
    return ()


def has_content(settings: Settings) -> bool:
    """Whether there may be something to look after: repositories on this machine, or a database elsewhere."""
    own = f"sqlite:///{settings.registry}/meta.db"
    return settings.registry_database != own or (settings.registry / "meta.db").exists()


class RegistryProgram:
    """Has the supervisor run the registry."""

    def __init__(self, settings: Settings, link: SupervisorLink) -> None:
        self._settings = settings
        self._link = link

    async def ensure(self) -> None:
        """Have it run, or its sockets held. Idempotent; what hinders it is logged, and services go on."""
        try:
            held = next((p.listen for p in await self._link.programs() if p.name == PROGRAM), ())
            try:
                await self._start(own_addresses(self._settings, held=held))
            except (ContainerError, OSError) as error:
                logger.warning("the registry has no port of its own", extra={"why": str(error)})
                await self._start(())
        except HakoError as error:
            logger.error("the registry cannot be started", extra={"why": str(error)})

    async def _start(self, own: Sequence[str]) -> None:
        await self._link.start_program(
            PROGRAM,
            registry_command(),
            env=None,
            listen=(*unix_sockets(self._settings), *own),
            lazily=not has_content(self._settings),
        )
