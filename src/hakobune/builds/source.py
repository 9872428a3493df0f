"""The source copy: what belongs to a source folder, copied so that a build never sees a half-edited file.

Unchanged files are hard links to the last copy, changed ones are dated now (facts: overlay.md, Rule 7), so
that make, cargo, maven and tsc neither rebuild too much nor too little. Nothing in the source folder is
written to, and no link is followed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from hakobune.buildpack.project import Project, parse_project
from hakobune.builds.ignore import Rules
from hakobune.errors import HakoError
from hakobune.oci.digest import Digest

WORKSPACE: Final = "workspace"
PROJECT_DESCRIPTOR: Final = "project.toml"
_MANIFEST: Final = "manifest"
_TRIES: Final = 20
_WALKS: Final = 5
_BLOCK: Final = 1 << 20
# A file written in the same tick as it was copied could change again without a newer time.
_CLOCK_TICK_NS: Final = 20_000_000


class SourceError(HakoError):
    """The source folder cannot be taken."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One thing of the source as it was copied.

    `signature` is what stat said of the original: as long as it says the same, the contents are the same.
    """

    path: str
    kind: str  # "d", "f", "x" (a file that can be executed), "l"
    content: str  # a file's sha256 in hex, a link's target
    size: int
    signature: tuple[int, int, int, int, int]


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A source folder, and what of it is to be taken."""

    root: Path
    project: Project
    rules: Rules


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What would be copied, in the order of the walk, and what is passed by."""

    entries: tuple[tuple[str, os.stat_result], ...]
    left_out: tuple[str, ...]  # a folder stands for all that is in it, with a slash at its end
    notes: tuple[str, ...]


class SourceCopy(msgspec.Struct, frozen=True, kw_only=True):
    """A finished copy.

    Args:
        tree: holds the folder `workspace`; a lower of a build.
        digest: of names, kinds and contents.
        changed: paths that differ from the last copy; all of them if there is none.
    """

    folder: Path
    entries: tuple[Entry, ...]
    digest: Digest
    changed: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def tree(self) -> Path:
        return self.folder / "tree"

    @property
    def files(self) -> int:
        return sum(entry.kind in "fx" for entry in self.entries)

    @property
    def size_bytes(self) -> int:
        return sum(entry.size for entry in self.entries)


def open_source(path: Path, descriptor: Path | None = None) -> Source:
    """Look at a source folder.

    Args:
        descriptor: another project descriptor than the folder's own `project.toml`.

    Raises:
        SourceError: there is no such folder, or it cannot be read.
        DocumentError, HakoError: the project descriptor is wrong.
    """
    root = Path(os.path.abspath(path))
    try:
        status = os.stat(root)
    except OSError as error:
        raise SourceError(
            f"cannot build {root}",
            why="there is no such folder" if error.errno == errno.ENOENT else _reason(error),
            fix="check the path",
        ) from error
    if not stat.S_ISDIR(status.st_mode):
        raise SourceError(
            f"cannot build {root}", why="it is not a folder", fix="name the folder that holds it"
        )
    project = _read_project(descriptor or root / PROJECT_DESCRIPTOR, must_exist=bool(descriptor))
    return Source(root=root, project=project, rules=Rules.of(root, project))


def list_source(source: Source) -> Listing:
    """Walk the source folder; reads no file but ignore files.

    Raises:
        SourceError: a folder cannot be read.
    """
    walk = _Walk(source)
    entries = tuple(walk.folder(source.root, ""))
    return Listing(entries=entries, left_out=tuple(walk.left_out), notes=tuple(walk.notes))


def copy_source(
    source: Source,
    into: Path,
    *,
    last: Path | None,
    uid: int,
    gid: int,
    pause: Callable[[float], None] = time.sleep,
) -> SourceCopy:
    """Copy the source into the fresh folder *into*; files that are being written are waited for.

    Args:
        last: the folder of the last finished copy for the same user; unchanged files are linked from there.
        uid, gid: who owns the copy.

    Raises:
        SourceError: the folder holds nothing, a file cannot be read, or it does not stop changing.
    """
    kept = _read_manifest(last) if last is not None else None
    for attempt in range(_WALKS):
        listing = list_source(source)
        _refuse_nothing(source, listing)
        work = _Copy(source.root, into, last, kept, uid, gid, pause)
        try:
            entries = tuple(
                work.copy(path, status) for path, status in _with_root(source.root, listing)
            )
        except FileNotFoundError:
            entries = ()
        # What was renamed or made meanwhile belongs to it, too; a folder that never rests is taken as it is.
        if entries and (
            attempt + 1 == _WALKS or _signatures(list_source(source)) == _signatures(listing)
        ):
            break
        shutil.rmtree(into / "tree", ignore_errors=True)
        pause(0.02)
    else:
        raise SourceError(
            f"cannot copy {source.root}",
            why="files in it keep disappearing while they are copied",
            fix="build when nothing writes to it",
        )
    before = {entry.path: (entry.kind, entry.content) for entry in kept.entries} if kept else {}
    now = {entry.path: (entry.kind, entry.content) for entry in entries}
    changed = tuple(sorted(p for p in {*before, *now} if before.get(p) != now.get(p)))
    copy = SourceCopy(
        folder=into,
        entries=entries,
        digest=digest_of(entries),
        changed=changed,
        left_out=listing.left_out,
        notes=listing.notes,
    )
    manifest = _Manifest(uid=uid, gid=gid, copied_ns=work.begun_ns, entries=entries)
    (into / _MANIFEST).write_bytes(msgspec.msgpack.encode(manifest))
    return copy


def _refuse_nothing(source: Source, listing: Listing) -> None:
    if not any(stat.S_ISREG(status.st_mode) for _, status in listing.entries):
        raise SourceError(
            f"nothing to build in {source.root}",
            why=_why_empty(source, listing),
            fix="change those rules" if listing.left_out else "name a folder that holds an app",
        )


def _signatures(listing: Listing) -> list[tuple[str, tuple[int, ...]]]:
    return [(path, signature_of(s)) for path, s in listing.entries if not stat.S_ISDIR(s.st_mode)]


def unchanged_digest(source: Source, last: Path, *, uid: int, gid: int) -> Digest | None:
    """The digest of the last copy if, by stat alone, the source is certainly the same; else `None`."""
    kept = _read_manifest(last)
    if kept is None or (kept.uid, kept.gid) != (uid, gid):
        return None
    listing = list_source(source)
    seen = {entry.path: entry for entry in kept.entries if entry.path}
    if len(seen) != len(listing.entries):
        return None
    for path, status in listing.entries:
        entry = seen.get(path)
        if entry is None or not _is_same(entry, status, kept.copied_ns):
            return None
    return digest_of(kept.entries)


def digest_of(entries: tuple[Entry, ...]) -> Digest:
    """One digest for names, kinds and contents."""
    return Digest.of(
        b"".join(
            f"{e.kind} {e.content} {e.path}\0".encode("utf-8", "surrogateescape") for e in entries
        )
    )


class _Manifest(msgspec.Struct, frozen=True, kw_only=True):
    uid: int
    gid: int
    copied_ns: int
    entries: tuple[Entry, ...]


class _Walk(msgspec.Struct):
    source: Source
    left_out: list[str] = msgspec.field(default_factory=list)
    notes: list[str] = msgspec.field(default_factory=list)

    def folder(self, path: Path, relative: str) -> Iterator[tuple[str, os.stat_result]]:
        rules = self.source.rules
        rules.enter(path, relative)
        try:
            with os.scandir(path) as found:
                entries = sorted(found, key=lambda entry: entry.name)
            for entry in entries:
                name = f"{relative}/{entry.name}" if relative else entry.name
                status = entry.stat(follow_symlinks=False)
                is_directory = stat.S_ISDIR(status.st_mode)
                if rules.leaves_out(name, is_directory=is_directory):
                    self.left_out.append(f"{name}/" if is_directory else name)
                elif is_directory:
                    inside = tuple(self.folder(path / entry.name, name))
                    if inside or not rules.takes_only_what_is_named:
                        yield name, status
                        yield from inside
                elif stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                    yield name, status
                else:
                    self.notes.append(f"{name} is {_special(status.st_mode)}: left out")
        except OSError as error:
            raise SourceError(
                f"cannot read {error.filename or path}",
                why=_reason(error),
                fix="make it readable, or leave it out (.gitignore, project.toml)",
            ) from error


class _Copy(msgspec.Struct):
    root: Path
    into: Path
    last: Path | None
    kept: _Manifest | None
    uid: int
    gid: int
    pause: Callable[[float], None]
    begun_ns: int = msgspec.field(default_factory=time.time_ns)
    _known: Mapping[str, Entry] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kept is not None and (self.kept.uid, self.kept.gid) == (self.uid, self.gid):
            self._known = {entry.path: entry for entry in self.kept.entries}

    def copy(self, path: str, status: os.stat_result) -> Entry:
        target = self.into / "tree" / WORKSPACE / path if path else self.into / "tree" / WORKSPACE
        if stat.S_ISDIR(status.st_mode):
            target.mkdir(mode=0o755, parents=not path)
            os.chmod(target, 0o755)
            os.chown(target, self.uid, self.gid)
            return Entry(path, "d", "", 0, signature_of(status))
        if stat.S_ISLNK(status.st_mode):
            return self._link(path, status, target)
        known = self._known.get(path)
        if (
            known is not None
            and self.kept is not None
            and _is_same(known, status, self.kept.copied_ns)
            and self._link_last(path, target)
        ):
            return known
        return self._file(path, target, known)

    def _link(self, path: str, status: os.stat_result, target: Path) -> Entry:
        try:
            text = os.readlink(self.root / path)
        except OSError as error:
            raise _unreadable(self.root / path, error) from error
        os.symlink(text, target)
        os.chown(target, self.uid, self.gid, follow_symlinks=False)
        return Entry(path, "l", text, 0, signature_of(status))

    def _file(self, path: str, target: Path, known: Entry | None) -> Entry:
        """Copy, and again while somebody writes to it; contents that are the last copy's become a link to it."""
        for attempt in range(_TRIES):
            if attempt:
                self.pause(0.01 * attempt)
            content, status = self._read_into(path, target)
            if content is None:
                continue
            kind = "x" if status.st_mode & stat.S_IXUSR else "f"
            entry = Entry(path, kind, content, status.st_size, signature_of(status))
            if known is not None and (known.kind, known.content) == (kind, content):
                os.unlink(target)
                if self._link_last(path, target):
                    return entry
                continue
            os.chmod(target, 0o755 if kind == "x" else 0o644)
            os.chown(target, self.uid, self.gid)
            return entry
        raise SourceError(
            f"cannot copy {self.root / path}",
            why="it changes while it is read",
            fix="build when nobody writes to it, or leave it out (.gitignore, project.toml)",
        )

    def _read_into(self, path: str, target: Path) -> tuple[str | None, os.stat_result]:
        """The contents' sha256, `None` if the file changed meanwhile."""
        try:
            source = os.open(
                self.root / path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            )
        except OSError as error:
            raise _unreadable(self.root / path, error) from error
        try:
            before = os.fstat(source)
            if not stat.S_ISREG(before.st_mode):
                raise SourceError(
                    f"cannot copy {self.root / path}",
                    why="it is no file any more",
                    fix="build again",
                )
            state = hashlib.sha256()
            with open(target, "wb") as copy:
                while block := os.read(source, _BLOCK):
                    state.update(block)
                    copy.write(block)
            after = os.fstat(source)
        finally:
            os.close(source)
        same = signature_of(before) == signature_of(after) and self._is_still(path, after)
        return (state.hexdigest() if same else None), after

    def _is_still(self, path: str, status: os.stat_result) -> bool:
        """Whether the name still means the file that was read (editors replace files by rename)."""
        try:
            return signature_of(os.lstat(self.root / path)) == signature_of(status)
        except OSError:
            return False

    def _link_last(self, path: str, target: Path) -> bool:
        if self.last is None:
            return False
        try:
            os.link(self.last / "tree" / WORKSPACE / path, target, follow_symlinks=False)
        except OSError:
            return False
        return True


