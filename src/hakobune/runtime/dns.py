"""A DNS forwarder on the bridge, for hosts whose resolver listens on loopback where no container reaches it.

`python -m hakobune.runtime.dns ADDRESS` ends when its standard input does, so it dies with its owner. Several
may share the address (SO_REUSEPORT): each owner of containers brings its own.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from hakobune.runtime.resolver import nameservers

_HOST_FILE = Path("/etc/resolv.conf")
_TIMEOUT_S = 5.0


class _Upstream(asyncio.DatagramProtocol):
    """One question on its way to the host's resolver; the answer goes back as it is."""

    def __init__(self, question: bytes, client: tuple[str, int], back: asyncio.DatagramTransport):
        self._question = question
        self._client = client
        self._back = back
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        datagrams = cast(asyncio.DatagramTransport, transport)  # asyncio's own is no subclass of it
        self._transport = datagrams
        datagrams.sendto(self._question)
        asyncio.get_running_loop().call_later(_TIMEOUT_S, transport.close)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._back.sendto(data, self._client)
        if self._transport is not None:
            self._transport.close()

    def error_received(self, exc: Exception) -> None:
        if self._transport is not None:
            self._transport.close()


class _Front(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self._transport: asyncio.DatagramTransport | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._asked = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio's own transport is no subclass of what it documents
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        task = asyncio.get_running_loop().create_task(self._ask(data, addr))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self, question: bytes, client: tuple[str, int]) -> None:
        servers = _servers()
        if not servers or self._transport is None:
            return
        self._asked += 1  # a client that repeats its question reaches the next server
        server = servers[self._asked % len(servers)]
        back = self._transport
        try:
            await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Upstream(question, client, back), remote_addr=(server, 53)
            )
        except OSError:
            return  # the client asks again


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One TCP connection, carried both ways until either side ends it."""
    try:
        servers = _servers()
        if not servers:
            return
        async with asyncio.timeout(_TIMEOUT_S):
            up_reader, up_writer = await asyncio.open_connection(servers[0], 53)
        try:
            await asyncio.gather(_copy(reader, up_writer), _copy(up_reader, writer))
        finally:
            up_writer.close()
    except OSError:
        pass
    finally:
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


def _servers() -> Sequence[str]:
    return nameservers(_HOST_FILE.read_text(errors="replace"))


async def _serve(address: str) -> None:
    loop = asyncio.get_running_loop()
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    for listener in (udp, tcp):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((address, 53))
    await loop.create_datagram_endpoint(_Front, sock=udp)
    await asyncio.start_server(_relay, sock=tcp)
    print("ready", flush=True)
    owner = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(owner), sys.stdin)
    await owner.read()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
