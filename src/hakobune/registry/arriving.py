"""The body of a request while it arrives: held until somebody wants it, then streamed to a sink."""

from __future__ import annotations

import asyncio
from typing import Final

from hakobune.registry.body import Body, Sink, SizedBody, body_of
from hakobune.registry.head import Head, HeadError

# Of a body that nobody wants: read over; larger ones end the connection.
SMALL_REST: Final = 256 * 1024


class ClientGoneError(Exception):
    """The client has closed the connection or was too slow; nobody is there to be answered."""


class BodyError(Exception):
    """The framing of a body is broken; the connection ends after the answer."""


class ArrivingBody:
    """One request's body. *received* counts bytes of the connection, framing included."""

    def __init__(self, loop: asyncio.AbstractEventLoop, head: Head) -> None:
        self.received = 0
        self.broken: Exception | None = None  # why no more of it will be read
        self.must_continue = head.fields.expects_continue  # the client waits for 100 Continue
        self._loop = loop
        self._body: Body = body_of(head.fields.content_length, chunked=head.fields.chunked)
        self._sink: Sink | None = None
        self._done: asyncio.Future[None] | None = None

    @property
    def finished(self) -> bool:
        return self._body.finished

    @property
    def is_wanted(self) -> bool:
        """Whether `feed` may be called now."""
        return self._sink is not None

    @property
    def is_small_rest(self) -> bool:
        """Whether what is still to come may be read over for the sake of the connection."""
        if self.finished:
            return True
        if self.broken or self.must_continue:
            return False
        return isinstance(self._body, SizedBody) and self._body.remaining <= SMALL_REST

    def start(self, sink: Sink) -> asyncio.Future[None]:
        """Give what comes to *sink* from now on; the future ends with the body, or with what broke it."""
        self._done = self._loop.create_future()
        if self.broken is not None:
            self._done.set_exception(self.broken)
        elif self.finished:
            self._done.set_result(None)
        else:
            self._sink = sink
        return self._done

    def feed(self, data: memoryview) -> int:
        """How many bytes of *data* belong to this body; the others are the next request's."""
        assert self._sink is not None
        assert self._done is not None
        try:
            used = self._body.feed(data, self._sink)
        except HeadError as error:
            self.break_off(BodyError(error.reason))
            return len(data)
        except Exception as error:  # the sink's own, for who waits
            self.break_off(error)
            return len(data)
        self.received += used
        if self._body.finished:
            self._sink = None
            if not self._done.done():
                self._done.set_result(None)
        return used

    def break_off(self, error: Exception) -> None:
        """No more will come, or is wanted: who waits gets *error*."""
        if self._body.finished or self.broken is not None:
            return
        self.broken = error
        self._sink = None
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)
