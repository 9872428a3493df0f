"""Tar headers exactly as Go's archive/tar writes them: USTAR when an entry fits, else PAX.

The CNB lifecycle and most image tools are Go programs, so the same tree gets the same diff_id from us and from
them. POSIX.1-2001 (pax) defines the format; where it leaves a choice, Go's is taken.
"""

from __future__ import annotations

import stat
import zlib
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final

BLOCK: Final = 512
NAME_SIZE: Final = 100
PREFIX_SIZE: Final = 155
_PREFIX_FIELD: Final = PREFIX_SIZE + 12  # with what fills the block
# "USTAR", version "00", no user name, no group name.
_MAGIC: Final = b"ustar\x0000" + bytes(64)
_NO_DEVICE: Final = b"0000000\x00" * 2
_NOT_ASCII: Final = bytes(range(0x80, 0x100))
_IDS_LIMIT: Final = 1 << 21
_NUMBERS_LIMIT: Final = 1 << 33


class EntryType(bytes, Enum):
    """What an entry is (pax "ustar Interchange Format", typeflag)."""

    FILE = b"0"
    LINK = b"1"
    SYMLINK = b"2"
    CHARACTER_DEVICE = b"3"
    BLOCK_DEVICE = b"4"
    DIRECTORY = b"5"
    FIFO = b"6"


# What is neither file nor folder, by `stat.S_IFMT`.
SPECIAL_TYPES: Final = {
    stat.S_IFLNK: EntryType.SYMLINK,
    stat.S_IFCHR: EntryType.CHARACTER_DEVICE,
    stat.S_IFBLK: EntryType.BLOCK_DEVICE,
    stat.S_IFIFO: EntryType.FIFO,
}


def encode_header(
    name: bytes,
    kind: EntryType,
    *,
    mode: int,
    uid: int,
    gid: int,
    mtime: int,
    size: int = 0,
    target: bytes = b"",
    device: tuple[int, int] = (0, 0),
    xattrs: Mapping[bytes, bytes] = {},
) -> bytes:
    """Everything that stands before an entry's content: one block, or more with a PAX header.

    Args:
        mtime: whole seconds since 1970.
        target: where a link points.
        device: major and minor number.
    """
    records = {b"SCHILY.xattr." + key: value for key, value in xattrs.items()}
    prefix, suffix = _split(name) or (b"", name)
    fits = not records
    if len(name) > NAME_SIZE or not name.isascii():
        records[b"path"] = name
        fits = fits and bool(prefix)
    if len(target) > NAME_SIZE or not target.isascii():
        records[b"linkpath"] = target
        fits = False
    for key, value, limit in (
        (b"uid", uid, _IDS_LIMIT),
        (b"gid", gid, _IDS_LIMIT),
        (b"size", size, _NUMBERS_LIMIT),
        (b"mtime", mtime, _NUMBERS_LIMIT),
    ):
        if not 0 <= value < limit:
            records[key] = b"%d" % value
            fits = False
    if fits:
        records, name_field = {}, suffix
    else:
        prefix, name_field = b"", _in_field(_to_ascii(name))
    block = _block(
        name_field,
        kind,
        ids=b"%07o\x00%b\x00%b\x00" % (mode, _octal(uid, 7), _octal(gid, 7)),
        numbers=b"%b\x00%b\x00" % (_octal(size, 11), _octal(mtime, 11)),
        target=_in_field(_to_ascii(target)),
        rest=_MAGIC + b"%07o\x00%07o\x00" % device + prefix,
    )
    return _pax_header(name, records) + block if records else block


Encode = Callable[[bytes, EntryType, int, int], bytes]


