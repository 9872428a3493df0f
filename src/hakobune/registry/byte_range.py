"""Which bytes a `Range` header asks for (RFC 9110 §14.1.2); several ranges at once are answered with everything."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_CONTENT_RANGE: Final = re.compile(r"(?:bytes )?(\d{1,18})-(\d{1,18})(?:/(?:\d+|\*))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """*count* bytes from *offset*."""

    offset: int
    count: int


class UnsatisfiableError(Exception):
    """No byte of the content is in the range (416)."""


def parse_range(text: str | None, size: int) -> ByteRange | None:
    """The part of *size* bytes that is asked for; None for all of it.

    Raises:
        UnsatisfiableError: it lies behind the end, or ends before it begins.
    """
    if text is None or not (match := _RANGE.fullmatch(text.replace(" ", ""))):
        return None
    first, last = match[1], match[2]
    if not first and not last:
        return None
    if not first:
        count = min(int(last), size)
        if not count:
            raise UnsatisfiableError
        return ByteRange(size - count, count)
    offset = int(first)
    end = min(int(last), size - 1) if last else size - 1
    if offset >= size or end < offset:
        raise UnsatisfiableError
    return ByteRange(offset, end - offset + 1)


def parse_content_range(text: str) -> ByteRange | None:
    """What a chunk of an upload says it is (`a-b`, inclusive); None if it cannot be read."""
    match = _CONTENT_RANGE.fullmatch(text)
    if match is None or int(match[2]) < int(match[1]):
        return None
    return ByteRange(int(match[1]), int(match[2]) - int(match[1]) + 1)
