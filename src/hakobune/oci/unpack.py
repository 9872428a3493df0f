"""A layer becomes a directory that overlayfs can use, and nothing outside of that directory changes.

Whiteouts become 0:0 character devices, opaque whiteouts an attribute (image-spec layer.md "Representing Changes";
kernel overlayfs.rst "whiteouts and opaque directories"). `rooted` keeps names inside, `tar_read` reads the archive.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path
from typing import Final

import msgspec

from hakobune.oci.base_layer import OPAQUE_WHITEOUT, WHITEOUT_PREFIX
from hakobune.oci.digest import Digest
from hakobune.oci.inflate import ByteSource, TarBytes, UnpackError
from hakobune.oci.layer import NORMALIZED_MTIME
from hakobune.oci.merged import is_image_xattr
from hakobune.oci.rooted import FOLDER_FLAGS, RootedFolders, RootedPath, is_whiteout, shown
from hakobune.oci.tar_header import BLOCK, EntryType
from hakobune.oci.tar_read import Entry, read_entries

__all__ = ["Limits", "UnpackError", "Unpacked", "unpack_layer"]

_NEW_FILE_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_WHITEOUT: Final = os.fsencode(WHITEOUT_PREFIX)
_OPAQUE: Final = os.fsencode(OPAQUE_WHITEOUT)
_NAME_LIMIT: Final = 4096  # PATH_MAX: nothing could open what is longer
_DEVICE_TYPES: Final = {
    EntryType.CHARACTER_DEVICE: stat.S_IFCHR,
    EntryType.BLOCK_DEVICE: stat.S_IFBLK,
    EntryType.FIFO: stat.S_IFIFO,
}


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a layer may cost; more is refused as a bomb."""

    size_bytes: int = 64 << 30
    entries: int = 4_000_000


DEFAULT_LIMITS = Limits()


class Unpacked(msgspec.Struct, frozen=True, kw_only=True):
    """What was found while unpacking.

    Attributes:
        implied_parents: directories, relative to the root and parents first, that hold something but have no entry of
            their own. They got mode 0755 and root as owner; what they really are is up to the layers below.
        size_bytes: the length of the tar.
    """

    diff_id: Digest
    implied_parents: tuple[str, ...]
    entries: int
    size_bytes: int

    @property
    def complete_parents(self) -> bool:
        """Whether the layer names every directory it uses, so that it means the same above any other."""
        return not self.implied_parents


def unpack_layer(
    blob: Path | ByteSource, into: Path, *, limits: Limits = DEFAULT_LIMITS, privileged: bool = True
) -> Unpacked:
    """Unpack a blob (tar, or gzip or zstd of it), a file or its bytes while they arrive, into the empty directory *into*.

    Modes, owners, times and the attributes `security.capability` and `user.*` are set; an overlay's own attributes in
    the image are dropped. The caller compares `diff_id`, and removes *into* after an error.

    Args:
        privileged: without it owners are not set, devices are left out and opaque is spelled `user.overlay.opaque`.

    Raises:
        UnpackError: the layer is damaged, too large, or wants something that no layer may.
        OSError: the disk is full, or refuses.
    """
    with TarBytes(blob, limit_bytes=limits.size_bytes) as tar:
        with _Unpacking(tar, into, privileged=privileged) as unpacking:
            count = 0
            for entry in read_entries(tar):
                count += 1
                if count > limits.entries:
                    raise UnpackError(
                        "the layer is too large", why=f"it has more than {limits.entries} entries"
                    )
                unpacking.add(entry)
            unpacking.finish_directories()
        diff_id = tar.finish()
        return Unpacked(
            diff_id=diff_id,
            implied_parents=unpacking.implied_parents,
            entries=count,
            size_bytes=tar.size_bytes,
        )


