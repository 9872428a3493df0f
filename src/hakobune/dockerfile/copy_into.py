"""Putting files into a root file system, as COPY and ADD do, through the mounted view of it.

Nothing runs in that view meanwhile. Every path is resolved here, inside the root: a symbolic link in an image never leads
to a file of this machine. The rules (what is merged, replaced or refused, whose owner and mode counts) are BuildKit's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable
from posixpath import basename, dirname, normpath

from msgspec import Struct, field

from hakobune.errors import HakoError
from hakobune.oci.merged import is_image_xattr

DIRECTORY_MODE = 0o755
_LINKS = 40  # as many as the kernel follows (path_resolution(7))
_SMALL = 1 << 16
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


class CopyError(HakoError):
    """Something cannot be put where it should go."""


class Entry(Struct, frozen=True):
    """One thing to copy.

    Attributes:
        path: from the source, "" for the source itself; folders come before what is in them.
        folder: an open directory …
        name: … and what to open in it.
    """

    path: str
    folder: int
    name: str
    status: os.stat_result


class Source(Struct, frozen=True, eq=False):
    """One source of an instruction, with links in its path followed.

    Attributes:
        name: what it is called in a folder that it is copied into.
        entries: itself first. Folders may stand for themselves alone.
    """

    name: str
    is_directory: bool
    entries: Iterable[Entry]


class Owner(Struct, frozen=True):
    uid: int
    gid: int


class Copier(Struct, eq=False):
    """Copies into one root.

    Attributes:
        root: an open directory, the merged view.
        owner: of everything; `None` keeps the sources'.
        mode: the permissions for a source's, and whether it is a directory; `None` keeps them.
        directory_mode: of directories made on the way.
        attributes: extended attributes are copied, too.
        replace: what stands in the way is removed, whatever it is (archives, `--link`).
        now_ns: the time of directories made on the way; `None` is the real one.
        upper: where the view keeps what is written to it. Below a directory that is new it is written to directly, and files
            that may keep owner and mode get further names there instead of copies, if they are on the same file system
            and nobody writes to them any more (those of a snapshot, not those of a view).
        has_file: whether the root has that very file under another name: then it gets a copy.
    """

    root: int
    owner: Owner | None = None
    mode: Callable[[int, bool], int] | None = None
    directory_mode: int = DIRECTORY_MODE
    attributes: bool = True
    replace: bool = False
    now_ns: int | None = None
    upper: str = ""
    has_file: Callable[[os.stat_result], bool] = lambda status: False
    _is_new: bool = False  # nothing is in the root but what this copy has put there
    _shares_on: int | None = None  # the file system whose files may be shared
    _inodes: dict[tuple[int, int], str] = field(default_factory=dict)

    def copy(self, source: Source, destination: str) -> None:
        """Copy *source* to the absolute path *destination*: into it if it is a directory or ends in a slash.

        Raises:
            CopyError: a file stands where a directory must be, or the other way round.
        """
        if destination.endswith("/"):
            self.make_directories(self.resolve(destination))
        else:
            self.make_directories(self.resolve(dirname(destination)))
        target = self.resolve(destination)
        present = _status(self.root, target)
        if not source.is_directory and present is not None and stat.S_ISDIR(present.st_mode):
            target = _join(target, source.name)
        self.make_directories(
            target if source.is_directory and present is None else dirname(target)
        )
        self._inodes.clear()  # of each source its own links stay together
        if self.upper and source.is_directory and present is None:
            self._copy_into_new(source, f"{self.upper}/{target}")
        else:
            self._copy_entries(source, target)

    def _copy_into_new(self, source: Source, directory: str) -> None:
        root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            shares = self.owner is None and self.mode is None
            copier = Copier(
                root,
                owner=self.owner,
                mode=self.mode,
                attributes=self.attributes,
                has_file=self.has_file,
                _is_new=True,
                _shares_on=os.fstat(root).st_dev if shares else None,
            )
            copier._copy_entries(source, "")
        finally:
            os.close(root)

    def make_directories(self, path: str) -> None:
        """Make the resolved *path* and its missing parents; what is there stays as it is.

        Raises:
            CopyError: something on the way is no directory.
        """
        if not path:
            return
        try:
            present = os.stat(path, dir_fd=self.root, follow_symlinks=False)
        except FileNotFoundError:
            pass
        except NotADirectoryError as error:
            raise _no_directory(dirname(path)) from error
        else:
            if not stat.S_ISDIR(present.st_mode):
                raise _no_directory(path)
            return
        self.make_directories(dirname(path))
        os.mkdir(path, self.directory_mode, dir_fd=self.root)
        owner = self.owner or Owner(0, 0)
        os.chown(path, owner.uid, owner.gid, dir_fd=self.root)
        os.chmod(path, self.directory_mode, dir_fd=self.root)
        if self.now_ns is not None:
            os.utime(path, ns=(self.now_ns, self.now_ns), dir_fd=self.root)

    def resolve(self, path: str) -> str:
        """*path* with all links followed inside the root, relative to it; what does not exist is kept as it is written."""
        return resolve_inside(self.root, path)

    def _copy_entries(self, source: Source, target: str) -> None:
        times: list[tuple[str, int]] = []
        for entry in source.entries:
            path = _join(target, entry.path)
            if stat.S_ISDIR(entry.status.st_mode):
                self._copy_directory(entry, path, is_top=not entry.path)
                times.append((path, entry.status.st_mtime_ns))
            else:
                self._copy_other(entry, path)
        for path, mtime_ns in reversed(times):  # what was copied into it has changed it
            os.utime(path or ".", ns=(mtime_ns, mtime_ns), dir_fd=self.root)

    def _copy_directory(self, entry: Entry, path: str, *, is_top: bool) -> None:
        present = None if self._is_new and path else _status(self.root, path)
        if present is not None and not stat.S_ISDIR(present.st_mode):
            if not self.replace:
                raise _no_directory(path)
            os.unlink(path, dir_fd=self.root)
            present = None
        if present is None:
            os.mkdir(path, 0o700, dir_fd=self.root)
        elif is_top:
            return  # only what is below it is the copy's to say
        inner = os.open(
            entry.name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=entry.folder
        )
        try:
            self._set_owner_and_mode(path, entry.status)
            self._copy_xattrs(inner, path)
        finally:
            os.close(inner)

    def _copy_other(self, entry: Entry, path: str) -> None:
        if not self._is_new:
            self._clear(path)
        mode = entry.status.st_mode
        if stat.S_ISREG(mode):
            if self._may_share(entry.status) and self._share(entry, path):
                return
            first = self._first_name(entry.status, path)
            if first is None:
                self._copy_file(entry, path)
            else:
                os.link(first, path, src_dir_fd=self.root, dst_dir_fd=self.root)
            return
        if stat.S_ISLNK(mode):
            os.symlink(os.readlink(entry.name, dir_fd=entry.folder), path, dir_fd=self.root)
        elif stat.S_ISSOCK(mode):
            return
        else:
            os.mknod(path, mode, entry.status.st_rdev, dir_fd=self.root)
        self._set_owner_and_mode(path, entry.status)
        _set_time(self.root, path, entry.status)

    def _may_share(self, status: os.stat_result) -> bool:
        return status.st_dev == self._shares_on and not (
            status.st_nlink > 1 and self.has_file(status)
        )

    def _share(self, entry: Entry, path: str) -> bool:
        """Give the source's file another name; not possible if it has too many."""
        try:
            os.link(
                entry.name,
                path,
                src_dir_fd=entry.folder,
                dst_dir_fd=self.root,
                follow_symlinks=False,
            )
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EMLINK, errno.EPERM):
                raise
            if error.errno != errno.EMLINK:
                self._shares_on = None
            return False
        return True

    def _copy_file(self, entry: Entry, path: str) -> None:
        source = os.open(entry.name, _READ, dir_fd=entry.folder)
        try:
            target = os.open(path, _CREATE, 0o600, dir_fd=self.root)
            try:
                copy_bytes(source, target, entry.status.st_size)
                owner = self._owner_of(entry.status)
                os.fchown(target, owner.uid, owner.gid)
                # After chown, which takes setuid away.
                os.fchmod(target, self._mode_of(entry.status))
                self._copy_xattrs(source, path)
                os.utime(target, ns=(entry.status.st_mtime_ns, entry.status.st_mtime_ns))
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _first_name(self, status: os.stat_result, path: str) -> str | None:
        """The name under which this inode was copied before, if it was."""
        if status.st_nlink < 2:
            return None
        first = self._inodes.setdefault((status.st_dev, status.st_ino), path)
        return None if first is path else first

    def _clear(self, path: str) -> None:
        present = _status(self.root, path)
        if present is None:
            return
        if not stat.S_ISDIR(present.st_mode):
            os.unlink(path, dir_fd=self.root)
        elif self.replace:
            from shutil import rmtree

            rmtree(path, dir_fd=self.root)
        else:
            raise CopyError(
                f"cannot replace the directory /{path} by a file",
                why="the image has a directory of that name",
                fix="remove it in a RUN before, or choose another destination",
            )

    def _set_owner_and_mode(self, path: str, status: os.stat_result) -> None:
        owner = self._owner_of(status)
        os.chown(path, owner.uid, owner.gid, dir_fd=self.root, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(path, self._mode_of(status), dir_fd=self.root)

    def _owner_of(self, status: os.stat_result) -> Owner:
        return self.owner or Owner(status.st_uid, status.st_gid)

    def _mode_of(self, status: os.stat_result) -> int:
        mode = stat.S_IMODE(status.st_mode)
        return mode if self.mode is None else self.mode(mode, stat.S_ISDIR(status.st_mode))

    def _copy_xattrs(self, source: int, path: str) -> None:
        if not self.attributes:
            return
        names = [name for name in os.listxattr(source) if is_image_xattr(name)]
        if not names:
            return
        target = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self.root)
        try:
            for name in names:
                # A file system without them: BuildKit goes on, too.
                with contextlib.suppress(OSError):
                    os.setxattr(target, name, os.getxattr(source, name))
        finally:
            os.close(target)


