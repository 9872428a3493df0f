"""What a client's connection needs of the worker that it belongs to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # each names the other
    from hakobune.registry.answer import Answer
    from hakobune.registry.connection import Connection
    from hakobune.registry.head import Head
    from hakobune.registry.limits import Limits
    from hakobune.registry.route import Route


class Server(Protocol):
    """The worker, or who stands in for it."""

    loop: asyncio.AbstractEventLoop
    connections: set[Connection]
    tasks: set[asyncio.Task[None]]
    limits: Limits
    stopping: bool

    def find_route(self, path: str, host: str) -> Route: ...

    def answer_repeat(self, connection: Connection, data: bytes) -> bool:
        """Answer *data* at once if it is one whole request that was answered before; whether it was."""
        ...

    def answer_hot(self, connection: Connection, head: Head, route: Route) -> bool:
        """Answer at once, by `Connection.write_hot` or `send_hot`, if that is possible; whether it was."""
        ...

    async def answer(self, connection: Connection, head: Head, route: Route) -> Answer:
        """The answer to any request. Raises only `ClientGoneError`."""
        ...

    def record(self, connection: Connection, status: int) -> None:
        """Count and log the connection's request, which has been answered or broken off."""
        ...
