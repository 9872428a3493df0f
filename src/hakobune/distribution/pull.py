"""From a registry into the store: choose the platform, fetch what is missing in parallel, name it last."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from hakobune.distribution.document import Document
from hakobune.distribution.download import fetch_blob
from hakobune.distribution.meter import Meter
from hakobune.distribution.own_registry import path_of_blob
from hakobune.distribution.parallel import StopSign, run_all
from hakobune.distribution.session import Session
from hakobune.distribution.sources import clients_for_pull, first_of, wanted
from hakobune.oci.descriptor import Descriptor
from hakobune.oci.digest import Digest
from hakobune.oci.manifest import Image, decode_index, decode_manifest
from hakobune.oci.platform import Platform
from hakobune.oci.receive import Arrived, receive_blob, receive_layer
from hakobune.oci.reference import Reference
from hakobune.oci.snapshot import chain_ids
from hakobune.oci.store import Store
from hakobune.progress import Progress

_DEEPEST: Final = 4  # indexes in indexes: nobody has more than one level


@dataclass(frozen=True, slots=True)
class _Missing:
    """A layer to fetch; with a diff_id it is unpacked as it comes."""

    blob: Descriptor
    diff_id: Digest | None


def missing_layers(
    image: Image,
    *,
    has_blob: Callable[[Digest], bool],
    find_layer: Callable[[Digest, Digest], object | None],
) -> tuple[_Missing, ...]:
    """What must be fetched, each blob once (pure but for the two questions)."""
    found: dict[Digest, _Missing] = {}
    diff_ids = image.diff_ids
    for blob, diff_id, chain_id in zip(
        image.manifest.layers, diff_ids, chain_ids(diff_ids), strict=True
    ):
        if blob.digest not in found and not has_blob(blob.digest):
            unpacked = find_layer(diff_id, chain_id)
            found[blob.digest] = _Missing(blob, diff_id if unpacked is None else None)
    return tuple(found.values())


class Pull:
    """One pull: the places to ask, and the store to fill."""

    def __init__(
        self, store: Store, session: Session, reference: Reference, progress: Progress
    ) -> None:
        self.what = f"cannot pull {reference.short}"
        self._store = store
        self._reference = reference
        self._meter = Meter(progress, f"pulling {reference.short}")
        self._stop = StopSign()
        self._arrived: dict[Digest, Arrived] = {}  # unpacked, and waiting for what lies below
        self._clients = clients_for_pull(session, reference, self.what)

    def head(self) -> Digest | None:
        """What the name is now, if a place says so cheaply."""
        found = first_of(
            self._clients, lambda client: client.head_manifest(wanted(self._reference))
        )
        return None if found is None else found.digest

    def document(self, reference: str) -> Document:
        """The manifest or index of that tag or digest, from the first place that has it."""
        return first_of(self._clients, lambda client: client.get_manifest(reference))

    def image(self, document: Document) -> Image:
        """Fetch all that the manifest needs; the image is in the store, unpacked, without a name.

        What was unpacked for nothing is unlinked, here or by pulls that were killed: it may be what has filled the disk.
        """
        try:
            image = self._image(document)
            self._store.discard_abandoned()
            return image
        except Exception:
            # The disk is full: the first error is the one to tell.
            with contextlib.suppress(OSError):
                self._store.empty_trash()
            raise

    def _image(self, document: Document) -> Image:
        manifest = decode_manifest(document.raw)
        raw_config = first_of(self._clients, lambda client: client.read_blob(manifest.config))
        algorithm = document.digest.algorithm
        image = Image.from_raw(document.raw, raw_config, algorithm=algorithm)
        missing = missing_layers(image, has_blob=self._have, find_layer=self._store.find_layer)
        for layer in missing:
            self._meter.expect(layer.blob.size)
        try:
            run_all(self._receive, missing, self._stop)
            self._meter.finish()
            image = self._store.put_image(document.raw, raw_config, algorithm=algorithm)
            self._store.snapshots(image, arrived=self._arrived)
        finally:
            for item in self._arrived.values():
                self._store.discard_snapshot(item.folder)
            self._arrived.clear()
        return image

    def index(self, document: Document, platform: Platform, *, names: Sequence[Reference]) -> None:
        """Fetch the index with all that it lists; the images for *platform* are unpacked.

        Raises:
            WrongContentError: it is nested too deep.
        """
        self._children(document, platform, depth=0)
        self._store.put_index(document.raw, names=names, algorithm=document.digest.algorithm)

    def _children(self, document: Document, platform: Platform, *, depth: int) -> None:
        if depth > _DEEPEST:
            raise self._clients[-1].wrong(f"indexes lie in indexes, more than {_DEEPEST} deep")
        for entry in decode_index(document.raw).manifests:
            child = self.document(str(entry.digest))
            if child.is_index:
                self._children(child, platform, depth=depth + 1)
                self._store.put_index(child.raw, algorithm=child.digest.algorithm)
            elif entry.platform is not None and entry.platform.matches(platform):
                self.image(child)
            else:
                self._parts(child)

    def _parts(self, document: Document) -> None:
        """Fetch a manifest with its blobs as they are; it may be no image at all (an attestation, a chart)."""
        manifest = decode_manifest(document.raw)
        blobs = {blob.digest: blob for blob in (manifest.config, *manifest.layers)}
        missing = tuple(
            _Missing(blob, None) for blob in blobs.values() if not self._have(blob.digest)
        )
        for blob in missing:
            self._meter.expect(blob.blob.size)
        run_all(self._receive, missing, self._stop)
        self._meter.finish()
        self._store.put_blob(document.raw, document.media_type, algorithm=document.digest.algorithm)

    def _have(self, digest: Digest) -> bool:
        """Whether the blob is in the store; what this installation's own registry has is taken over by a link."""
        if self._store.keep_blob(digest):
            return True
        client = self._clients[-1]
        path = path_of_blob(client, digest) if client.endpoint.socket is not None else None
        return path is not None and self._store.link_blob(path, digest)

    def _receive(self, layer: _Missing) -> None:
        def fetch(offset: int, wrong: int) -> Iterator[bytes]:
            self._meter.advance(offset)
            for data in fetch_blob(self._clients, layer.blob, offset, stop=self._stop, wrong=wrong):
                self._meter.advance(len(data))
                yield data

        if layer.diff_id is None:
            receive_blob(self._store, layer.blob, fetch)
            return
        result = receive_layer(self._store, layer.blob, layer.diff_id, fetch)
        if isinstance(result, Arrived):
            self._arrived[layer.diff_id] = result
