"""A tree, or what is said in its place, becomes a layer.

What stands in it and in which order is decided here; `tree_walk` reads directories, `tar_header` says how an entry is
written, `tar_stream` hashes and compresses, `unpack` is the way back.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, Final, TypeAlias

import msgspec

from hakobune.oci.digest import Digest
from hakobune.oci.manifest import Layer
from hakobune.oci.plain_tar import PlainTar
from hakobune.oci.tar_header import EntryType, encode_header, uniform_encoder
from hakobune.oci.tar_stream import BlobSink, BlobWriter, TarStream, open_tar_stream
from hakobune.oci.tree_walk import FOLDER_FLAGS, Found, LayerError, open_file, pick, walk

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
    "digest_base_layer",
    "write_base_layer",
    "write_layer",
    "write_tree",
]

# 1980-01-01T00:00:01Z, the time of everything in a CNB layer (lifecycle's archive.NormalizedModTime).
NORMALIZED_MTIME: Final = 315532801
WHITEOUT_PREFIX: Final = ".wh."
OPAQUE_WHITEOUT: Final = ".wh..wh..opq"


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


def write_base_layer(
    sink: BlobSink,
    tree: Path | int,
    *,
    latest_mtime: int | None = None,
    id_base: int = 0,
    bare: bool = False,
) -> Layer:
    """Add what is in *tree*, as it is, to *sink*: a base image's root, or the top of an overlay.

    Names are relative ("etc/passwd", directories "etc/"); modes, owners, times in seconds, hard links, devices and the
    attributes `security.capability` and `user.*` are kept, sockets are left out. A 0:0 character device becomes a
    whiteout, the overlay's opaque mark an opaque whiteout, all other overlay attributes are dropped.

    Args:
        latest_mtime: later times become this one (reproducible images).
        id_base: subtracted from every owner, for trees seen through a container's id range.
        bare: nothing in the tree has an extended attribute: none is looked for.

    Raises:
        OSError: something cannot be read or stored.
        LayerError: a file became shorter while it was read, or a name cannot stand in a layer, or an owner is below *id_base*.
        In all cases *sink* is left as it was.
    """
    with open_tar_stream(sink) as tar:
        _write_base(tar, tree, latest_mtime=latest_mtime, id_base=id_base, bare=bare)
        return tar.finish()


def digest_base_layer(
    tree: Path | int, *, latest_mtime: int | None = None, bare: bool = False
) -> Digest:
    """The diff_id that `write_base_layer` gives, without a blob.

    Raises:
        OSError: something cannot be read.
        LayerError: a file became shorter while it was read, or a name cannot stand in a layer.
    """
    hashed = _Hashed()
    tar = PlainTar(hashed)
    _write_base(tar, tree, latest_mtime=latest_mtime, bare=bare)
    tar.finish()
    return Digest("sha256", hashed.sha256.hexdigest())


class _Hashed:
    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()
        self.write = self.sha256.update


def write_tree(out: IO[bytes], tree: Path | int) -> None:
    """Write what is in *tree* as one plain tar, with all that `write_base_layer` keeps.

    Raises:
        OSError: something cannot be read or written.
        LayerError: a file became shorter while it was read, or a name cannot stand in a layer.
    """
    tar = PlainTar(out)
    _write_base(tar, tree)
    tar.finish()
    out.flush()


def _write_base(
    tar: TarStream | PlainTar,
    tree: Path | int,
    *,
    latest_mtime: int | None = None,
    id_base: int = 0,
    bare: bool = False,
) -> None:
    entries = _BaseEntries(tar, latest_mtime, id_base, bare)
    with closing(walk(tree, b"")) as found:
        next(found)  # the root itself has no entry
        for item in found:
            entries.write(item)


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


_SPECIAL: Final = {
    stat.S_IFLNK: EntryType.SYMLINK,
    stat.S_IFCHR: EntryType.CHARACTER_DEVICE,
    stat.S_IFBLK: EntryType.BLOCK_DEVICE,
    stat.S_IFIFO: EntryType.FIFO,
}


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
        elif kind in _SPECIAL:
            tar.put(
                encode_header(
                    path,
                    _SPECIAL[kind],
                    mode=mode & 0o7777,
                    uid=owner.uid,
                    gid=owner.gid,
                    mtime=NORMALIZED_MTIME,
                    target=_target(folder, name, kind),
                    device=_device(status),
                )
            )


def _put_file_at(tar: TarStream, folder: int, name: str, path: bytes, size: int) -> None:
    descriptor = open_file(name, folder)
    try:
        tar.put_file(descriptor, size, path)
    finally:
        os.close(descriptor)


def _target(folder: int, name: str, kind: int) -> bytes:
    return os.fsencode(os.readlink(name, dir_fd=folder)) if kind == stat.S_IFLNK else b""


def _device(status: os.stat_result) -> tuple[int, int]:
    if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        return os.major(status.st_rdev), os.minor(status.st_rdev)
    return 0, 0


class _BaseEntries:
    """Writes entries with everything that the disk says about them."""

    def __init__(
        self, tar: TarStream | PlainTar, latest_mtime: int | None, id_base: int, bare: bool
    ) -> None:
        self._tar = tar
        self._latest_mtime = latest_mtime
        self._id_base = id_base
        self._bare = bare
        self._first_names: dict[tuple[int, int], bytes] = {}

    def write(self, item: Found) -> None:
        folder, name, path, status = item
        kind = stat.S_IFMT(status.st_mode)
        if name.startswith(WHITEOUT_PREFIX):
            raise LayerError(
                f"{os.fsdecode(path)!r} cannot stand in an image",
                why=f"names that begin with {WHITEOUT_PREFIX} mean deleted files there",
                fix="rename or delete it",
            )
        if kind == stat.S_IFSOCK:
            return
        if kind == stat.S_IFCHR and status.st_rdev == 0:
            self._write_whiteout(path, name, status)
        elif kind == stat.S_IFDIR:
            self._write_directory(item)
        elif (first := self._first_name(path, status)) is not None:
            self._tar.put(self._encode(path, EntryType.LINK, status, target=first))
        elif kind == stat.S_IFREG:
            self._write_file(item)
        else:
            header = self._encode(
                path,
                _SPECIAL[kind],
                status,
                target=_target(folder, name, kind),
                device=_device(status),
            )
            self._tar.put(header)

    def _first_name(self, path: bytes, status: os.stat_result) -> bytes | None:
        """The name under which this inode was written before, if it was."""
        if status.st_nlink < 2:
            return None
        first = self._first_names.setdefault((status.st_dev, status.st_ino), path)
        return None if first is path else first

    def _write_whiteout(self, path: bytes, name: str, status: os.stat_result) -> None:
        bare = os.fsencode(name)
        marker = path[: len(path) - len(bare)] + os.fsencode(WHITEOUT_PREFIX) + bare
        self._put_empty(marker, status)

    def _write_directory(self, item: Found) -> None:
        folder, name, path, status = item
        if self._bare:
            self._tar.put(self._encode(path + b"/", EntryType.DIRECTORY, status))
            return
        inner = os.open(name, FOLDER_FLAGS, dir_fd=folder)
        try:
            xattrs = _kept_xattrs(inner, self._id_base)
            opaque = _is_opaque(inner)
        finally:
            os.close(inner)
        self._tar.put(self._encode(path + b"/", EntryType.DIRECTORY, status, xattrs=xattrs))
        if opaque:
            self._put_empty(path + b"/" + os.fsencode(OPAQUE_WHITEOUT), status)

    def _write_file(self, item: Found) -> None:
        folder, name, path, status = item
        descriptor = open_file(name, folder)
        try:
            xattrs = {} if self._bare else _kept_xattrs(descriptor, self._id_base)
            size = status.st_size
            self._tar.put(self._encode(path, EntryType.FILE, status, size=size, xattrs=xattrs))
            self._tar.put_file(descriptor, size, path)
        finally:
            os.close(descriptor)

    def _put_empty(self, path: bytes, status: os.stat_result) -> None:
        header = encode_header(
            path, EntryType.FILE, mode=0, uid=0, gid=0, mtime=self._mtime(status)
        )
        self._tar.put(header)

    def _encode(
        self,
        path: bytes,
        kind: EntryType,
        status: os.stat_result,
        *,
        size: int = 0,
        target: bytes = b"",
        device: tuple[int, int] = (0, 0),
        xattrs: dict[bytes, bytes] | None = None,
    ) -> bytes:
        uid, gid = status.st_uid - self._id_base, status.st_gid - self._id_base
        if uid < 0 or gid < 0:
            raise LayerError(
                f"the owner of {os.fsdecode(path)!r} is outside the id range",
                why=f"it is {status.st_uid}:{status.st_gid}, the range begins at {self._id_base}",
            )
        return encode_header(
            path,
            kind,
            mode=stat.S_IMODE(status.st_mode),
            uid=uid,
            gid=gid,
            mtime=self._mtime(status),
            size=size,
            target=target,
            device=device,
            xattrs=xattrs or {},
        )

    def _mtime(self, status: os.stat_result) -> int:
        mtime = status.st_mtime_ns // 1_000_000_000
        return mtime if self._latest_mtime is None else min(mtime, self._latest_mtime)


def _is_opaque(folder: int) -> bool:
    for attribute in ("trusted.overlay.opaque", "user.overlay.opaque"):
        try:
            if os.getxattr(folder, attribute) == b"y":
                return True
        except OSError:
            pass  # not set, not supported here, or not for us to see: not opaque
    return False


def _kept_xattrs(descriptor: int, id_base: int) -> dict[bytes, bytes]:
    """The attributes that mean something in an image."""
    kept = {}
    for name in os.listxattr(descriptor):
        if is_image_xattr(name):
            value = os.getxattr(descriptor, name)
            if name == "security.capability":
                value = _without_id_range(value, id_base)
            kept[os.fsencode(name)] = value
    return kept


def is_image_xattr(name: str) -> bool:
    """Whether an attribute belongs to an image: file capabilities and `user.*`, never an overlay's own."""
    return name == "security.capability" or (name.startswith("user.") and ".overlay." not in name)


def _without_id_range(capability: bytes, id_base: int) -> bytes:
    """File capabilities set inside the id range (version 3) as those of an ordinary file (version 2).

    Version 3 is version 2 with the namespace's root id at its end (linux/capability.h, vfs_ns_cap_data).
    """
    version_3, version_2 = 0x03000000, 0x02000000
    magic = int.from_bytes(capability[:4], "little")
    root_id = int.from_bytes(capability[20:24], "little")
    if magic & 0xFF000000 != version_3 or root_id != id_base:
        return capability
    return (magic & 0x00FFFFFF | version_2).to_bytes(4, "little") + capability[4:20]


def _find_slice(part: Slice) -> Generator[Found, None, None]:
    name = os.fsencode(part.name)
    if part.paths is None:
        return walk(part.directory, name, by_path=True)
    return pick(part.directory, name, sorted({os.fsencode(path) for path in part.paths}))
