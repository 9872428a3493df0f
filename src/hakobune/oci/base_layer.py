"""A directory as it is becomes a layer: a base image's root, the top of an overlay, one plain tar.

`layer` writes those whose owner and times the CNB specification says.
"""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import closing
from pathlib import Path
from typing import IO, Final

from hakobune.oci.digest import Digest
from hakobune.oci.manifest import Layer
from hakobune.oci.merged import is_image_xattr
from hakobune.oci.plain_tar import PlainTar
from hakobune.oci.tar_header import SPECIAL_TYPES, EntryType, encode_header
from hakobune.oci.tar_stream import BlobSink, TarStream, open_tar_stream
from hakobune.oci.tree_walk import (
    FOLDER_FLAGS,
    Found,
    LayerError,
    device,
    link_target,
    open_file,
    walk,
)

WHITEOUT_PREFIX: Final = ".wh."
OPAQUE_WHITEOUT: Final = ".wh..wh..opq"


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
                SPECIAL_TYPES[kind],
                status,
                target=link_target(folder, name, kind),
                device=device(status),
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