class _Unpacking:
    """One layer on its way to disk."""

    def __init__(self, tar: TarBytes, root: Path, *, privileged: bool) -> None:
        self._tar = tar
        self._privileged = privileged
        self._folders = RootedFolders(root, self._make_implied)
        # What each directory gets at the end, when nothing is put into it any more; None: no entry names it.
        self._directories: dict[RootedPath, Entry | None] = {}

    def __enter__(self) -> _Unpacking:
        return self

    def __exit__(self, *error: object) -> None:
        self._folders.__exit__(*error)

    @property
    def implied_parents(self) -> tuple[str, ...]:
        implied = sorted(path for path, entry in self._directories.items() if entry is None)
        return tuple(os.fsdecode(b"/".join(path)) for path in implied)

    def add(self, entry: Entry) -> None:
        """Make what *entry* says, in the place of whatever has its name.

        Raises:
            UnpackError: no layer may have such an entry.
        """
        path = _parse_name(entry.name)
        _check_numbers(entry, path)
        try:
            self._add(entry, path)
        except OSError as error:
            if error.errno not in (errno.ENAMETOOLONG, errno.EINVAL, errno.ENOENT):
                raise
            raise UnpackError(f"{shown(path)} cannot be made", why=error.strerror or "") from error

    def finish_directories(self) -> None:
        """Give directories their owners, modes and times, the innermost first."""
        for path in sorted(self._directories, reverse=True):
            folder = self._folders.open(path, create=False)
            entry = self._directories[path]
            if entry is not None:
                self._set_attributes(folder, entry)
            else:
                os.fchmod(folder, 0o755)
                os.utime(folder, (NORMALIZED_MTIME, NORMALIZED_MTIME))

    def _add(self, entry: Entry, path: RootedPath) -> None:
        if not path:
            if entry.kind is not EntryType.DIRECTORY:
                raise UnpackError("the layer replaces the root by something that is no directory")
            self._directories[()] = entry
            return
        name = path[-1]
        if name.startswith(_WHITEOUT):
            self._add_whiteout_marker(path)
            self._tar.skip(entry.size + -entry.size % BLOCK)
            return
        folder = self._folders.open(path[:-1])
        match entry.kind:
            case EntryType.FILE:
                self._add_file(folder, name, entry)
            case EntryType.DIRECTORY:
                self._add_directory(folder, name, entry)
            case EntryType.SYMLINK:
                folder = self._clear(folder, name)
                os.symlink(entry.target, name, dir_fd=folder)
                self._set_attributes_at(folder, name, entry)
            case EntryType.LINK:
                self._add_link(path, entry)
            case EntryType.CHARACTER_DEVICE if entry.device == (0, 0):
                self._add_whiteout(folder, name)  # the overlay's own spelling
            case _:
                self._add_device(folder, name, entry)

    def _add_file(self, folder: int, name: bytes, entry: Entry) -> None:
        try:
            descriptor = os.open(name, _NEW_FILE_FLAGS, 0o600, dir_fd=folder)
        except FileExistsError:
            folder = self._clear(folder, name)
            descriptor = os.open(name, _NEW_FILE_FLAGS, 0o600, dir_fd=folder)
        try:
            self._tar.copy_to(descriptor, entry.size)
            self._tar.skip(-entry.size % BLOCK)
            self._set_attributes(descriptor, entry)
        finally:
            os.close(descriptor)

    def _add_directory(self, folder: int, name: bytes, entry: Entry) -> None:
        here = (*self._folders.here, name)
        try:
            os.mkdir(name, 0o700, dir_fd=folder)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                self._replace_by_directory(folder, name)
        self._directories[here] = entry

    def _add_link(self, path: RootedPath, entry: Entry) -> None:
        target = _parse_name(entry.target)
        if not target:
            raise UnpackError(f"{shown(path)} is a hard link to the root")
        source = os.dup(self._folders.open(target[:-1], create=False))
        try:
            status = _status(source, target[-1])
            if status is None or is_whiteout(status) or stat.S_ISDIR(status.st_mode):
                raise UnpackError(
                    f"{shown(path)} is a hard link to nothing",
                    why=f"{shown(target)} is not a file of this layer",
                )
            folder = self._clear(self._folders.open(path[:-1]), path[-1])
            os.link(
                target[-1],
                path[-1],
                src_dir_fd=source,
                dst_dir_fd=folder,
                follow_symlinks=False,
            )
        finally:
            os.close(source)

    def _add_device(self, folder: int, name: bytes, entry: Entry) -> None:
        folder = self._clear(folder, name)
        if not self._privileged and entry.kind is not EntryType.FIFO:
            return
        mode = _DEVICE_TYPES[entry.kind] | 0o600
        os.mknod(name, mode, os.makedev(*entry.device), dir_fd=folder)
        self._set_attributes_at(folder, name, entry)

    # Whiteouts

    def _add_whiteout_marker(self, path: RootedPath) -> None:
        marker = path[-1]
        hidden = marker.removeprefix(_WHITEOUT)
        if marker == _OPAQUE:
            self._set_opaque(self._folders.open(path[:-1]))
        elif hidden in (b"", b".", b".."):
            raise UnpackError(f"{shown(path)} deletes nothing that has a name")
        elif not hidden.startswith(_WHITEOUT):  # .wh..wh.… are aufs' notes to itself
            self._add_whiteout(self._folders.open(path[:-1]), hidden)

    def _add_whiteout(self, folder: int, name: bytes) -> None:
        """Hide *name* of lower layers; what this layer has under the name stays."""
        try:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=folder)
        except FileExistsError:
            if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                self._set_opaque_at(folder, name)

    def _replace_by_directory(self, folder: int, name: bytes) -> None:
        """A file or whiteout hides a lower directory of its name, so what comes in its place is opaque."""
        os.unlink(name, dir_fd=folder)
        os.mkdir(name, 0o700, dir_fd=folder)
        self._set_opaque_at(folder, name)

    def _set_opaque_at(self, folder: int, name: bytes) -> None:
        inner = os.open(name, FOLDER_FLAGS, dir_fd=folder)
        try:
            self._set_opaque(inner)
        finally:
            os.close(inner)

    def _set_opaque(self, folder: int) -> None:
        namespace = "trusted" if self._privileged else "user"
        os.setxattr(folder, f"{namespace}.overlay.opaque", b"y")

    def _make_implied(self, folder: int, name: bytes) -> None:
        """A directory that some entry needs; a whiteout may be in its place."""
        try:
            os.mkdir(name, 0o700, dir_fd=folder)
        except FileExistsError:
            self._replace_by_directory(folder, name)
        self._directories[(*self._folders.here, name)] = None

    def _clear(self, folder: int, name: bytes) -> int:
        """Remove what an earlier entry made under the name; the folder's descriptor from then on."""
        try:
            os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            shutil.rmtree(name, dir_fd=folder)
            here = self._folders.here
            gone = (*here, name)
            self._directories = {
                path: entry
                for path, entry in self._directories.items()
                if path[: len(gone)] != gone
            }
            self._folders.forget()
            return self._folders.open(here, create=False)
        return folder

    # Attributes

    def _set_attributes(self, descriptor: int, entry: Entry) -> None:
        """Owner first: changing it clears setuid bits and capabilities."""
        if self._privileged:
            os.fchown(descriptor, entry.uid, entry.gid)
        os.fchmod(descriptor, entry.mode)
        for key, value in entry.xattrs.items():
            self._set_xattr(descriptor, os.fsdecode(key), value)
        os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))

    def _set_attributes_at(self, folder: int, name: bytes, entry: Entry) -> None:
        """The same for what must not be opened."""
        if self._privileged:
            os.chown(name, entry.uid, entry.gid, dir_fd=folder, follow_symlinks=False)
        if entry.kind is not EntryType.SYMLINK:
            os.chmod(name, entry.mode, dir_fd=folder)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=folder, follow_symlinks=False)

    def _set_xattr(self, descriptor: int, name: str, value: bytes) -> None:
        if not is_image_xattr(name):
            return
        try:
            os.setxattr(descriptor, name, value)
        except OSError as error:
            if name.startswith("user.") and error.errno == errno.ENOTSUP:
                return  # tmpfs, for one; nothing in a running program depends on it
            if not self._privileged and error.errno == errno.EPERM:
                return
            raise


def _status(folder: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _parse_name(name: bytes) -> RootedPath:
    """The components of a name; a leading slash means the layer's root (CNB layers have it)."""
    if len(name) > _NAME_LIMIT:
        raise UnpackError(f"the layer has a name of {len(name)} bytes", why="4096 are possible")
    path = tuple(part for part in name.split(b"/") if part not in (b"", b"."))
    if b".." in path:
        raise UnpackError(f"{os.fsdecode(name)!r} in the layer leaves it", why="it has .. in it")
    return path


def _check_numbers(entry: Entry, path: RootedPath) -> None:
    ids = 1 << 32
    sane = (
        0 <= entry.uid < ids - 1
        and 0 <= entry.gid < ids - 1
        and entry.size >= 0
        and abs(entry.mtime_ns) < 1 << 62
        and 0 <= entry.device[0] < 1 << 12
        and 0 <= entry.device[1] < 1 << 20
    )
    if not sane:
        raise UnpackError(
            f"the layer is damaged at {shown(path)}",
            why="a size, owner, time or device is impossible",
        )
