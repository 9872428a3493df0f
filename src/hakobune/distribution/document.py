"""A manifest or index as a registry answers with it: what it is, and what its digest must be."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from hakobune.distribution.connections import Answer
from hakobune.oci import descriptor as media
from hakobune.oci.descriptor import Descriptor
from hakobune.oci.digest import Digest, DigestError


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or index as the registry has it; `raw` has been checked against `digest`."""

    media_type: str
    digest: Digest
    raw: bytes

    @property
    def is_index(self) -> bool:
        return self.media_type in media.INDEX_TYPES


def describe_head(answer: Answer, reference: str) -> Descriptor | None:
    """`None` also if the registry does not say the digest: then only a GET tells."""
    text = answer.headers.get("docker-content-digest", "")
    try:
        digest = Digest.parse(text or reference)
    except DigestError:
        return None
    return Descriptor(
        media_type=answer.headers.get("content-type", "").partition(";")[0].strip(),
        digest=digest,
        size=answer.length or 0,
    )


def digest_of(raw: bytes, reference: str, announced: str) -> Digest:
    """What the content must have: the asked digest; for a tag, what the registry says, or else simply its own."""
    for text in (reference, announced):
        try:
            return Digest.parse(text)
        except DigestError:
            continue
    return Digest.of(raw)


class _Kind(msgspec.Struct, rename="camel"):
    media_type: str = ""
    manifests: msgspec.Raw = msgspec.Raw()


def media_type_in(answer: Answer, raw: bytes) -> str:
    """What the document says it is; else the header; else what it looks like."""
    try:
        kind = msgspec.json.decode(raw, type=_Kind)
    except msgspec.DecodeError:
        kind = _Kind()
    said = kind.media_type or answer.headers.get("content-type", "").partition(";")[0].strip()
    if said in media.INDEX_TYPES or said in media.MANIFEST_TYPES:
        return said
    if not said or said in ("application/json", "text/plain", "application/octet-stream"):
        return media.INDEX if bytes(kind.manifests) else media.MANIFEST
    return said
