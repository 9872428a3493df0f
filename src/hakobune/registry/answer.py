"""Answers as values, and the bytes that stand before their bodies.

An endpoint returns an `Answer`; the connection alone knows how to send it. HEAD never has a body.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Protocol

Headers = tuple[tuple[str, str], ...]

JSON: Final = "application/json"
API_VERSION: Final = ("Docker-Distribution-Api-Version", "registry/2.0")  # old tools look for it


class Growing(Protocol):
    """A file that is still being written, as one reader sees it."""

    async def wait(self, beyond: int) -> int:
        """Wait until more than *beyond* bytes from the file's beginning may be sent; how many.

        Raises:
            Exception: there will never be more; the transfer is broken off.
        """
        ...

    def close(self) -> None:
        """Read no more, and close the file."""
        ...


@dataclass(frozen=True, slots=True)
class FilePart:
    """*count* bytes from *offset* of an open file. Who is given one closes it.

    *growing* is None for a file that is whole.
    """

    descriptor: int
    offset: int
    count: int
    growing: Growing | None = None

    def close(self) -> None:
        if self.growing is not None:
            self.growing.close()
        else:
            os.close(self.descriptor)


@dataclass(frozen=True, slots=True)
class StreamPart:
    """*count* bytes from *offset* of something that is read in pieces, which blocks, in one of *threads*."""

    read: Callable[[int, int], Iterator[bytes]]  # offset, count
    threads: Executor
    offset: int
    count: int

    def close(self) -> None:
        """Nothing is open before it is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What to answer. *length* is the Content-Length of an answer to HEAD whose body was never made."""

    status: int
    headers: Headers = ()
    body: bytes | FilePart | StreamPart = b""
    length: int | None = None


def json_answer(status: int, document: Any, headers: Headers = ()) -> Answer:
    """An answer with *document* as JSON."""
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return Answer(status=status, headers=(("Content-Type", JSON), *headers), body=body)


def error_answer(
    status: int, code: str, message: str, detail: Any = None, headers: Headers = ()
) -> Answer:
    """An answer in the words of distribution-spec "Error Codes"."""
    error = {"code": code, "message": message}
    if detail is not None:
        error["detail"] = detail
    return json_answer(status, {"errors": [error]}, headers)


def warning(text: str) -> tuple[str, str]:
    """A `Warning` header that clients show (distribution-spec "Warnings"); *text* is cut to fit."""
    safe = "".join(c if " " <= c <= "~" else "?" for c in text)[:1000]
    escaped = safe.replace("\\", "\\\\").replace('"', '\\"')
    return ("Warning", f'299 - "{escaped}"')


def write_head(
    status: int, headers: Iterable[tuple[str, str]], *, length: int | None, close: bool
) -> bytes:
    """The bytes from the status line to the empty line."""
    lines = [status_line(status), date_line()]
    lines.extend(f"{name}: {one_line(value)}\r\n" for name, value in headers)
    if length is not None:
        lines.append(f"Content-Length: {length}\r\n")
    if close:
        lines.append("Connection: close\r\n")
    lines.append("\r\n")
    return "".join(lines).encode("latin-1", "replace")


def one_line(value: str) -> str:
    """A field's value, which an upstream may have said, without what would begin another field."""
    return value if value.isprintable() else "".join(c if c >= " " else " " for c in value)


def status_line(status: int) -> str:
    """The first line of an answer's head, without its end."""
    return _STATUS_LINES[status]


def date_line() -> str:
    """The `Date` line, made once a second."""
    global _date_second, _date
    second = int(time.time())
    if second != _date_second:
        t = time.gmtime(second)
        _date = (
            f"Date: {_DAYS[t.tm_wday]}, {t.tm_mday:02} {_MONTHS[t.tm_mon - 1]} {t.tm_year} "
            f"{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} GMT\r\n"
        )
        _date_second = second
    return _date


_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = (
    "Jan",
    "Feb",
    "Mar",
    "Apr",
    "May",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Oct",
    "Nov",
    "Dec",
)
_date_second = 0
_date = ""
_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus
}
