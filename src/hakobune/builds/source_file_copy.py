"""Copying the entries of a source one by one: a file that is being written to is waited for, an unchanged one is a link to the last copy's."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from hakobune.builds.source import SourceError, unreadable
from hakobune.builds.source_manifest import Entry, SourceManifest, is_same, signature_of

WORKSPACE: Final = "workspace"
_TRIES: Final = 20
_BLOCK: Final = 1 << 20


class CopyWork(msgspec.Struct):
    """One pass over a source: each call copies one entry, parents first.

    Args:
        kept: what the last copy in *last* holds.
        pause: waits for whoever writes to a file, that many seconds.
    """

    root: Path
    into: Path
    last: Path | None
    kept: SourceManifest | None
    uid: int
    gid: int
    pause: Callable[[float], None]
    begun_ns: int = msgspec.field(default_factory=time.time_ns)
    _known: Mapping[str, Entry] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kept is not None and (self.kept.uid, self.kept.gid) == (self.uid, self.gid):
            self._known = {entry.path: entry for entry in self.kept.entries}

    def copy(self, path: str, status: os.stat_result) -> Entry:
        """Copy what lies at *path*, relative to the source; "" is the source itself.

        Raises:
            FileNotFoundError: it is gone.
            SourceError: it cannot be read, or does not stop changing.
        """
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
            and is_same(known, status, self.kept.copied_ns)
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


def _unreadable(path: Path, error: OSError) -> Exception:
    """What is gone is the walk's to notice."""
    return error if isinstance(error, FileNotFoundError) else unreadable(path, error)
