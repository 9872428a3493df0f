"""From the store into a registry: what is there already is not sent, what a neighbour has is mounted, the name comes last."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from hakobune.distribution.client import RegistryClient
from hakobune.distribution.meter import Meter
from hakobune.distribution.own_registry import push_by_link
from hakobune.distribution.parallel import StopSign, run_all
from hakobune.distribution.session import Session
from hakobune.distribution.sources import wanted
from hakobune.distribution.upload import Neighbour, upload_blob
from hakobune.distribution.upload_notes import UploadNotes
from hakobune.errors import HakoError
from hakobune.oci.blobs import COPY_SIZE
from hakobune.oci.descriptor import Descriptor
from hakobune.oci.digest import Digest
from hakobune.oci.manifest import Manifest, decode_index, decode_manifest, is_index, media_type_of
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from hakobune.progress import Progress


class Push:
    """One push of one image or index under one name."""

    def __init__(
        self, store: Store, session: Session, reference: Reference, progress: Progress
    ) -> None:
        self._store = store
        self._reference = reference
        self._meter = Meter(progress, f"pushing {reference.short}")
        self._stop = StopSign()
        self._session = session
        registries = session.access.registries
        endpoint = registries.endpoints(reference, pull=False)[0]
        self._own = registries.own if endpoint.socket is not None else None
        self._client = self._open(())

    def _open(self, neighbours: Sequence[str]) -> RegistryClient:
        """A client that may also mount from these repositories."""
        return RegistryClient(
            self._session,
            self._session.access.registries.endpoints(self._reference, pull=False)[0],
            what=f"cannot push {self._reference.short}",
            actions="pull,push",
            also=neighbours,
        )

    def run(self, digest: Digest) -> None:
        """Send the manifest or index of that digest, with all it names.

        Raises:
            BlobUnknownError: a part of it is not in the store.
            RegistryError: the registry does not take it.
        """
        head = self._client.head_manifest(wanted(self._reference))
        if head is not None and head.digest == digest:
            self._meter.step(f"{self._reference.short} is there already, unchanged")
            return
        if self._client.head_manifest(str(digest)) is None:
            self._send(digest)
        self._put(wanted(self._reference), digest)

    def _put(self, reference: str, digest: Digest) -> None:
        raw = self._store.read_blob(digest)
        self._client.put_manifest(reference, raw, media_type_of(raw))

    def _send(self, digest: Digest) -> None:
        """All that the document names: children first, by their digests."""
        raw = self._store.read_blob(digest)
        if is_index(raw):
            for child in decode_index(raw).manifests:
                if self._client.head_manifest(str(child.digest)) is None:
                    self._send(child.digest)
                    self._put(str(child.digest), child.digest)
            return
        blobs = blobs_of(decode_manifest(raw))
        for blob in blobs:
            self._store.blob_path(blob.digest)  # before anything is sent
        sources = find_neighbours(self._store, self._reference, {blob.digest for blob in blobs})
        mounting = self._open(sorted(set(sources.values())))
        neighbours = {d: Neighbour(mounting, source) for d, source in sources.items()}
        run_all(lambda blob: self._send_blob(blob, neighbours.get(blob.digest)), blobs, self._stop)
        self._meter.finish()

    def _send_blob(self, blob: Descriptor, neighbour: Neighbour | None) -> None:
        self._stop.check()
        client = self._client
        if self._own is not None and push_by_link(
            client, blob.digest, self._store.blob_path(blob.digest), self._own.incoming
        ):
            return
        if client.has_blob(blob.digest):
            self._meter.step(f"{blob.digest.short} is there")
            return
        self._meter.expect(blob.size)
        mounted = upload_blob(
            client,
            blob,
            lambda offset: self._read(blob, offset),
            neighbour=neighbour,
            notes=UploadNotes(self._store.home / "cache" / "uploads"),
        )
        if mounted and neighbour is not None:
            self._meter.advance(blob.size)
            self._meter.step(f"{blob.digest.short} is taken over from {neighbour.repository}")

    def _read(self, blob: Descriptor, offset: int) -> Iterator[bytes]:
        with open(self._store.blob_path(blob.digest), "rb", buffering=0) as file:
            file.seek(offset)
            while data := file.read(COPY_SIZE):
                self._stop.check()
                yield data
                self._meter.advance(len(data))


def blobs_of(manifest: Manifest) -> tuple[Descriptor, ...]:
    """What a registry must have before it takes the manifest: config and layers, each once, without foreign layers."""
    found = {manifest.config.digest: manifest.config}
    for layer in manifest.layers:
        if not is_foreign(layer):
            found.setdefault(layer.digest, layer)
    return tuple(found.values())


def is_foreign(layer: Descriptor) -> bool:
    """Whether a registry may not have the layer: it says itself where it is (image-spec layer.md "Non-Distributable Layers")."""
    return bool(layer.urls) and (
        "nondistributable" in layer.media_type or ".foreign." in layer.media_type
    )


def find_neighbours(
    store: Store, target: Reference, blobs: Collection[Digest]
) -> Mapping[Digest, str]:
    """For each of *blobs* that an image of another name in the same registry has: that repository."""
    found: dict[Digest, str] = {}
    for name, digest in store.names():
        if name.registry == target.registry and name.repository != target.repository:
            for blob in _layers(store, digest):
                if blob in blobs:
                    found.setdefault(blob, name.repository)
    return found


def _layers(store: Store, digest: Digest) -> Iterable[Digest]:
    try:
        return [layer.digest for layer in store.read_image(digest).manifest.layers]
    except HakoError:
        return ()  # damaged, or an index for other platforms
