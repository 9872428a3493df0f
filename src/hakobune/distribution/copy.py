"""From one registry to another: nothing is unpacked or kept, what the target has is not sent, and manifests stay as they are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from hakobune.distribution.client import RegistryClient, referrers_tag
from hakobune.distribution.document import Document
from hakobune.distribution.download import fetch_blob
from hakobune.distribution.meter import Meter
from hakobune.distribution.parallel import StopSign, run_all
from hakobune.distribution.push import blobs_of
from hakobune.distribution.session import Session
from hakobune.distribution.sources import clients_for_pull, first_of, wanted
from hakobune.distribution.upload import Neighbour, upload_blob
from hakobune.oci.descriptor import INDEX, Descriptor, encode_document
from hakobune.oci.digest import Digest
from hakobune.oci.manifest import Index, PlatformUnknownError, decode_index, decode_manifest
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.progress import Progress

_DEEPEST = 4
# Under DIGEST-TAG.SUFFIX cosign keeps what it has made of an image for registries that know no referrers.
_COSIGN_SUFFIXES = ("sig", "att", "sbom")


class Copy:
    """One copy of one image or index."""

    def __init__(
        self, session: Session, source: Reference, target: Reference, progress: Progress
    ) -> None:
        self._source = source
        self._target = target
        self._meter = Meter(progress, f"copying {source.short}")
        self._stop = StopSign()
        what = f"cannot copy {source.short} to {target.short}"
        self._from = clients_for_pull(session, source, what)
        endpoint = session.access.registries.endpoints(target, pull=False)[0]
        self._to = RegistryClient(session, endpoint, what=what, actions="pull,push")
        own, self._neighbour = self._from[-1].endpoint, None
        if own.host == endpoint.host and own.repository != endpoint.repository:
            mounting = RegistryClient(
                session, endpoint, what=what, actions="pull,push", also=(own.repository,)
            )
            self._neighbour = Neighbour(mounting, own.repository)

    def run(self, platform: Platform | None, *, referrers: bool) -> Digest:
        """Copy all platforms of an index, or the image for *platform* alone; gives the digest that the target has now.

        Args:
            referrers: copy also what refers to it or to an image of it, and what refers to that.

        Raises:
            PlatformUnknownError: the index has none for *platform*.
            RegistryError: one of the two does not do its part.
        """
        document = self._get(wanted(self._source))
        if document.is_index and platform is not None:
            index = decode_index(document.raw)
            chosen = index.select(platform)
            if chosen is None:
                raise PlatformUnknownError(self._source.short, platform, index)
            document = self._get(str(chosen.digest))
        there = self._to.head_manifest(wanted(self._target))
        if there is not None and there.digest == document.digest:
            self._meter.step(f"{self._target.short} is there already, unchanged")
        else:
            self._parts(document, depth=0)
            self._to.put_manifest(wanted(self._target), document.raw, document.media_type)
        if referrers:
            self._referrers_of(document, depth=0)
        return document.digest

    def _get(self, reference: str) -> Document:
        return first_of(self._from, lambda client: client.get_manifest(reference))

    def _parts(self, document: Document, *, depth: int) -> None:
        """What the document names, children first."""
        if depth > _DEEPEST:
            raise self._to.wrong(f"indexes lie in indexes, more than {_DEEPEST} deep")
        if not document.is_index:
            run_all(self._blob, blobs_of(decode_manifest(document.raw)), self._stop)
            self._meter.finish()
            return
        for entry in decode_index(document.raw).manifests:
            if self._to.head_manifest(str(entry.digest)) is None:
                child = self._get(str(entry.digest))
                self._parts(child, depth=depth + 1)
                self._to.put_manifest(str(child.digest), child.raw, child.media_type)

    def _referrers_of(self, document: Document, *, depth: int) -> None:
        """Copy what refers to a manifest and to those that it names. What was copied before is passed over."""
        if depth > _DEEPEST:
            raise self._to.wrong(f"referrers have referrers, more than {_DEEPEST} deep")
        digests = [document.digest]
        if document.is_index:
            digests += [entry.digest for entry in decode_index(document.raw).manifests]
        for digest in digests:
            for entry in self._list_referrers(digest):
                self._referrer(entry, digest, depth=depth)
            for suffix in _COSIGN_SUFFIXES:
                self._tagged(f"{referrers_tag(digest)}.{suffix}")

    def _list_referrers(self, digest: Digest) -> tuple[Descriptor, ...]:
        return first_of(self._from, lambda client: client.referrers(digest))

    def _referrer(self, entry: Descriptor, subject: Digest, *, depth: int) -> None:
        document = self._get(str(entry.digest))
        if self._to.head_manifest(str(entry.digest)) is None:
            self._parts(document, depth=0)
            noted = self._to.put_manifest(str(entry.digest), document.raw, document.media_type)
            if not noted:
                self._note_referrer(entry, subject)
        self._referrers_of(document, depth=depth + 1)

    def _note_referrer(self, entry: Descriptor, subject: Digest) -> None:
        """Add to the index under the fallback tag, for a registry without the referrers API."""
        tag = referrers_tag(subject)
        before: tuple[Descriptor, ...] = ()
        if self._to.head_manifest(tag) is not None:
            before = decode_index(self._to.get_manifest(tag).raw).manifests
        if entry.digest not in {known.digest for known in before}:
            index = Index(schema_version=2, media_type=INDEX, manifests=(*before, entry))
            self._to.put_manifest(tag, encode_document(index), INDEX)

    def _tagged(self, tag: str) -> None:
        if not any(client.head_manifest(tag) for client in self._from):
            return
        document = self._get(tag)
        there = self._to.head_manifest(tag)
        if there is None or there.digest != document.digest:
            self._parts(document, depth=0)
            self._to.put_manifest(tag, document.raw, document.media_type)

    def _blob(self, blob: Descriptor) -> None:
        self._stop.check()
        if self._to.has_blob(blob.digest):
            return
        self._meter.expect(blob.size)
        if upload_blob(self._to, blob, lambda at: self._read(blob, at), neighbour=self._neighbour):
            self._meter.advance(blob.size)

    def _read(self, blob: Descriptor, offset: int) -> Iterator[bytes]:
        """The blob as it comes; wrong bytes are noticed before the upload is closed (a part alone is the target's to check)."""
        found = hashlib.new(blob.digest.algorithm)
        for data in fetch_blob(self._from, blob, offset, stop=self._stop):
            found.update(data)
            yield data
            self._meter.advance(len(data))
        if offset == 0 and found.hexdigest() != blob.digest.hex:
            raise self._from[-1].wrong(f"the blob {blob.digest.short} has another digest")
