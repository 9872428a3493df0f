"""What may go: marking from roots, names and leases (pure), as a value the store carries out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hakobune.errors import HakoError
from hakobune.oci.config import decode_config
from hakobune.oci.descriptor import Descriptor
from hakobune.oci.digest import Digest, DigestError
from hakobune.oci.manifest import DOCUMENT_LIMIT, Manifest, decode_index, decode_manifest
from hakobune.oci.snapshot import chain_ids, chain_key, diff_key


@dataclass(frozen=True, slots=True)
class Marked:
    """What is reachable: blobs, and keys of snapshots (that may or may not exist)."""

    blobs: frozenset[Digest]
    snapshots: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
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
