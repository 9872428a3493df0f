"""A layer from afar in one pass: each byte is hashed, stored and unpacked as it arrives (image-spec layer.md).

The tree becomes a snapshot only after the blob's digest and the tar's (the diff_id) were found right.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from hakobune.oci.blobs import room_for
from hakobune.oci.byte_pipe import BytePipe
from hakobune.oci.descriptor import Descriptor
from hakobune.oci.digest import Digest, DigestError
from hakobune.oci.snapshot import TREE, Snapshot
from hakobune.oci.unpack import Unpacked, UnpackError, unpack_layer

if TYPE_CHECKING:
    from hakobune.oci.store import Store

_ON_THE_WAY: Final = 8 << 20
_TRIES: Final = 3

Fetch = Callable[[int, int], Iterator[bytes]]
"""Gives a blob from an offset on; the second argument counts the times that its bytes were wrong."""


class Arrived(msgspec.Struct, frozen=True):
    """An unpacked layer that is no snapshot yet, since it needs to know what lies below it."""

    folder: Path
    unpacked: Unpacked


def receive_blob(store: Store, blob: Descriptor, fetch: Fetch) -> None:
    """Bring a blob into the store, if it is not there, and keep it from the collector.

    Raises:
        DigestError: what came was something else, each time; nothing of it is stored.
        StoreFullError: the disk is full.
        and what *fetch* raises; what has come until then is kept for the next time.
    """
    with store.partial_blob(blob.digest) as partial:
        if store.keep_blob(blob.digest):
            return
        for wrong in range(_TRIES):
            for _ in partial.kept():
                pass
            for data in fetch(partial.size, wrong):
                partial.write(data)
            try:
                partial.commit(blob.media_type)
                return
            except DigestError:
                if wrong == _TRIES - 1:
                    raise


def receive_layer(
    store: Store, blob: Descriptor, diff_id: Digest, fetch: Fetch
) -> Snapshot | Arrived | None:
    """The same for a layer that is unpacked as it arrives; `None` if another process has brought the blob meanwhile.

    Raises:
        UnpackError: the layer is what its digest says and no layer that we take, or its tar is not the *diff_id*.
    """
    with store.partial_blob(blob.digest) as partial:
        if store.keep_blob(blob.digest):
            return None
        for wrong in range(_TRIES):
            with _Unpacking(store) as unpacking:
                for data in partial.kept():
                    unpacking.feed(data)
                for data in fetch(partial.size, wrong):
                    partial.write(data)
                    unpacking.feed(data)
                try:
                    partial.commit(blob.media_type)
                except DigestError:
                    if wrong == _TRIES - 1:
                        raise
                    continue
                arrived = unpacking.finish(diff_id)
                return publish_arrived(store, arrived, diff_id) or arrived
    raise AssertionError("unreachable")


def publish_arrived(store: Store, arrived: Arrived, diff_id: Digest) -> Snapshot | None:
    """Make it a snapshot if it depends on nothing below it.

    Raises:
        StoreFullError: the disk is full; it has been given up.
    """
    if not arrived.unpacked.complete_parents:
        return None
    try:
        return store.finish_snapshot(
            arrived.folder,
            diff_id=diff_id,
            entries=arrived.unpacked.entries,
            size_bytes=arrived.unpacked.size_bytes,
        )
    except BaseException:
        store.discard_snapshot(arrived.folder)
        raise


class _Unpacking:
    """A thread that unpacks what it is fed into a folder of `begin_snapshot`; the folder goes if nobody takes it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._folder = store.begin_snapshot()
        self._pipe = BytePipe(_ON_THE_WAY)
        self._taken = False
        self._unpacked: Unpacked | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="layer-unpack", daemon=True)

    def __enter__(self) -> _Unpacking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.end(UnpackError("the layer did not arrive"))
        self._thread.join()
        if not self._taken:
            self._store.discard_snapshot(self._folder)

    def feed(self, data: bytes) -> None:
        """Unpack *data*; if that is impossible, `finish` says so (the bytes may be wrong: their digest decides first)."""
        self._pipe.write(data)

    def finish(self, diff_id: Digest) -> Arrived:
        """Wait for the last entry.

        Raises:
            UnpackError: see `receive_layer`.
            StoreFullError: the disk is full.
        """
        self._pipe.end()
        self._thread.join()
        if self._error is not None:
            with room_for(f"the layer {diff_id} of an image", self._store.home):
                raise self._error
        assert self._unpacked is not None
        check_diff_id(self._unpacked, diff_id)
        self._taken = True
        return Arrived(self._folder, self._unpacked)

    def _run(self) -> None:
        try:
            self._unpacked = unpack_layer(
                self._pipe, self._folder / TREE, privileged=os.geteuid() == 0
            )
        except BaseException as error:  # raised again by `finish`
            self._error = error
        finally:
            self._pipe.close()


def check_diff_id(unpacked: Unpacked, diff_id: Digest) -> None:
    """Refuse a layer whose tar is not what the image's config says.

    Raises:
        UnpackError: both digests are in the message.
    """
    if unpacked.diff_id != diff_id:
        raise UnpackError(
            f"the layer {diff_id} is damaged",
            why=f"its tar has the digest {unpacked.diff_id}",
            fix="pull or load the image again",
        )
