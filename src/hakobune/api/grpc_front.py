"""Google's APIs by gRPC: a process that HAProxy gives HTTP/2 calls as HTTP/1.1, and that makes REST calls of them.

`python -m hakobune.api.grpc_front`, started by the supervisor at the first call, on the socket that it holds.
Authorization travels on as it came: who may what is decided where REST calls are. Unary calls only; the APIs have
no others.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from hakobune.distribution.unix_http import UnixConnection
from hakobune.errors import HakoError
from hakobune.settings import Settings

MAX_MESSAGE = 4 << 20
LONGEST_S = 60.0
IDLE_S = 90.0
_FRAME = 5  # a flag and four bytes of length before every message
_FIRST_DESCRIPTOR = 3
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}

# google.rpc.Code
_OK, _INVALID_ARGUMENT, _DEADLINE_EXCEEDED, _RESOURCE_EXHAUSTED = 0, 3, 4, 8
_UNIMPLEMENTED, _UNAVAILABLE = 12, 14

logger = logging.getLogger(__name__)


class _Refused(Exception):
    """A call is answered with a status of gRPC's own."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class _Request:
    """One HTTP request as httptools tells of it."""

    def __init__(self) -> None:
        self.path = ""
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.path += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        if len(self.body) <= MAX_MESSAGE + _FRAME:
            self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


class GrpcFront:
    """Answers connections with what the API on *api_socket* says."""

    def __init__(self, api_socket: Path) -> None:
        self._api_socket = api_socket

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, request after request, until the other side ends it or says nothing for long."""
        try:
            while (request := await _read_request(reader)) is not None:
                writer.write(await self._answer(request))
                await writer.drain()
        except (ConnectionError, TimeoutError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, request: _Request) -> bytes:
        try:
            return await asyncio.to_thread(self._call, request)
        except _Refused as refused:
            return refusal(refused.status, str(refused))

    def _call(self, request: _Request) -> bytes:
        try:
            from hakobune.api import grpc_transcode as transcode  # seconds of imports: when needed
        except ImportError as error:
            raise _Refused(
                _UNIMPLEMENTED, "gRPC needs Google's message types: pip install 'hakobune[grpc]'"
            ) from error
        method = transcode.find_method(request.path)
        if method is None:
            raise _Refused(_UNIMPLEMENTED, f"there is no method {request.path}")
        try:
            call = transcode.to_http(method, read_frame(bytes(request.body)))
        except ValueError as error:
            raise _Refused(_INVALID_ARGUMENT, str(error)) from error
        status, data = self._ask(call.verb, call.target, call.body, request.headers)
        answer = transcode.to_grpc(method, status, data)
        if answer.status:
            return refusal(answer.status, answer.text, answer.details)
        return success(answer.message)

    def _ask(
        self, verb: str, target: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        passed = {name: headers[name] for name in ("authorization", "host", "origin") if name in headers}  # fmt: skip
        if body is not None:
            passed["content-type"] = "application/json"
        connection = UnixConnection(
            str(self._api_socket), timeout_s(headers.get("grpc-timeout", ""))
        )
        try:
            connection.request(verb, target, body, passed)
            response = connection.getresponse()
            return response.status, response.read()
        except TimeoutError as error:
            raise _Refused(_DEADLINE_EXCEEDED, "the API did not answer in time") from error
        except (OSError, http.client.HTTPException) as error:
            raise _Refused(_UNAVAILABLE, "the API does not answer") from error
        finally:
            connection.close()


async def _read_request(reader: asyncio.StreamReader) -> _Request | None:
    """The next request; `None` at the connection's end."""
    import httptools

    request = _Request()
    parser = httptools.HttpRequestParser(request)
    begun = False
    while not request.complete:
        data = await asyncio.wait_for(reader.read(65536), IDLE_S)
        if not data:
            if begun:
                raise ConnectionError("the request was cut off")
            return None
        begun = True
        try:
            parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise ConnectionError("no HTTP") from error
    return request


def read_frame(body: bytes) -> bytes:
    """The one message of a unary call.

    Raises:
        _Refused: it is compressed, or too long. ValueError: it is none.
    """
    if len(body) > MAX_MESSAGE + _FRAME:
        raise _Refused(_RESOURCE_EXHAUSTED, f"a message has {MAX_MESSAGE} bytes at most")
    if len(body) < _FRAME or int.from_bytes(body[1:_FRAME], "big") != len(body) - _FRAME:
        raise ValueError("the request is not one message")
    if body[0]:
        raise _Refused(_UNIMPLEMENTED, "compressed messages are not read")
    return body[_FRAME:]


def success(message: bytes) -> bytes:
    """The HTTP/1.1 answer with a message; its status comes as a trailer."""
    frame = b"\0" + len(message).to_bytes(4, "big") + message
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntrailer: grpc-status\r\n"
        b"transfer-encoding: chunked\r\n\r\n"
        b"%x\r\n%s\r\n0\r\ngrpc-status: 0\r\n\r\n" % (len(frame), frame)
    )


def refusal(status: int, text: str, details: bytes = b"") -> bytes:
    """The HTTP/1.1 answer without a message: its head says the status ("Trailers-Only")."""
    lines = [
        "HTTP/1.1 200 OK",
        "content-type: application/grpc",
        f"grpc-status: {status}",
        f"grpc-message: {quote(text, safe=_MESSAGE_SAFE)}",
        "content-length: 0",
    ]
    if details:
        lines.append(f"grpc-status-details-bin: {base64.b64encode(details).decode().rstrip('=')}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


# gRPC over HTTP2 "Status-Message": printable ASCII but for the percent sign.
_MESSAGE_SAFE = "".join(chr(n) for n in range(0x20, 0x7F) if chr(n) != "%")


def timeout_s(text: str) -> float:
    """The seconds of a `grpc-timeout` (`10S`, `500m`), a minute at most."""
    number, unit = text[:-1], text[-1:]
    if not number.isdecimal() or unit not in _UNITS:
        return LONGEST_S
    return max(min(int(number) * _UNITS[unit], LONGEST_S), 0.001)


async def serve(settings: Settings, listener: socket.socket) -> None:
    """Answer on *listener* until SIGTERM or SIGINT."""
    front = GrpcFront(settings.api_tcp_socket)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    server = await asyncio.start_unix_server(front.serve, sock=listener)
    await ended.wait()
    server.close()


def inherited_socket(env: Mapping[str, str]) -> socket.socket:
    """The socket that the supervisor gave this process (sd_listen_fds(3)).

    Raises:
        HakoError: there is none.
    """
    if env.get("LISTEN_FDS") != "1" or env.get("LISTEN_PID") != str(os.getpid()):
        raise HakoError("the gRPC front is started by the supervisor", fix="hako serve")
    listener = socket.socket(fileno=_FIRST_DESCRIPTOR)
    listener.setblocking(False)
    return listener


def main() -> int:
    """Run until told to stop."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    try:
        settings = Settings.from_environment(os.environ, uid=os.geteuid())
        asyncio.run(serve(settings, inherited_socket(os.environ)))
    except HakoError as error:
        logger.error("the gRPC front ended: %s", error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
