"""What COPY, ADD and mounts read: the build context, or the merged root of a stage or an image.

Paths are resolved inside the tree: a link never leads out of it. What an ignore file leaves out does not exist.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from hakobune.dockerfile.copy_into import CopyError, Entry, Source, name_of, resolve_inside
from hakobune.dockerfile.file_digests import FileDigests
from hakobune.dockerfile.patterns import glob_matcher, has_wildcards
from hakobune.errors import HakoError
from hakobune.oci.merged import find, is_image_xattr, is_whiteout
from hakobune.oci.tree_walk import FOLDER_FLAGS

Matches = Callable[[str], bool]
_PIECE = 1 << 20


class SourceMissingError(HakoError):
    """A source is not there."""

    def __init__(self, path: str, problem: str = "is not there") -> None:
        super().__init__(f"{path} {problem}")
        self.path = path


class SourceTree(Struct, frozen=True, eq=False):
    """An open tree.

    Attributes:
        root: an open directory.
        ignored: whether a path (relative, without a leading slash) is left out; `None`: nothing is.
        may_return: something below an ignored folder may be taken in again.
        digests: remembers what unchanged files contain.
        owners: whether owners and attributes of the files count (they do not in a build context).
        lowers: the directories that `root` merges, uppermost first; empty if only the view may be read.
        own: those of them in which a folder may be read that they alone have.
        reason: which line of which file leaves a path out; empty if none does.
    """

    root: int
    ignored: Matches | None = None
    may_return: bool = False
    digests: FileDigests | None = None
    owners: bool = True
    reason: Callable[[str], str] = lambda path: ""
    lowers: tuple[str, ...] = ()
    own: frozenset[str] = frozenset()

    def select(self, pattern: str, *, exclude: Matches | None = None) -> tuple[Source, ...]:
        """The sources that a path or glob names, sorted; none if a glob matches nothing.

        Args:
            exclude: of paths below each source.

        Raises:
            SourceMissingError: a path without wildcards is not there.
        """
        if not has_wildcards(pattern):
            return (self._source(re.sub(r"\\(.)", r"\1", pattern), exclude),)
        return tuple(self._source(path, exclude) for path in self._glob(pattern))

    def select_path(self, path: str) -> Source:
        """What is at *path*, which is no glob.

        Raises:
            SourceMissingError: nothing is.
        """
        return self._source(path, None)

    def select_with_parents(
        self, pattern: str, included: Matches, *, exclude: Matches | None
    ) -> Source:
        """Everything below *pattern*'s pivot that is *included*, as one folder."""
        return self._folder(pattern, exclude, included)

    def has(self, path: str) -> bool:
        """Whether something is there that is not ignored; links that go round in circles lead to nothing."""
        try:
            return self._status(resolve_inside(self.root, path)) is not None
        except CopyError:
            return False

    def require(self, path: str) -> None:
        """Make sure that there is something at *path*, be it a link that leads nowhere.

        Raises:
            SourceMissingError: nothing is.
        """
        clean = "/".join(part for part in path.split("/") if part not in ("", "."))
        if clean and not self._status_below(clean):
            raise SourceMissingError(path.lstrip("/"))

    def link_at(self, path: str) -> str | None:
        """Where the symbolic link at *path* leads; `None` if there is none, or it is ignored."""
        folder, _, name = path.rpartition("/")
        inside = resolve_inside(self.root, folder)
        where = f"{inside}/{name}" if inside else name
        status = self._status(where) if name else None
        if status is None or not stat.S_ISLNK(status.st_mode):
            return None
        return os.readlink(where, dir_fd=self.root)

    def neighbours(self, path: str) -> list[str]:
        """Paths of what lies in the same folder as *path*, for a suggestion."""
        folder, slash, _ = path.rstrip("/").rpartition("/")
        return [f"{folder}{slash}{name}" for name in self._names(folder)]

    def digest(self, sources: Sequence[Source]) -> str:
        """Of names, kinds, modes, contents (and owners) of all that *sources* have; times do not count."""
        summary = hashlib.sha256()
        for source in sources:
            summary.update(
                f"source {source.name}\0{source.is_directory}\n".encode("utf-8", "surrogateescape")
            )
            for entry in source.entries:
                summary.update(self._describe(entry))
        return summary.hexdigest()

    def _source(self, path: str, exclude: Matches | None) -> Source:
        resolved = resolve_inside(self.root, path)
        status = self._status(resolved)
        if status is None:
            raise SourceMissingError(path)
        if stat.S_ISDIR(status.st_mode):
            return self._folder(path, exclude, None)
        return Source(name_of(path), False, _OneFile(self.root, resolved, status))

    def _folder(self, path: str, exclude: Matches | None, included: Matches | None) -> Source:
        resolved = resolve_inside(self.root, path)
        status = self._status(resolved)
        if status is None or not stat.S_ISDIR(status.st_mode):
            raise SourceMissingError(path, "is not there" if status is None else "is no folder")
        return Source(
            name_of(path), True, _Folder(self, self.alone(resolved) or resolved, exclude, included)
        )

    def alone(self, path: str) -> str | None:
        """Where one layer alone has the folder *path*, to be read there; `None`: it is to be read through the view."""
        shown = find(self.lowers, path) if self.own and path else None
        if shown is None or len(shown.merged) != 1:
            return None
        return shown.path if shown.path.removesuffix(f"/{path}") in self.own else None

    def _status(self, path: str) -> os.stat_result | None:
        if path and self.ignored is not None and self.ignored(path) and not self._holds_some(path):
            return None
        try:
            return os.stat(path or ".", dir_fd=self.root, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _holds_some(self, path: str) -> bool:
        """Whether an ignored folder holds something that is taken in again."""
        if not self.may_return:
            return False
        try:
            folder = os.open(path, FOLDER_FLAGS, dir_fd=self.root)
        except OSError:
            return False
        os.close(folder)
        return any(entry.path for entry in _Folder(self, path, None, None))

    def _glob(self, pattern: str) -> list[str]:
        found = [""]
        parts = [part for part in pattern.split("/") if part not in ("", ".")]
        for part in parts:
            if not has_wildcards(part):
                plain = re.sub(r"\\(.)", r"\1", part)
                found = [f"{path}/{plain}" if path else plain for path in found]
                found = [path for path in found if self.has(path)]
                continue
            matcher = glob_matcher(part)
            found = [
                f"{path}/{name}" if path else name
                for path in found
                for name in self._names(path)
                if matcher(name)
            ]
            found = [path for path in found if self._status_below(path)]
        return sorted(found)

    def _status_below(self, path: str) -> bool:
        folder, _, name = path.rpartition("/")
        inside = resolve_inside(self.root, folder)
        return self._status(f"{inside}/{name}" if inside else name) is not None

    def _names(self, path: str) -> list[str]:
        try:
            folder = os.open(resolve_inside(self.root, path) or ".", FOLDER_FLAGS, dir_fd=self.root)
        except (OSError, CopyError):
            return []
        try:
            return os.listdir(folder)
        finally:
            os.close(folder)

    def _describe(self, entry: Entry) -> bytes:
        status = entry.status
        mode = status.st_mode
        parts = [entry.path, f"{mode:o}"]
        if self.owners:
            parts.append(f"{status.st_uid}:{status.st_gid}")
        if stat.S_ISREG(mode):
            parts.append(self._content(entry))
        elif stat.S_ISLNK(mode):
            parts.append(os.readlink(entry.name, dir_fd=entry.folder))
        elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            parts.append(f"{status.st_rdev:x}")
        return "\0".join(parts).encode("utf-8", "surrogateescape") + b"\n"

    def _content(self, entry: Entry) -> str:
        if self.digests is not None and (known := self.digests.find(entry.status)):
            return known
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(entry.name, flags, dir_fd=entry.folder)
        try:
            content = _hash(descriptor, entry.status.st_size)
            if self.owners:
                for name in sorted(filter(is_image_xattr, os.listxattr(descriptor))):
                    content += f"\0{name}={os.getxattr(descriptor, name).hex()}"
        finally:
            os.close(descriptor)
        if self.digests is not None:
            self.digests.put(entry.status, content)
        return content


def _hash(descriptor: int, size: int) -> str:
    """The SHA-256 of an open regular file of about *size* bytes."""
    summary = hashlib.sha256()
    piece = min(size, _PIECE) + 1
    while True:
        data = os.read(descriptor, piece)
        summary.update(data)
        if len(data) < piece:  # its end
            return summary.hexdigest()


class _OneFile(Struct, frozen=True, eq=False):
    """The entries of a source that is no folder."""

    root: int
    path: str
    status: os.stat_result

    def __iter__(self) -> Iterator[Entry]:
        yield Entry("", self.root, self.path, self.status)


class _Folder(Struct, frozen=True, eq=False):
    """The entries of a folder, parents first, sorted in each; walked anew at each use."""

    tree: SourceTree
    path: str
    exclude: Matches | None
    included: Matches | None

    def __iter__(self) -> Iterator[Entry]:
        top = os.open(
            self.path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.tree.root
        )
        try:
            yield Entry("", top, ".", os.fstat(top))
            yield from self._below(top, "", merged=not self.path.startswith("/"))
        finally:
            os.close(top)

    def _below(self, folder: int, path: str, *, merged: bool) -> Iterator[Entry]:
        """What is in a folder; *merged*: it is read through the view, and what is in it may be in one layer alone."""
        with os.scandir(folder) as listing:
            names = sorted(listing, key=lambda entry: entry.name)
        for item in names:
            inner = f"{path}/{item.name}" if path else item.name
            status = item.stat(follow_symlinks=False)
            if is_whiteout(status):
                continue  # a layer's own, seen outside of the view
            entry = Entry(inner, folder, item.name, status)
            taken = self._is_taken(inner)
            if not stat.S_ISDIR(status.st_mode):
                if taken:
                    yield entry
                continue
            if not taken and not self._may_hold_some():
                continue
            yield from self._folder_entries(entry, taken, merged=merged)

    def _folder_entries(self, entry: Entry, taken: bool, *, merged: bool) -> Iterator[Entry]:
        """A folder that is not taken itself comes before the first thing in it that is."""
        layer = self.tree.alone(self._whole(entry.path)) if merged else None
        inner = os.open(layer or entry.name, FOLDER_FLAGS, dir_fd=entry.folder)
        merged = merged and layer is None
        try:
            if taken:
                yield entry
            for below in self._below(inner, entry.path, merged=merged):
                if not taken:
                    yield entry
                    taken = True
                yield below
        finally:
            os.close(inner)

    def _is_taken(self, path: str) -> bool:
        ignored = self.tree.ignored
        if ignored is not None and ignored(self._whole(path)):
            return False
        if self.exclude is not None and self.exclude(path):
            return False
        return self.included is None or self.included(path)

    def _whole(self, path: str) -> str:
        return f"{self.path}/{path}" if self.path else path

    def _may_hold_some(self) -> bool:
        return self.tree.may_return or self.included is not None or self.exclude is not None
