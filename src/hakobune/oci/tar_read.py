"""Reading tar entries as others write them: old, USTAR, PAX and GNU (pax "ustar Interchange Format", GNU tar manual).

What an entry may do to a disk is not decided here but in `unpack`.
"""

from __future__ import annotations

import base64
import binascii
import urllib.parse
import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import msgspec

from hakobune.oci.inflate import TarBytes, UnpackError
from hakobune.oci.tar_header import BLOCK, EntryType

# archive/tar's maxSpecialFileSize; names and attributes fit many times.
_EXTENSION_LIMIT: Final = 1 << 20
_ZEROS: Final = bytes(BLOCK)
_LIBARCHIVE: Final = b"LIBARCHIVE.xattr."
_SCHILY: Final = b"SCHILY.xattr."
_NANOSECONDS: Final = 1_000_000_000
_KINDS: Final = {bytes(kind): kind for kind in EntryType} | {
    b"\x00": EntryType.FILE,
    b"7": EntryType.FILE,  # "contiguous", which nobody has
}


class Entry(msgspec.Struct):
    """What one entry says. Names are raw: relative or absolute, with or without `./` and a final slash."""

    name: bytes
    kind: EntryType
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    target: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: dict[bytes, bytes] = msgspec.field(default_factory=dict)


def read_entries(tar: TarBytes) -> Iterator[Entry]:
    """The entries in order. Before asking for the next, the consumer takes `entry.size` bytes from *tar*, and the padding.

    Raises:
        UnpackError: the archive is damaged, or has parts that we do not read (sparse files).
    """
    extensions: dict[bytes, bytes] = {}
    long_name, long_target = b"", b""
    while (header := _read_header(tar)) is not None:
        kind = header[156:157]
        match kind:
            case b"x":
                extensions |= _parse_records(_read_extension(tar, header))
                continue
            case b"g":
                _read_extension(tar, header)  # says nothing that a layer needs
                continue
            case b"L":
                long_name = _read_extension(tar, header).partition(b"\x00")[0]
                continue
            case b"K":
                long_target = _read_extension(tar, header).partition(b"\x00")[0]
                continue
            case _:
                pass
        entry = _parse_entry(header)
        entry.name = long_name or entry.name
        entry.target = long_target or entry.target
        if extensions:
            _apply_records(entry, extensions)
        extensions, long_name, long_target = {}, b"", b""
        if b"\x00" in entry.name or b"\x00" in entry.target:
            raise UnpackError("the layer is damaged", why="a name in it contains a NUL byte")
        if entry.kind is not EntryType.FILE:
            entry.size = 0  # as archive/tar: only files have content
        elif entry.name.endswith(b"/"):
            entry.kind = EntryType.DIRECTORY  # before USTAR there was no type for it
            entry.size = 0
        yield entry


def _read_header(tar: TarBytes) -> bytes | None:
    """The next header, or `None` at the archive's end: two blocks of zeros, one, or simply the end."""
    header = tar.read(BLOCK)
    if not header:
        return None
    if len(header) < BLOCK:
        raise UnpackError("the layer is cut off", why="it ends inside a tar header")
    if header == _ZEROS:
        if tar.read(BLOCK).strip(b"\x00"):
            raise UnpackError(
                "the layer is damaged", why="a block of zeros stands between its entries"
            )
        return None
    _verify_checksum(header)
    return header


def _verify_checksum(header: bytes) -> None:
    said = _number(header[148:156])
    spaces = 8 * ord(" ")
    if header.isascii():
        # Adler's low half is one plus the sum, exactly as long as that is below 65521.
        total = (zlib.adler32(header) & 0xFFFF) - 1
        if total - sum(header[148:156]) + spaces == said:
            return
    plain = header[:148] + header[156:]
    signed = sum(byte - 256 if byte > 127 else byte for byte in plain)  # some old writers
    if said not in (sum(plain) + spaces, signed + spaces):
        raise UnpackError("the layer is damaged", why="a tar header has a wrong checksum")


