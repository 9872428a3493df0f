"""The source copy: what belongs to a source folder, copied so that a build never sees a half-edited file.

Unchanged files are hard links to the last copy, changed ones are dated now (facts: overlay.md, Rule 7), so
that make, cargo, maven and tsc neither rebuild too much nor too little.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from hakobune.builds.source import Source, SourceError
from hakobune.builds.source_file_copy import CopyWork
from hakobune.builds.source_listing import Listing, list_source
from hakobune.builds.source_manifest import (
    Entry,
    SourceManifest,
    digest_of,
    is_same,
    read_manifest,
    signature_of,
    write_manifest,
)
from hakobune.oci.digest import Digest

_WALKS: Final = 5


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
    kept = read_manifest(last) if last is not None else None
    for attempt in range(_WALKS):
        listing = list_source(source)
        _refuse_nothing(source, listing)
        work = CopyWork(source.root, into, last, kept, uid, gid, pause)
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
    manifest = SourceManifest(uid=uid, gid=gid, copied_ns=work.begun_ns, entries=entries)
    write_manifest(into, manifest)
    return copy


def _refuse_nothing(source: Source, listing: Listing) -> None:
    if not listing.files:
        raise SourceError(
            f"nothing to build in {source.root}",
            why=_why_empty(source, listing),
            fix="change those rules" if listing.left_out else "name a folder that holds an app",
        )


def _signatures(listing: Listing) -> list[tuple[str, tuple[int, ...]]]:
    return [(path, signature_of(s)) for path, s in listing.entries if not stat.S_ISDIR(s.st_mode)]


def unchanged_digest(source: Source, last: Path, *, uid: int, gid: int) -> Digest | None:
    """The digest of the last copy if, by stat alone, the source is certainly the same; else `None`."""
    kept = read_manifest(last)
    if kept is None or (kept.uid, kept.gid) != (uid, gid):
        return None
    listing = list_source(source)
    seen = {entry.path: entry for entry in kept.entries if entry.path}
    if len(seen) != len(listing.entries):
        return None
    for path, status in listing.entries:
        entry = seen.get(path)
        if entry is None or not is_same(entry, status, kept.copied_ns):
            return None
    return digest_of(kept.entries)


def _with_root(root: Path, listing: Listing) -> Iterator[tuple[str, os.stat_result]]:
    yield "", os.stat(root)
    yield from listing.entries


def _why_empty(source: Source, listing: Listing) -> str:
    if listing.left_out:
        some = ", ".join(listing.left_out[:3]) + (" …" if len(listing.left_out) > 3 else "")
        return f"{source.rules.origin} leaves everything out: {some}"
    return "the folder is empty"