def resolve_inside(root: int, path: str) -> str:
    """*path* with all links followed inside *root*, relative to it; what does not exist is kept as it is written.

    Raises:
        CopyError: links go round in circles.
    """
    done: list[str] = []
    left = [part for part in path.split("/") if part not in ("", ".")][::-1]
    links = 0
    while left:
        part = left.pop()
        if part == "..":
            if done:
                done.pop()
            continue
        here = "/".join([*done, part])
        try:
            target = os.readlink(here, dir_fd=root)
        except OSError:
            done.append(part)  # no link, or not there
            continue
        links += 1
        if links > _LINKS:
            raise CopyError(f"{path} cannot be found", why="its symbolic links go round in circles")
        if target.startswith("/"):
            done.clear()
        left += [p for p in target.split("/") if p not in ("", ".")][::-1]
    return "/".join(done)


def copy_bytes(source: int, target: int, size: int) -> None:
    """All bytes of one open file to another."""
    if size < _SMALL:
        while data := os.read(source, _SMALL):
            os.write(target, data)
        return
    done = 0
    while sent := os.sendfile(target, source, done, 1 << 30):
        done += sent


def _status(root: int, path: str) -> os.stat_result | None:
    try:
        return os.stat(path or ".", dir_fd=root, follow_symlinks=False)
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise _no_directory(dirname(path)) from error


def _set_time(root: int, path: str, status: os.stat_result) -> None:
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns), dir_fd=root, follow_symlinks=False)


def _join(path: str, more: str) -> str:
    return f"{path}/{more}" if path and more else path or more


def _no_directory(path: str) -> CopyError:
    return CopyError(
        f"/{path} is no directory",
        why="the image has a file or a link of that name, and something must be put into it",
        fix="choose another destination, or remove it in a RUN before",
    )


def clean_destination(path: str) -> str:
    """An absolute path without `.`, `..` and doubled slashes; a slash at its end stays."""
    clean = normpath("/" + path.lstrip("/"))
    return clean + "/" if path.endswith(("/", "/.")) and clean != "/" else clean


def name_of(path: str) -> str:
    """The last part of a source's path."""
    return basename(path.rstrip("/"))
