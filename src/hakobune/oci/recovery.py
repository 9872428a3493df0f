"""Bringing the store to the disk, checking it after a power loss, and verifying it at any time."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from hakobune.oci.descriptor import Descriptor, encode_document
from hakobune.oci.digest import Digest
from hakobune.oci.names import EMPTY
from hakobune.oci.store_parts import StoreParts, parse_mark
from hakobune.support.files import write_atomically
from hakobune.support.locks import exclusive, shared


class Problem(msgspec.Struct, frozen=True):
    """Something that `find_problems` found: the thing, and what is wrong with it."""

    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.what}: {self.why}"


def sync(parts: StoreParts) -> None:
    """Bring all to the disk, and let it be trusted after this boot."""
    _keep_copy_of_names(parts)
    marks = parts.unsynced.sync()
    # The lock: a record must not be written where the collector has just moved a snapshot away.
    with shared(parts.lock):
        for found in map(parse_mark, marks):
            if isinstance(found, str):
                parts.snapshots.mark_synced(found)
    parts.unsynced.clear(marks)


def recover(parts: StoreParts) -> None:
    """Check what an older boot wrote and did not sync; drop what is damaged, and names of incomplete images."""
    with exclusive(parts.lock), exclusive(parts.names_lock):
        boots = parts.unsynced.older_boots()
        if not parts.names.is_readable():
            _restore_names(parts)
        for mark in (mark for boot in boots for mark in parts.unsynced.of_boot(boot)):
            _recheck(parts, mark)
        parts.names.change(lambda names: _drop_incomplete(parts, names))
        for boot in boots:
            parts.unsynced.forget_boot(boot)


def find_problems(parts: StoreParts) -> tuple[Problem, ...]:
    """Read everything again; gives what is not as it should be."""
    damaged = [
        Problem(f"blob {digest}", "its bytes are not what its name says")
        for digest in parts.blobs.list()
        if not parts.blobs.is_intact(digest)
    ]
    incomplete = [
        Problem(f"image {name or digest}", why)
        for name, digest in parts.names.entries()
        if (why := parts.why_incomplete(digest))
    ]
    unusable = [
        Problem(f"snapshot {key}", "it, or one that it lies on, cannot be used")
        for key in parts.snapshots.list_keys()
        if parts.snapshots.open(key) is None
    ]
    return (*damaged, *incomplete, *unusable)


def _recheck(parts: StoreParts, mark: str) -> None:
    match parse_mark(mark):
        case Digest() as digest:
            if parts.blobs.is_intact(digest):
                parts.unsynced.mark(mark)
            else:
                parts.blobs.path(digest).unlink(missing_ok=True)
        case key:
            if parts.snapshots.open(key) is None:
                parts.snapshots.discard(parts.snapshots.folder / key)


def _drop_incomplete(parts: StoreParts, names: dict[str, Descriptor]) -> None:
    for name, entry in tuple(names.items()):
        if parts.why_incomplete(entry.digest):
            del names[name]


def _synced_names(parts: StoreParts) -> Path:
    return parts.private / "index.synced.json"


def _keep_copy_of_names(parts: StoreParts) -> None:
    """Let `index.json` as it is now be found again if a power loss tears its successor."""
    temporary = parts.private / f"names.{os.urandom(4).hex()}"
    try:
        os.link(parts.layout / "index.json", temporary)
        os.rename(temporary, _synced_names(parts))
    except FileNotFoundError:
        pass
    finally:
        # rename(2) of two links to one file does nothing at all
        temporary.unlink(missing_ok=True)


def _restore_names(parts: StoreParts) -> None:
    copy = _synced_names(parts)
    index = copy.read_bytes() if copy.exists() else encode_document(EMPTY)
    write_atomically(parts.layout / "index.json", index, durable=True)
