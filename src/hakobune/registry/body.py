"""Where a request's body ends (RFC 9112 §6, §7.1): lengths counted, chunks unframed in place, no copies."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Protocol

from hakobune.registry.head import HeadError

Sink = Callable[[memoryview], None]

_LINE_LIMIT: Final = 1024
_TRAILER_LIMIT: Final = 8 * 1024
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t -~]*)?")


class Body(Protocol):
    """A body that is arriving."""

    finished: bool

    def feed(self, data: memoryview, sink: Sink) -> int:
        """Give the payload in *data* to *sink*; how many bytes of *data* belong to the body.

        Raises:
            HeadError: the framing is broken.
        """
        ...


class SizedBody:
    """A body with a Content-Length."""

    __slots__ = ("finished", "remaining")

    def __init__(self, length: int) -> None:
        self.remaining = length
        self.finished = length == 0

    def feed(self, data: memoryview, sink: Sink) -> int:
        """See `Body`."""
        size = len(data)
        if size > self.remaining:
            size = self.remaining
            data = data[:size]
        if size:
            self.remaining -= size
            self.finished = self.remaining == 0
            sink(data)
        return size


class ChunkedBody:
    """A body in chunks. Extensions and trailers are read over; bare line feeds are refused."""

    __slots__ = ("_in_trailers", "_line", "_remaining", "_trailers", "_until_line_end", "finished")

    def __init__(self) -> None:
        self.finished = False
        self._remaining = 0  # of the chunk that is arriving
        self._until_line_end = False  # the CR LF after a chunk is still to come
        self._line = b""  # what has come of a chunk's first line, or of a trailer
        self._in_trailers = False
        self._trailers = 0

    def feed(self, data: memoryview, sink: Sink) -> int:
        """See `Body`."""
        at = 0
        size = len(data)
        while at < size and not self.finished:
            if self._remaining:
                end = min(size, at + self._remaining)
                self._remaining -= end - at
                self._until_line_end = self._remaining == 0
                sink(data[at:end])
                at = end
            else:
                at = self._feed_line(data, at)
        return at

    def _feed_line(self, data: memoryview, at: int) -> int:
        piece = bytes(data[at : at + _LINE_LIMIT])
        feed = piece.find(b"\n")
        used = len(piece) if feed < 0 else feed + 1
        self._line += piece[:used]
        if len(self._line) > _LINE_LIMIT:
            raise HeadError("a line between chunks is too long")
        if feed >= 0:
            line, self._line = self._line, b""
            if not line.endswith(b"\r\n"):
                raise HeadError("lines between chunks end with CR LF")
            self._take_line(line[:-2])
        return at + used

    def _take_line(self, line: bytes) -> None:
        if self._until_line_end:
            if line:
                raise HeadError("a chunk is longer than it says")
            self._until_line_end = False
        elif self._in_trailers:
            self._trailers += len(line)
            if self._trailers > _TRAILER_LIMIT:
                raise HeadError("the trailers are too long")
            self.finished = not line
        else:
            if not (match := _SIZE.fullmatch(line)):
                raise HeadError("a chunk does not start with its size")
            self._remaining = int(match[1], 16)
            self._in_trailers = self._remaining == 0


def body_of(content_length: int | None, *, chunked: bool) -> Body:
    """The body that a request's fields announce."""
    return ChunkedBody() if chunked else SizedBody(content_length or 0)
