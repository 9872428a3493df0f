"""Calls of the APIs that come to the registry's own port: handed to the process that answers them, on its socket.

At the product's address HAProxy does this. The answer's body is passed on as it comes, so files can be large.
"""

from __future__ import annotations

from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from typing import Final

from hakobune.distribution.unix_http import UnixConnection
from hakobune.registry.answer import Answer, StreamPart
from hakobune.registry.errors import RegistryError
from hakobune.registry.exchange import Exchange
from hakobune.registry.parts import Parts

BODY_LIMIT: Final = 16 << 20

_TIMEOUT_S: Final = 300.0
_PIECE: Final = 1 << 18
# What belongs to one connection (RFC 9110 section 7.6.1), and what each side says itself.
_NOT_ASKED_ON: Final = frozenset(
    [
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ]
)
_NOT_ANSWERED_ON: Final = frozenset(
    ["connection", "content-length", "date", "keep-alive", "server", "transfer-encoding"]
)


async def call_api(parts: Parts, exchange: Exchange) -> Answer:
    """Whatever the API answers.

    Raises:
        RegistryError: SIZE_INVALID (413) for a large body; UNAVAILABLE if nobody answers.
    """
    body = await exchange.read(BODY_LIMIT)
    try:
        response = await parts.in_thread(_ask, parts, exchange, body)
    except (OSError, HTTPException) as error:
        raise RegistryError(
            "UNAVAILABLE", "the APIs are not answered at the moment", retry_after_s=1
        ) from error
    assert isinstance(response, HTTPResponse)
    headers = tuple(
        (name, value)
        for name, value in response.getheaders()
        if name.lower() not in _NOT_ANSWERED_ON
    )
    if exchange.head.method == "HEAD":
        length = int(response.getheader("content-length") or 0)
        response.close()
        return Answer(status=response.status, headers=headers, length=length)
    if response.length is None:
        raise RegistryError("UNSUPPORTED", "this call is answered at the product's address only")
    part = StreamPart(lambda offset, count: _pieces(response), parts.threads, 0, response.length)
    return Answer(status=response.status, headers=headers, body=part)


def _ask(parts: Parts, exchange: Exchange, body: bytes) -> HTTPResponse:
    head = exchange.head
    headers = {k: v for k, v in head.fields.values.items() if k not in _NOT_ASKED_ON}
    connection = UnixConnection(str(parts.api_socket), _TIMEOUT_S)
    try:
        # Under whatever name this port is reached, there the API is `localhost`.
        headers |= {"Host": "localhost", "Connection": "close"}
        connection.request(head.method, head.target, body or None, headers)
        return connection.getresponse()
    except BaseException:
        connection.close()
        raise


def _pieces(response: HTTPResponse) -> Iterator[bytes]:
    with response:
        while piece := response.read(_PIECE):
            yield piece
