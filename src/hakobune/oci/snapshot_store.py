"""The snapshots of a store: layers as directories, unpacked once, held while they are mounted."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hakobune.oci.blob_store import BlobStore
from hakobune.oci.blobs import room_for
from hakobune.oci.commit_point import CommitPoint
from hakobune.oci.descriptor import Descriptor
from hakobune.oci.digest import Digest
from hakobune.oci.manifest import Image
from hakobune.oci.merged import find
from hakobune.oci.snapshot import (
    TREE,
    Hold,
    Snapshot,
    SnapshotRecord,
    chain_ids,
    chain_key,
    diff_key,
    random_key,
    stacked_dirs,
)
from hakobune.oci.store_parts import snapshot_mark
from hakobune.support.locks import exclusive, shared

if TYPE_CHECKING:
    from hakobune.oci.receive import Arrived
    from hakobune.oci.unpack import Unpacked


class SnapshotStore(BlobStore):
    """Layers as directories, by diff_id, by chain or by a key of their own."""

    def snapshots(
        self, image: Image, *, arrived: Mapping[Digest, Arrived] = {}
    ) -> tuple[Snapshot, ...]:
        """The image's layers as directories, base first; what is missing is unpacked.

        Processes that need the same layer at once unpack it once.

        Args:
            arrived: layers that were unpacked while they came, by diff_id.

        Raises:
            BlobUnknownError: a layer's blob is not here.
            UnpackError: a layer is not what its manifest says, or does what a layer must not.
            StoreFullError: the disk is full; nothing is left behind.
        """
        return self.layer_snapshots(image.manifest.layers, image.diff_ids, arrived=arrived)

    def layer_snapshots(
        self,
        blobs: Sequence[Descriptor],
        diff_ids: Sequence[Digest],
        *,
        arrived: Mapping[Digest, Arrived] = {},
    ) -> tuple[Snapshot, ...]:
        """The same for layers that no image has yet; base first."""
        chains = tuple(chain_ids(diff_ids))
        with self._publishing() as lease:
            known = [self._find_layer(*ids) for ids in zip(diff_ids, chains, strict=True)]
            lease.add(*(snapshot.key for snapshot in known if snapshot))
        found: list[Snapshot] = []
        for snapshot, blob, diff_id, chain_id in zip(known, blobs, diff_ids, chains, strict=True):
            found.append(
                snapshot
                or self._unpack(blob, diff_id, chain_id, tuple(found), arrived.get(diff_id))
            )
        return tuple(found)

    def use_layer(self, blob: Descriptor, diff_id: Digest) -> bool:
        """Whether the layer's blob is here; if so, it stays until `close`, and its snapshot if there is one."""
        with self._publishing() as lease:
            if not self._parts.blobs.has(blob.digest):
                return False
            lease.add(str(blob.digest), str(diff_id))
            return True

    def find_layer(self, diff_id: Digest, chain_id: Digest) -> Snapshot | None:
        """The layer if it is unpacked already; it stays until `close` then."""
        with self._publishing() as lease:
            snapshot = self._find_layer(diff_id, chain_id)
            if snapshot is not None:
                lease.add(snapshot.key)
        return snapshot

    def open_snapshot(self, key: str) -> Snapshot | None:
        """The snapshot of that key, with what it lies on; `None` if it is not here or cannot be trusted."""
        with self._publishing() as lease:
            snapshot = self._parts.snapshots.open(key)
            if snapshot is not None:
                lease.add(key)
        return snapshot

    def hold_image(self, image: Image) -> tuple[tuple[Snapshot, ...], Hold]:
        """The image's snapshots together with the locks that keep them; the caller closes the hold."""
        snapshots = self.snapshots(image)
        return snapshots, self.hold(snapshots)

    def hold(self, snapshots: Iterable[Snapshot]) -> Hold:
        """Shared flocks on every directory of *snapshots*, to be kept for the life of a mount.

        Raises:
            SnapshotGoneError: the collector was faster.
        """
        with shared(self._parts.lock):
            return self._parts.snapshots.take_locks(snapshots)

    def begin_snapshot(self) -> Path:
        """A fresh folder with an empty directory `tree` in it, for `finish_snapshot`.

        It belongs to this process; if the process ends before that, the collector removes it.
        """
        with self._publishing() as lease, room_for("a snapshot", self.home):
            begun = self._parts.snapshots.begin(lease.name)
        self._reached(CommitPoint.SNAPSHOT_STARTED)
        return begun

    def finish_snapshot(
        self,
        begun: Path,
        *,
        diff_id: Digest | None = None,
        key: str | None = None,
        below: Sequence[Snapshot] = (),
        entries: int = 0,
        size_bytes: int = 0,
    ) -> Snapshot:
        """Publish a folder of `begin_snapshot`; its tree must be sealed, and nobody may write to it any more.

        Args:
            diff_id: of the tar that *tree* over *below* is; gives the key unless *key* does.
            key: by default the diff_id's, or a random one.
            below: the snapshots under it, uppermost first, each one directory.
        """
        self._reached(CommitPoint.SNAPSHOT_FILLED)
        key = key or (diff_key(diff_id) if diff_id else random_key())
        record = SnapshotRecord(
            boot_id=self._parts.snapshots.boot,
            diff_id=str(diff_id or ""),
            below=tuple(level.key for level in below),
            entries=entries,
            size_bytes=size_bytes,
        )
        with room_for("a snapshot", self.home):
            self._parts.snapshots.write_record(begun, record)
            self._reached(CommitPoint.SNAPSHOT_WRITTEN)
            with self._publishing() as lease:
                lease.add(key)
                self._parts.unsynced.mark(snapshot_mark(key))
                snapshot = self._parts.snapshots.publish(begun, key)
        self._reached(CommitPoint.SNAPSHOT_PUBLISHED)
        return snapshot

    def discard_snapshot(self, begun: Path) -> None:
        """Give up a folder of `begin_snapshot`; what is in it stays on the disk until `empty_trash`, or a collection."""
        if begun.exists():
            self._parts.snapshots.discard(begun)

    def empty_trash(self) -> None:
        """Unlink what was discarded and nobody holds, for who has failed.

        Not before an unpack: ext4 is slow at creating files after many deletions.
        """
        self._parts.snapshots.empty_trash(lambda: self._reached(CommitPoint.GARBAGE_REMOVED))

    def discard_abandoned(self) -> None:
        """Unlink what killed processes had unpacked, if there is any. As `empty_trash`, not before an unpack."""
        if self._parts.snapshots.begun():
            from hakobune.oci.collect import discard_abandoned

            discard_abandoned(self._parts, self._reached)

    def adopt(
        self, tree: Path, diff_id: Digest, *, entries: int = 0, size_bytes: int = 0
    ) -> Snapshot:
        """Rename a finished, sealed directory in as the layer of that diff_id.

        *tree* is a whole root (`tree/layers/…`) on the store's file system, and the layer's tar names every parent
        directory. If the layer is here already, *tree* goes to the trash.
        """
        begun = self.begin_snapshot()
        try:
            (begun / TREE).rmdir()
            os.rename(tree, begun / TREE)
            return self.finish_snapshot(
                begun, diff_id=diff_id, entries=entries, size_bytes=size_bytes
            )
        finally:
            self.discard_snapshot(begun)

    def _find_layer(self, diff_id: Digest, chain_id: Digest) -> Snapshot | None:
        return self._parts.snapshots.open(diff_key(diff_id)) or self._parts.snapshots.open(
            chain_key(chain_id)
        )

    def _unpack(
        self,
        blob: Descriptor,
        diff_id: Digest,
        chain_id: Digest,
        below: Sequence[Snapshot],
        arrived: Arrived | None,
    ) -> Snapshot:
        """Unpack a layer once, whoever asks.

        Args:
            below: the snapshots of the layers under it, base first.
        """
        path = self.blob_path(blob.digest)
        with exclusive(self._parts.private / "unpacking" / diff_id.hex[:2]):
            if snapshot := self.find_layer(diff_id, chain_id):
                return snapshot
            begun = arrived.folder if arrived else self.begin_snapshot()
            try:
                with room_for(f"the layer {diff_id} of an image", self.home):
                    unpacked = (
                        arrived.unpacked
                        if arrived
                        else _unpack_checked(path, begun / TREE, diff_id)
                    )
                    _take_parents_from_below(begun / TREE, unpacked.implied_parents, below)
                return self.finish_snapshot(
                    begun,
                    diff_id=diff_id,
                    key=None if unpacked.complete_parents else chain_key(chain_id),
                    entries=unpacked.entries,
                    size_bytes=unpacked.size_bytes,
                )
            finally:
                self.discard_snapshot(begun)


def _unpack_checked(blob: Path, into: Path, diff_id: Digest) -> Unpacked:
    from hakobune.oci.receive import check_diff_id
    from hakobune.oci.unpack import unpack_layer

    unpacked = unpack_layer(blob, into, privileged=os.geteuid() == 0)
    check_diff_id(unpacked, diff_id)
    return unpacked


def _take_parents_from_below(
    tree: Path, implied_parents: Iterable[str], below: Sequence[Snapshot]
) -> None:
    """Let directories that a layer uses without naming them be as they are in the layers under it.

    Otherwise a layer holding `tmp/x` turns the base's /tmp from 1777 into 0755.
    """
    trees = stacked_dirs(below)
    for path in reversed(tuple(implied_parents)):
        shown = find(trees, path)
        if shown is not None and shown.is_directory:
            from hakobune.oci.merge import copy_directory_metadata

            copy_directory_metadata(shown, f"{tree}/{path}")
