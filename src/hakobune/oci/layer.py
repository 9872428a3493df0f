"""A tree, or what is said in its place, becomes a layer.

What stands in it and in which order is decided here; `tree_walk` reads directories, `tar_header` says how an entry is
written, `tar_stream` hashes and compresses, `unpack` is the way back.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from hakobune.oci.manifest import Layer
from hakobune.oci.tar_header import SPECIAL_TYPES, EntryType, encode_header, uniform_encoder
from hakobune.oci.tar_stream import BlobSink, BlobWriter, TarStream, open_tar_stream
from hakobune.oci.tree_walk import Found, LayerError, device, link_target, open_file, pick, walk

__all__ = [
    "BlobSink",
    "BlobWriter",
    "Directory",
    "File",
    "Layer",
    "LayerError",
    "Owner",
    "Part",
    "Slice",
    "Symlink",
    "Tree",
    "write_layer",
]

# 1980-01-01T00:00:01Z, the time of everything in a CNB layer (lifecycle's archive.NormalizedModTime).
NORMALIZED_MTIME: Final = 315532801


class Owner(msgspec.Struct, frozen=True):
    """Numeric ids as they are inside the image."""

    uid: int
    gid: int


ROOT: Final = Owner(0, 0)


class Directory(msgspec.Struct, frozen=True, kw_only=True):
    """A directory entry alone, such as a parent of what follows."""

    name: str
    mode: int = 0o755
    owner: Owner = ROOT


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A regular file with the given bytes, or those of a file on this machine."""

    name: str
    content: bytes | Path
    mode: int = 0o644
    owner: Owner = ROOT


class Symlink(msgspec.Struct, frozen=True, kw_only=True):
    """A symbolic link; upstream gives it the mode 0755 in the layers that it makes up."""

    name: str
    target: str
    mode: int = 0o755
    owner: Owner = ROOT


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """A directory of this machine with everything below it; all of it gets the layer's owner.

    Attributes:
        name: its path in the image, "/layers/ID/NAME".
        directory: a path, or a descriptor that stays the caller's; its owners and times do not matter.
    """

    name: str
    directory: Path | int


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a directory, as upstream writes the app's slices: sorted by whole path, owned by the layer's owner.

    Attributes:
        name: the directory's path in the image, "/workspace".
        paths: relative paths, each written alone ("" is the directory itself; parents are not added);
            `None` is the directory and everything below it.
    """

    name: str
    directory: Path | int
    paths: Sequence[str] | None = None


Part: TypeAlias = Directory | File | Symlink | Tree | Slice


def write_layer(sink: BlobSink, parts: Iterable[Part], *, owner: Owner) -> Layer:
    """Add a CNB layer to *sink*, reading each file once: the tar, hence the diff_id, is upstream's to the bit.

    Names are absolute; parents are named by the caller, first. All times are 1980-01-01T00:00:01Z; extended attributes
    and sockets are left out, hard links become files of their own. Nothing but regular files is opened.

    Args:
        owner: of everything in a `Tree` or `Slice`; the other parts say theirs.

    Raises:
        OSError: something cannot be read or stored.
        LayerError: a file became shorter while it was read.
        In both cases *sink* is left as it was.
    """
    with open_tar_stream(sink) as tar:
        for part in parts:
            match part:
                case Directory():
                    tar.put(_encode_part(part, EntryType.DIRECTORY))
                case Symlink():
                    tar.put(_encode_part(part, EntryType.SYMLINK, target=os.fsencode(part.target)))
                case File(content=bytes(content)):
                    tar.put(_encode_part(part, EntryType.FILE, size=len(content)))
                    tar.put_content(content)
                case File():
                    _write_host_file(tar, part)
                case Tree():
                    with closing(walk(part.directory, os.fsencode(part.name))) as found:
                        _write_uniform(tar, found, owner)
                case Slice():
                    with closing(_find_slice(part)) as found:
                        _write_uniform(tar, found, owner)
        return tar.finish()


def _encode_part(
    part: Directory | File | Symlink, kind: EntryType, *, size: int = 0, target: bytes = b""
) -> bytes:
    return encode_header(
        os.fsencode(part.name),
        kind,
        mode=part.mode,
        uid=part.owner.uid,
        gid=part.owner.gid,
        mtime=NORMALIZED_MTIME,
        size=size,
        target=target,
    )


def _write_host_file(tar: TarStream, part: File) -> None:
    assert isinstance(part.content, Path)
    descriptor = os.open(part.content, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        tar.put(_encode_part(part, EntryType.FILE, size=size))
        tar.put_file(descriptor, size, os.fsencode(part.name))
    finally:
        os.close(descriptor)


def _write_uniform(tar: TarStream, found: Iterable[Found], owner: Owner) -> None:
    """Write entries that all have one owner and one time, as upstream's NormalizingTarWriter does."""
    encode = uniform_encoder(owner.uid, owner.gid, NORMALIZED_MTIME)
    file, directory = EntryType.FILE, EntryType.DIRECTORY
    for folder, name, path, status in found:
        mode = status.st_mode
        kind = stat.S_IFMT(mode)
        if kind == stat.S_IFREG:
            tar.put(encode(path, file, mode & 0o7777, status.st_size))
            if status.st_size:
                _put_file_at(tar, folder, name, path, status.st_size)
        elif kind == stat.S_IFDIR:
            tar.put(encode(path, directory, mode & 0o7777, 0))
        elif kind in SPECIAL_TYPES:
            tar.put(
                encode_header(
                    path,
                    SPECIAL_TYPES[kind],
                    mode=mode & 0o7777,
                    uid=owner.uid,
                    gid=owner.gid,
                    mtime=NORMALIZED_MTIME,
                    target=link_target(folder, name, kind),
                    device=device(status),
                )
            )


def _put_file_at(tar: TarStream, folder: int, name: str, path: bytes, size: int) -> None:
    descriptor = open_file(name, folder)
    try:
        tar.put_file(descriptor, size, path)
    finally:
        os.close(descriptor)


def _find_slice(part: Slice) -> Generator[Found, None, None]:
    name = os.fsencode(part.name)
    if part.paths is None:
        return walk(part.directory, name, by_path=True)
    return pick(part.directory, name, sorted({os.fsencode(path) for path in part.paths}))
