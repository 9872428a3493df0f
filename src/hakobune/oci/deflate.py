"""One gzip member from independent 1 MiB blocks (RFC 1951, RFC 1952), so that threads can share the work.

Each block is deflated alone and ends on a byte (sync flush), so the bytes do not depend on how many threads made
them, and each block can be inflated alone. To every reader it is a plain gzip file.
"""

from __future__ import annotations

import struct
from typing import Final

from isal import isal_zlib

BLOCK_SIZE: Final = 1 << 20
# Level 3 gives other bytes on other CPUs; 2 is as fast as 1 and smaller (facts/layers.md §3).
LEVEL: Final = 2
# No name, no time, "unknown" system: equal content gives equal bytes.
HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_END: Final = b"\x03\x00"
_RAW: Final = -15
_PROBE_SIZE: Final = 16 << 10
_STORED_SIZE: Final = 0xFFFF


def deflate_block(data: memoryview) -> bytes:
    """*data* as deflate blocks that end on a byte boundary; stored as it is where deflating gains nothing."""
    if _is_incompressible(data):
        return _store(data)
    compressor = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, _RAW)
    return bytes(compressor.compress(data) + compressor.flush(isal_zlib.Z_SYNC_FLUSH))


def trailer(crc32: int, size: int) -> bytes:
    """What closes the member: an empty last block, checksum and length of all that went in."""
    return _END + struct.pack("<II", crc32, size & 0xFFFFFFFF)


def _is_incompressible(data: memoryview) -> bool:
    """Whether three samples shrink by less than 3 %."""
    if len(data) < 4 * _PROBE_SIZE:
        return False
    starts = (0, (len(data) - _PROBE_SIZE) // 2, len(data) - _PROBE_SIZE)
    for start in starts:
        sample = data[start : start + _PROBE_SIZE]
        if len(isal_zlib.compress(sample, 1, _RAW)) < _PROBE_SIZE * 97 // 100:
            return False
    return True


def _store(data: memoryview) -> bytes:
    """Stored deflate blocks, none of them the last."""
    pieces: list[bytes | memoryview] = []
    for start in range(0, len(data), _STORED_SIZE):
        piece = data[start : start + _STORED_SIZE]
        pieces += (struct.pack("<BHH", 0, len(piece), len(piece) ^ 0xFFFF), piece)
    return b"".join(pieces)