def uniform_encoder(uid: int, gid: int, mtime: int) -> Encode:
    """A fast `encode(name, kind, mode, size)` for entries that differ in nothing else.

    A layer has tens of thousands of them, so all that repeats is formatted once.
    """
    owners = b"%b\x00%b\x00" % (_octal(uid, 7), _octal(gid, 7))
    simple = 0 <= uid < _IDS_LIMIT and 0 <= gid < _IDS_LIMIT and 0 <= mtime < _NUMBERS_LIMIT
    tails = {
        kind: b"%011o\x00        %b%b%b%b" % (mtime, kind, bytes(NAME_SIZE), _MAGIC, _NO_DEVICE)
        for kind in EntryType
        if simple
    }
    modes: dict[int, bytes] = {}

    def encode(name: bytes, kind: EntryType, mode: int, size: int) -> bytes:
        prefix, suffix = b"", name
        if len(name) > NAME_SIZE:
            prefix, suffix = _split(name) or (b"", name)
        if not simple or len(suffix) > NAME_SIZE or size >= _NUMBERS_LIMIT or not name.isascii():
            return encode_header(name, kind, mode=mode, uid=uid, gid=gid, mtime=mtime, size=size)
        ids = modes.get(mode)
        if ids is None:
            ids = modes[mode] = b"%07o\x00" % mode + owners
        return _with_checksum(
            suffix.ljust(NAME_SIZE, b"\x00")
            + ids
            + b"%011o\x00" % size
            + tails[kind]
            + prefix.ljust(_PREFIX_FIELD, b"\x00")
        )

    return encode


def _block(
    name: bytes, kind: bytes, *, ids: bytes, numbers: bytes, target: bytes, rest: bytes
) -> bytes:
    block = b"%b%b%b        %b%b%b" % (
        name.ljust(NAME_SIZE, b"\x00"),
        ids,
        numbers,
        kind,
        target.ljust(NAME_SIZE, b"\x00"),
        rest,
    )
    return _with_checksum(block.ljust(BLOCK, b"\x00"))


def _with_checksum(block: bytes) -> bytes:
    """The header with the sum of its bytes in the field for it, which counts as spaces."""
    # The sum of 512 ASCII bytes is below 65521, so Adler's low half is that sum plus one.
    checksum = (zlib.adler32(block) & 0xFFFF) - 1 if block.isascii() else sum(block)
    return block[:148] + b"%06o\x00 " % checksum + block[156:]


def _pax_header(name: bytes, records: Mapping[bytes, bytes]) -> bytes:
    data = b"".join(_record(key, records[key]) for key in sorted(records))
    folder, slash, file = name.rpartition(b"/")
    pax_name = _to_ascii(folder + slash + b"PaxHeaders.0/" + file)[:NAME_SIZE].rstrip(b"/")
    zero = b"0000000\x00"
    block = _block(
        pax_name,
        b"x",
        ids=zero * 3,
        numbers=b"%011o\x00%011o\x00" % (len(data), 0),
        target=b"",
        rest=b"ustar\x0000",
    )
    return block + data + bytes(-len(data) % BLOCK)


def _record(key: bytes, value: bytes) -> bytes:
    """`LENGTH KEY=VALUE\\n`, where the length counts its own digits."""
    length = len(key) + len(value) + 3
    length += len(str(length))
    record = b"%d %b=%b\n" % (length, key, value)
    if len(record) != length:
        record = b"%d %b=%b\n" % (len(record), key, value)
    return record


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """Prefix and name for USTAR's two fields, or `None` when one field is enough or two are too few."""
    if len(name) <= NAME_SIZE or not name.isascii():
        return None
    length = len(name)
    if length > PREFIX_SIZE + 1:
        length = PREFIX_SIZE + 1
    elif name.endswith(b"/"):
        length -= 1
    prefix_length = name.rfind(b"/", 0, length)
    suffix = name[prefix_length + 1 :]
    if prefix_length <= 0 or not 0 < len(suffix) <= NAME_SIZE:
        return None
    return name[:prefix_length], suffix


def _octal(value: int, digits: int) -> bytes:
    """Octal digits; what does not fit is written as zero and stands in the PAX header."""
    return b"%0*o" % (digits, value if 0 <= value < 8**digits else 0)


def _to_ascii(text: bytes) -> bytes:
    return text.translate(None, _NOT_ASCII)


def _in_field(text: bytes) -> bytes:
    """*text* cut to a name field, without a slash at the cut (some readers would take the entry for a directory)."""
    cut = text[:NAME_SIZE]
    return cut.rstrip(b"/") if len(text) > NAME_SIZE else cut