def signature_of(status: os.stat_result) -> tuple[int, int, int, int, int]:
    """What changes when a file's contents or mode do: size, times, inode, mode."""
    return (
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
        status.st_mode,
    )


def _is_same(entry: Entry, status: os.stat_result, copied_ns: int) -> bool:
    if stat.S_ISDIR(status.st_mode):
        return entry.kind == "d"
    if signature_of(status) != entry.signature:
        return False
    # As git's racily clean entries: written so shortly before the copy that a later write may show no newer time.
    return status.st_mtime_ns < copied_ns - _CLOCK_TICK_NS or stat.S_ISLNK(status.st_mode)


def _with_root(root: Path, listing: Listing) -> Iterator[tuple[str, os.stat_result]]:
    yield "", os.stat(root)
    yield from listing.entries


def _read_manifest(folder: Path) -> _Manifest | None:
    try:
        return msgspec.msgpack.decode((folder / _MANIFEST).read_bytes(), type=_Manifest)
    except (OSError, msgspec.MsgspecError):
        return None


def _read_project(path: Path, *, must_exist: bool) -> Project:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        if not must_exist:
            return Project()
        raise SourceError(
            f"cannot read {path}", why="there is no such file", fix="check the path"
        ) from None
    except OSError as error:
        raise SourceError(f"cannot read {path}", why=_reason(error)) from error
    return parse_project(data, name=str(path))


def _why_empty(source: Source, listing: Listing) -> str:
    if listing.left_out:
        some = ", ".join(listing.left_out[:3]) + (" …" if len(listing.left_out) > 3 else "")
        return f"{source.rules.origin} leaves everything out: {some}"
    return "the folder is empty"


def _unreadable(path: Path, error: OSError) -> Exception:
    if isinstance(error, FileNotFoundError):
        return error
    return SourceError(
        f"cannot read {path}",
        why=_reason(error),
        fix="make it readable, or leave it out (.gitignore, project.toml)",
    )


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _special(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a pipe"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a device"
