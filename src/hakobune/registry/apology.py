"""What a registry says that cannot start: clients whose connections have waited for it are told so instead of waiting on."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from hakobune.registry.errors import RegistryError
from hakobune.registry.sockets import Sockets

_READ_S: Final = 2.0


def apologize(sockets: Sockets, message: str, *, for_s: float) -> None:
    """Answer every request with 503 for a while (distribution-spec "Error Codes")."""
    asyncio.run(_apologize(sockets, message, for_s))


async def _apologize(sockets: Sockets, message: str, for_s: float) -> None:
    body = RegistryError("UNAVAILABLE", message).body()
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 5\r\n"
        f"Docker-Distribution-Api-Version: registry/2.0\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, EOFError, asyncio.LimitOverrunError):
            async with asyncio.timeout(_READ_S):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(head.encode() + (b"" if request.startswith(b"HEAD") else body))
                await writer.drain()
        writer.close()

    async with contextlib.AsyncExitStack() as stack:
        for listener in (sockets.owner, sockets.proxy):
            await stack.enter_async_context(await asyncio.start_unix_server(answer, sock=listener))
        for listener in sockets.own_port:
            await stack.enter_async_context(await asyncio.start_server(answer, sock=listener))
        await asyncio.sleep(for_s)
