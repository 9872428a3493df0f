"""What may go: marking from roots, names and leases (pure), then moving and unlinking what is not marked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping

import msgspec

from hakobune.errors import HakoError
from hakobune.oci.commit_point import CommitPoint, Reached
from hakobune.oci.config import decode_config
from hakobune.oci.descriptor import Descriptor
from hakobune.oci.digest import Digest, DigestError
from hakobune.oci.lease import is_of, read_leases
from hakobune.oci.manifest import DOCUMENT_LIMIT, Manifest, decode_index, decode_manifest
from hakobune.oci.partial_blob import discard_idle
from hakobune.oci.snapshot import chain_ids, chain_key, diff_key
from hakobune.oci.store_parts import StoreParts
from hakobune.support.locks import exclusive


class Marked(msgspec.Struct, frozen=True):
    """What is reachable: blobs, and keys of snapshots (that may or may not exist)."""

    blobs: frozenset[Digest]
    snapshots: frozenset[str]


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """What a collection did."""

    blobs: tuple[Digest, ...]
    snapshots: tuple[str, ...]
    size_bytes: int
    # Unreachable snapshots that stay because a mount uses them.
    held: int


def mark(
    tokens: Iterable[str],
    *,
    read: Callable[[Digest, int], bytes | None],
    below: Callable[[str], tuple[str, ...]],
) -> Marked:
    """Follow digests and snapshot keys to everything they need.

    Args:
        tokens: digests of manifests, indexes, blobs or layers (diff_ids), and keys of snapshots.
        read: a blob's bytes if it is there and not longer than the limit, else `None`.
        below: the keys of the snapshots that a snapshot lies on.
    """
    blobs: set[Digest] = set()
    keys: set[str] = set()
    for token in tokens:
        try:
            digest = Digest.parse(token)
        except DigestError:
            keys.add(token)
        else:
            _mark_digest(digest, blobs, keys, read)
    for key in tuple(keys):
        keys.update(below(key))
    return Marked(frozenset(blobs), frozenset(keys))


def _mark_digest(
    digest: Digest,
    blobs: set[Digest],
    keys: set[str],
    read: Callable[[Digest, int], bytes | None],
) -> None:
    keys.add(diff_key(digest))
    if digest in blobs:
        return
    blobs.add(digest)
    raw = read(digest, DOCUMENT_LIMIT)
    if raw is None or not raw.startswith(b"{"):
        return
    document = _document(raw)
    if isinstance(document, Manifest):
        blobs.update(layer.digest for layer in document.layers)
        blobs.add(document.config.digest)
        keys.update(_snapshot_keys(read(document.config.digest, DOCUMENT_LIMIT)))
    else:
        for entry in document:
            _mark_digest(entry.digest, blobs, keys, read)


def _document(raw: bytes) -> Manifest | tuple[Descriptor, ...]:
    try:
        return decode_manifest(raw)
    except HakoError:
        pass
    try:
        return decode_index(raw).manifests
    except HakoError:
        return ()  # a config, or another blob that happens to be JSON


def _snapshot_keys(raw_config: bytes | None) -> Iterable[str]:
    if raw_config is None:
        return
    try:
        diff_ids = decode_config(raw_config).rootfs.diff_ids
    except HakoError:
        return
    for diff_id, chain_id in zip(diff_ids, chain_ids(diff_ids), strict=True):
        yield diff_key(diff_id)
        yield chain_key(chain_id)


def collect(parts: StoreParts, reached: Reached) -> Collected:
    """Move what nothing needs to the trash, then unlink what of it nobody holds."""
    with exclusive(parts.lock):
        leases = read_leases(parts.leases)  # before names and roots: an owner may let go meanwhile
        marked = _mark_store(parts, leases)
        reached(CommitPoint.GARBAGE_MARKED)
        blobs, size = _discard_blobs(parts, marked, reached)
        keys, held = _discard_snapshots(parts, marked, reached)
        _discard_temporaries(parts, leases)
    for path in parts.trash.glob("*"):
        path.unlink(missing_ok=True)
        reached(CommitPoint.GARBAGE_REMOVED)
    held += parts.snapshots.empty_trash(lambda: reached(CommitPoint.GARBAGE_REMOVED))
    return Collected(blobs=blobs, snapshots=keys, size_bytes=size, held=held)


def discard_abandoned(parts: StoreParts, reached: Reached) -> None:
    """Unlink the trees that processes had begun to fill when they were killed, and what is in the trash already."""
    with exclusive(parts.lock):
        _discard_begun(parts, read_leases(parts.leases))
    parts.snapshots.empty_trash(lambda: reached(CommitPoint.GARBAGE_REMOVED))


def _mark_store(parts: StoreParts, leases: Mapping[str, tuple[str, ...]]) -> Marked:
    def read(digest: Digest, limit: int) -> bytes | None:
        size = parts.blobs.size(digest)
        return None if size is None or size > limit else parts.blobs.path(digest).read_bytes()

    def below(key: str) -> tuple[str, ...]:
        record = parts.snapshots.read_record(key)
        return () if record is None else record.below

    tokens = [token for token, _ in parts.roots.tokens()]
    tokens += [str(digest) for _, digest in parts.names.entries()]
    tokens += [token for lines in leases.values() for token in lines]
    return mark(tokens, read=read, below=below)


def _discard_blobs(
    parts: StoreParts, marked: Marked, reached: Reached
) -> tuple[tuple[Digest, ...], int]:
    parts.trash.mkdir(parents=True, exist_ok=True)
    gone, size = [], 0
    for digest in parts.blobs.list():
        if digest not in marked.blobs:
            size += parts.blobs.size(digest) or 0
            os.rename(parts.blobs.path(digest), parts.trash / digest.hex)
            reached(CommitPoint.GARBAGE_MOVED)
            gone.append(digest)
    return tuple(gone), size


def _discard_snapshots(
    parts: StoreParts, marked: Marked, reached: Reached
) -> tuple[tuple[str, ...], int]:
    gone, held = [], 0
    for key in parts.snapshots.list_keys():
        if key in marked.snapshots:
            continue
        if parts.snapshots.is_held(key):
            held += 1
            continue
        parts.snapshots.discard(parts.snapshots.folder / key)
        reached(CommitPoint.GARBAGE_MOVED)
        gone.append(key)
    return tuple(gone), held


def _discard_temporaries(parts: StoreParts, leases: Mapping[str, object]) -> None:
    _discard_begun(parts, leases)
    for partial in parts.partial.glob("*"):
        if not is_of(partial.name, leases):
            partial.unlink(missing_ok=True)
    discard_idle(parts.arriving)
    for unfinished in parts.layout.glob(".index.json.*"):
        unfinished.unlink(missing_ok=True)


def _discard_begun(parts: StoreParts, leases: Mapping[str, object]) -> None:
    for begun in parts.snapshots.begun():
        if not is_of(begun.name, leases):
            parts.snapshots.discard(begun)
