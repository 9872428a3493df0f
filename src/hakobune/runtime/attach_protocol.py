"""What a person's command and a container's attendant say to each other: frames of a letter, a length and bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import Enum

SOCKET = "attach.sock"  # in the container's folder
LONGEST = 1 << 20
_HEAD = struct.Struct(">cI")
_SIZE = struct.Struct(">HH")


class Kind(Enum):
    """What a frame is. The first three come from the attendant, and `READY` as an answer to itself."""

    STDOUT = b"o"
    STDERR = b"e"
    READY = b"r"
    """All that was said before has been done."""
    INPUT = b"i"
    SIZE = b"w"
    """Rows and columns of the window."""
    SIGNAL = b"s"
    """A number, for the container's first process."""
    OWN = b"O"
    """From now on the container ends when this connection does …"""
    LET_GO = b"L"
    """… unless this has been said on it."""


def frame(kind: Kind, data: bytes = b"") -> bytes:
    """One frame; *data* is at most `LONGEST` bytes."""
    return _HEAD.pack(kind.value, len(data)) + data


def size_frame(rows: int, columns: int) -> bytes:
    return frame(Kind.SIZE, _SIZE.pack(rows, columns))


def read_size(data: bytes) -> tuple[int, int]:
    """Rows and columns.

    Raises:
        ValueError: it is no size.
    """
    try:
        rows, columns = _SIZE.unpack(data)
    except struct.error as error:
        raise ValueError(str(error)) from error
    return rows, columns


def take_frames(received: bytearray) -> Iterator[tuple[Kind, bytes]]:
    """Each whole frame, which is removed from *received*.

    Raises:
        ValueError: they are none.
    """
    while len(received) >= _HEAD.size:
        letter, length = _HEAD.unpack_from(received)
        if length > LONGEST:
            raise ValueError("a frame is too long")
        end = _HEAD.size + length
        if len(received) < end:
            return
        data = bytes(received[_HEAD.size : end])
        del received[:end]
        yield Kind(letter), data
