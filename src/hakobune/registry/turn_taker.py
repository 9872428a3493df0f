"""Accepts from a socket that several workers listen on, one connection at a time, so that none takes all that wait.

What a proxy opens in a burst it keeps for long: accepted by one worker, it would load one core only.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Final, Protocol

_OTHERS_TURN_S: Final = 0.001

logger = logging.getLogger(__name__)


class Closable(Protocol):
    """A listening server, as far as it is stopped."""

    def close(self) -> None: ...


class TurnTaker:
    """Listens until it is closed; the socket stays open."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        make: Callable[[], asyncio.BaseProtocol],
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._make = make
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._watch()

    def close(self) -> None:
        self._closed = True
        self._loop.remove_reader(self._listener.fileno())

    def _watch(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except BlockingIOError:
            return  # another worker was first
        except OSError as error:  # no descriptors are left
            logger.warning("a connection was not accepted", extra={"reason": str(error)})
            return
        self._loop.remove_reader(self._listener.fileno())
        self._loop.call_later(_OTHERS_TURN_S, self._watch)
        task = self._loop.create_task(self._connect(accepted))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make, accepted)
        except OSError:  # it is gone already
            accepted.close()
