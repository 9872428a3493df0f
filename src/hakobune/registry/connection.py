"""One client's connection: heads in, answers out, one request at a time, with a limit on everything a client can delay.

Hot requests are answered within `buffer_updated`; for others a task asks the server, which may stream the body
through `receive`. Bytes that come too early are held, and reading stops when there are many of them.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from typing import Final, cast

from hakobune.registry.answer import Answer, FilePart, error_answer, write_head
from hakobune.registry.arriving import ArrivingBody, BodyError, ClientGoneError
from hakobune.registry.body import Sink
from hakobune.registry.connection_server import Server
from hakobune.registry.head import HEAD_LIMIT, Fields, Head, HeadError, join_head, parse_fields
from hakobune.registry.limits import Phase, Watch
from hakobune.registry.outlet import Outlet
from hakobune.registry.peer import Peer, PeerOf
from hakobune.registry.route import OTHER, Route

_HELD_LIMIT: Final = 256 * 1024
_ADDRESS: Final = re.compile(r"[0-9a-fA-F.:]{2,45}")  # what the nearest proxy has added
_CLIENT_GONE: Final = 499  # in the log: nobody was there to be answered

logger = logging.getLogger(__name__)


class Connection(asyncio.Protocol):
    """The protocol of one accepted socket."""

    def __init__(self, server: Server, peer_of: PeerOf) -> None:
        self.server = server
        self.peer = Peer(False, "-")
        self.watch = Watch()
        # of the request under way, or the last one:
        self.whole = b""  # its bytes, if they came alone; only while it is answered hot
        self.head: Head | None = None
        self.route = OTHER
        self.principal = ""
        self.started = 0.0  # monotonic seconds
        self.sent = 0  # bytes of the answer's body
        self.body: ArrivingBody | None = None
        self.outlet: Outlet
        self._peer_of = peer_of
        self._transport: asyncio.Transport
        self._held = bytearray()  # what came before it was wanted
        self._searched = 0  # bytes of it that hold no end of a head
        self._busy = False
        self._ended = False  # the client will send no more
        self._close_after = False
        self._reading = True
        self._fields_block = b""
        self._fields: Fields | None = None

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not say so
        self.peer = self._peer_of(transport)
        self.outlet = Outlet(self.server.loop, self._transport, self.watch)
        self.watch.enter(Phase.IDLE, time.monotonic())
        self.server.connections.add(self)
        if len(self.server.connections) > self.server.limits.connections:
            self._refuse(503, "UNAVAILABLE", "there are too many connections")

    def data_received(self, data: bytes) -> None:
        if self._busy:
            self._receive(memoryview(data))
        elif not self._held and self.server.answer_repeat(self, data):
            pass
        elif self.watch.phase is not Phase.LINGER:
            self._take(data)

    def eof_received(self) -> bool:
        self._ended = True
        if self.body is not None:
            self.body.break_off(ClientGoneError("the client has ended the connection"))
        return self._busy and not self.peer.is_encrypted  # what is under way is answered

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.connections.discard(self)
        if self.body is not None:
            self.body.break_off(ClientGoneError("the connection was closed"))
        self.outlet.lost()

    def pause_writing(self) -> None:
        self.outlet.pause()

    def resume_writing(self) -> None:
        self.outlet.resume()
        if not self._busy and not self.outlet.gone:
            self._take(b"")

    @property
    def client(self) -> str:
        """The address of who has sent the request under way, as far as it is known; safe to print."""
        if not self.peer.via_proxy or self.head is None:
            return self.peer.address
        last = (self.head.get("x-forwarded-for") or "").rpartition(",")[2].strip()
        return last if _ADDRESS.fullmatch(last) else self.peer.address

    # What the server calls

    async def receive(self, sink: Sink) -> None:
        """Give the request's body to *sink* as it comes; returns at its end.

        Raises:
            ClientGoneError: it will not come.
            BodyError: its framing is broken.
            Exception: what *sink* has raised.
        """
        body = self.body
        if body is None or body.finished:
            return
        if body.must_continue and not self._held:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body.must_continue = False
        self.watch.enter(Phase.RECEIVING, time.monotonic())
        done = body.start(sink)
        if self._held and body.is_wanted:
            held, self._held = self._held, bytearray()
            self._receive(memoryview(bytes(held)))
        if self._ended:
            body.break_off(ClientGoneError("the client has ended the connection"))
        self._resume_reading()
        try:
            await done
        finally:
            self.watch.enter(Phase.WORKING, time.monotonic())

    def write_hot(self, status: int, head: bytes, body: bytes) -> None:
        """Answer the request at once; *head* ends with its empty line."""
        self.sent = len(body)
        self.outlet.write(head, body)
        self._recorded(status)
        if self._close_after:
            self.close()

    def send_hot(self, status: int, head: bytes, part: FilePart) -> None:
        """Answer the request with a file, without a task; `Outlet.can_send_file_now` holds."""
        self._busy = True
        self.watch.enter(Phase.SENDING, self.started)
        at_once = True

        def done(error: OSError | None) -> None:
            part.close()
            self._busy = False
            if error is not None:
                self._recorded(_CLIENT_GONE)
                self.abort()
                return
            self.sent = part.count
            self._recorded(status)
            if self._close_after or self._ended:
                self.close()
            elif not at_once:
                self._take(b"")

        self.outlet.start_file(part.descriptor, part.offset, part.count, head, done)
        at_once = False

    def check(self, now: float) -> None:
        """Break off what takes too long; called about once a second."""
        self.outlet.note_progress(self.watch)
        reason = self.watch.overdue(now, self.server.limits)
        if reason is None:
            return
        match self.watch.phase:
            case Phase.HEAD:
                self._refuse(408, "UNKNOWN", reason)
            case Phase.RECEIVING:
                if self.body is not None:
                    self.body.break_off(ClientGoneError(reason))
                self.abort()
            case Phase.SENDING | Phase.LINGER:
                self.abort()
            case _ if self._transport.get_write_buffer_size():
                self.abort()
            case _:
                self.close()

    def end_when_idle(self) -> None:
        """Close as soon as the request under way is answered."""
        self._close_after = True
        if not self._busy:
            self.close()

    def close(self) -> None:
        """Close when everything is sent."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._close_after = True
        self._transport.abort()

    # Heads

    def _take(self, data: bytes) -> None:
        """Read heads from what was held and from *data*, and answer them as long as that is possible at once."""
        if self._held:
            self._held += data
            data = bytes(self._held)
            self._held.clear()
        searched, self._searched = self._searched, 0
        at = 0
        while at < len(data):
            if self.outlet.is_full:  # the client does not read its answers
                self._hold(data[at:])
                return
            while data.startswith(b"\r\n", at):
                at += 2
            end = data.find(b"\r\n\r\n", max(at, searched), at + HEAD_LIMIT)
            if end < 0:
                self._hold_head(data[at:])
                return
            searched = 0
            self.started = time.monotonic()
            self.principal = ""
            try:
                head = self._parse(data[at:end])
            except HeadError as error:
                self._refuse(error.status, "UNSUPPORTED", error.reason)
                return
            self.whole = data if at == 0 and end + 4 == len(data) else b""
            at = end + 4
            if self._answer(head):
                continue
            if at < len(data):
                self._hold(data[at:])
            return
        self._resume_reading()

    def _hold_head(self, data: bytes) -> None:
        if not data:
            return
        # Not A-Z; a client that tries TLS would wait for an answer to it.
        if not 0x41 <= data[0] <= 0x5A:
            self._refuse(400, "UNSUPPORTED", "this port speaks plain HTTP")
        elif len(data) >= HEAD_LIMIT:
            self._refuse(431, "UNSUPPORTED", "the request's head is too large")
        else:
            self._held += data
            self._searched = max(0, len(data) - 3)
            if self.watch.phase is not Phase.HEAD:
                self.watch.enter(Phase.HEAD, time.monotonic())
            self._resume_reading()

    def _parse(self, block: bytes) -> Head:
        line, _, rest = block.partition(b"\r\n")
        if self._fields is None or rest != self._fields_block:  # clients repeat themselves
            self._fields = parse_fields(rest)
            self._fields_block = rest
        return join_head(line, self._fields)

    def _answer(self, head: Head) -> bool:
        """Begin to answer; whether that is done, and the connection goes on."""
        server = self.server
        self.head = head
        self.route = route = server.find_route(head.path, head.fields.values.get("host", ""))
        self.sent = 0
        self.body = None
        self._close_after = not head.keeps_connection or server.stopping
        if not head.has_body and server.answer_hot(self, head, route):
            return not self._busy and not self._close_after
        self._busy = True
        self.body = ArrivingBody(server.loop, head)
        self.watch.enter(Phase.WORKING, self.started)
        task = server.loop.create_task(self._run(head, route))
        server.tasks.add(task)
        task.add_done_callback(server.tasks.discard)
        return False

    # Bytes that come while a request is under way

    def _receive(self, data: memoryview) -> None:
        body = self.body
        if body is not None and body.is_wanted:
            used = body.feed(data)
            self.watch.progress = body.received
            data = data[used:]
        if len(data):
            self._hold(data)

    def _hold(self, data: bytes | memoryview) -> None:
        self._held += data
        if len(self._held) > _HELD_LIMIT and self._reading:
            self._reading = False
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self._reading and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    # Requests that take a task

    async def _run(self, head: Head, route: Route) -> None:
        try:
            answer = await self.server.answer(self, head, route)
            await self._send(head, answer)
        except ClientGoneError:
            self._recorded(_CLIENT_GONE)
            self.abort()
            return
        except Exception:
            logger.exception("a request failed", extra={"target": head.target})
            self._recorded(500)
            self.abort()
            return
        self._recorded(answer.status)
        self._next()

    async def _send(self, head: Head, answer: Answer) -> None:
        body = self.body
        assert body is not None
        if self._ended or not body.is_small_rest:
            self._close_after = True
        self.sent = await self.outlet.send_answer(
            answer, with_body=head.method != "HEAD", close=self._close_after
        )
        if isinstance(answer.body, bytes):
            await self.outlet.drain()
        if not self._close_after and not body.finished:
            await self.receive(_forget)

    def _recorded(self, status: int) -> None:
        self.server.record(self, status)
        self.watch.enter(Phase.IDLE, time.monotonic())

    def _next(self) -> None:
        """The request is answered: end the connection or look for the next head."""
        self._busy = False
        body, self.body = self.body, None
        if self._close_after:
            if body is None or body.finished or self._ended:
                self.close()
            else:
                self._linger()
        else:
            self._take(b"")

    def _linger(self) -> None:
        """Let the client read the answer although it still sends: a reset would take it away from it."""
        self._held.clear()
        self.watch.enter(Phase.LINGER, time.monotonic())
        if not self._transport.can_write_eof():
            self.close()
            return
        self._transport.write_eof()
        self._resume_reading()

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Answer what cannot be read as a request, and end the connection."""
        self.head = None
        self.route = OTHER
        self.principal = ""
        self.started = time.monotonic()
        answer = error_answer(status, code, message)
        assert isinstance(answer.body, bytes)
        block = write_head(status, answer.headers, length=len(answer.body), close=True)
        self.outlet.write(block, answer.body)
        self.server.record(self, status)
        self._linger()


def _forget(data: memoryview) -> None:
    """The sink of bodies that nobody wants."""


__all__ = ["BodyError", "ClientGoneError", "Connection", "Server"]