def _parse_entry(header: bytes) -> Entry:
    raw_kind = header[156:157]
    kind = _KINDS.get(raw_kind)
    if kind is None:
        if raw_kind == b"S":
            raise UnpackError(
                "the layer has a sparse file", why="GNU's sparse format is not supported"
            )
        raise UnpackError(
            "the layer has an entry of an unknown kind", why=f"its type is {raw_kind!r}"
        )
    name = _text(header[:100])
    if header[257:263] == b"ustar\x00" and header[345]:
        name = _text(header[345:500]) + b"/" + name
    return Entry(
        name=name,
        kind=kind,
        mode=_number(header[100:108]) & 0o7777,
        uid=_number(header[108:116]),
        gid=_number(header[116:124]),
        size=_number(header[124:136]),
        mtime_ns=_number(header[136:148]) * _NANOSECONDS,
        target=_text(header[157:257]),
        device=(
            (_number(header[329:337]), _number(header[337:345]))
            if kind in (EntryType.CHARACTER_DEVICE, EntryType.BLOCK_DEVICE)
            else (0, 0)
        ),
    )


def _text(field_bytes: bytes) -> bytes:
    return field_bytes.partition(b"\x00")[0]


@lru_cache(maxsize=4096)
def _number(field_bytes: bytes) -> int:
    """Octal digits, or GNU's base 256 if the first bit is set."""
    if field_bytes[0] & 0x80:
        bits = 8 * len(field_bytes) - 1
        value = int.from_bytes(field_bytes, "big") & ((1 << bits) - 1)
        value = value - (1 << bits) if value >> (bits - 1) else value
        if not -(1 << 62) < value < 1 << 62:
            raise UnpackError("the layer is damaged", why="a number in a tar header is too large")
        return value
    digits = field_bytes.strip(b" \x00").partition(b"\x00")[0].strip()
    if not digits:
        return 0
    if digits.strip(b"01234567"):
        raise UnpackError(
            "the layer is damaged", why=f"{field_bytes!r} in a tar header is no number"
        )
    return int(digits, 8)


def _read_extension(tar: TarBytes, header: bytes) -> bytes:
    size = _number(header[124:136])
    if not 0 <= size <= _EXTENSION_LIMIT:
        raise UnpackError(
            "the layer is damaged", why=f"a name or attribute of {size} bytes stands in it"
        )
    data = tar.read(size + -size % BLOCK)
    if len(data) < size:
        raise UnpackError("the layer is cut off", why="it ends inside a tar header")
    return data[:size]


def _parse_records(data: bytes) -> dict[bytes, bytes]:
    """PAX records, `LENGTH KEY=VALUE\\n` each; later ones win."""
    records: dict[bytes, bytes] = {}
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 20)
        digits = data[position:space] if space > 0 else b""
        end = position + int(digits) if digits.isdigit() else 0
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if end <= space or end > len(data) or data[end - 1] != ord("\n") or not equals or not key:
            raise UnpackError("the layer is damaged", why="a PAX header in it is malformed")
        records[key] = value
        position = end
    return records


def _apply_records(entry: Entry, records: dict[bytes, bytes]) -> None:
    for key, value in records.items():
        match key:
            case b"path":
                entry.name = value
            case b"linkpath":
                entry.target = value
            case b"size":
                entry.size = _decimal(key, value)
            case b"uid":
                entry.uid = _decimal(key, value)
            case b"gid":
                entry.gid = _decimal(key, value)
            case b"mtime":
                entry.mtime_ns = _nanoseconds(value)
            case _ if key.startswith(_SCHILY):
                entry.xattrs[key.removeprefix(_SCHILY)] = value
            case _ if key.startswith(_LIBARCHIVE):
                _apply_libarchive(entry, key.removeprefix(_LIBARCHIVE), value)
            case _ if key.startswith(b"GNU.sparse."):
                raise UnpackError(
                    "the layer has a sparse file", why="GNU's sparse format is not supported"
                )
            case _:
                pass


def _decimal(key: bytes, value: bytes) -> int:
    if not value.isdigit() or len(value) > 18:
        raise UnpackError(
            "the layer is damaged", why=f"the PAX {key.decode()} {value[:40]!r} is no number"
        )
    return int(value)


def _nanoseconds(value: bytes) -> int:
    """Seconds with or without a fraction, perhaps before 1970."""
    seconds, _, fraction = value.removeprefix(b"-").partition(b".")
    whole = _decimal(b"mtime", seconds) * _NANOSECONDS
    whole += _decimal(b"mtime", fraction[:9].ljust(9, b"0"))
    return -whole if value.startswith(b"-") else whole


def _apply_libarchive(entry: Entry, name: bytes, value: bytes) -> None:
    """libarchive's spelling: the name percent-encoded, the value in base64; SCHILY's wins where both stand."""
    try:
        data = base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error as error:
        raise UnpackError("the layer is damaged", why="an attribute in it is not base64") from error
    entry.xattrs.setdefault(urllib.parse.unquote_to_bytes(name), data)
