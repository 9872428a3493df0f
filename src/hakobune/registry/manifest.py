"""What the registry has to know of a manifest: what it refers to and what kind of thing it is (image-spec manifest.md, image-index.md).

The bytes are kept as they came; this view is never written back.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec

from hakobune.registry.errors import RegistryError

MAX_MANIFEST_BYTES: Final = 8 << 20
_LARGEST: Final = 1 << 46  # of a blob; all blobs of the largest manifest are together below 2^63

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
_SCHEMA_1: Final = "application/vnd.docker.distribution.manifest.v1+"

DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
TAG: Final = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
NAME: Final = re.compile(
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
)


class ChildKind(StrEnum):
    """What a manifest refers to: `foreign` is a layer that lies elsewhere (non-distributable)."""

    BLOB = "blob"
    MANIFEST = "manifest"
    FOREIGN = "foreign"


class _Platform(msgspec.Struct):
    os: str = ""
    architecture: str = ""
    variant: str = ""


class _Descriptor(msgspec.Struct, rename="camel"):
    media_type: str = ""
    digest: str = ""
    size: int = 0
    platform: _Platform | None = None
    artifact_type: str | None = None
    urls: list[str] | None = None


class _Document(msgspec.Struct, rename="camel"):
    schema_version: int = 0
    media_type: str = ""
    artifact_type: str = ""
    config: _Descriptor | None = None
    layers: list[_Descriptor] | None = None
    blobs: list[_Descriptor] | None = None  # the artifact manifest of OCI's release candidates
    manifests: list[_Descriptor] | None = None
    subject: _Descriptor | None = None
    annotations: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Child:
    """What a manifest refers to."""

    digest: str
    kind: ChildKind
    size: int
    media_type: str
    platform: str = ""  # OS/ARCHITECTURE[/VARIANT], of an index's


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedManifest:
    """A manifest's meaning."""

    media_type: str
    artifact_type: str  # as the referrers API shows it: its own, else its config's media type
    config_media_type: str
    config_digest: str
    subject: str  # a digest, or ""
    annotations: Mapping[str, str]
    children: tuple[Child, ...]
    image_size: int  # config and layers, as they are stored; 0 for an index

    @property
    def is_index(self) -> bool:
        return self.media_type in (OCI_INDEX, DOCKER_LIST)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredManifest:
    """A manifest as it came, and when. Times are microseconds since 1970; 0: never."""

    digest: str
    media_type: str
    body: bytes
    artifact_type: str = ""
    subject: str = ""
    pushed_at: int = 0
    pulled_at: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PutManifest:
    """What a PUT of a manifest did."""

    digest: str
    subject: str  # for the header OCI-Subject; "" without one
    tags: tuple[str, ...]  # that name it now (OCI-Tag)
    created: bool  # false: it was there already


def is_digest(reference: str) -> bool:
    """Whether a reference is a digest; one with a colon that is none is refused by `check_reference`."""
    return ":" in reference


def check_digest(text: str) -> str:
    """*text* itself.

    Raises:
        RegistryError: DIGEST_INVALID.
    """
    if not DIGEST.fullmatch(text):
        raise RegistryError("DIGEST_INVALID", f"{text[:150]!r} is not a sha256 or sha512 digest")
    return text


def check_reference(text: str) -> str:
    """*text* itself, a tag or a digest.

    Raises:
        RegistryError: DIGEST_INVALID or TAG_INVALID.
    """
    if ":" in text:
        return check_digest(text)
    if not TAG.fullmatch(text):
        raise RegistryError(
            "TAG_INVALID",
            f"{text[:150]!r} is not a tag: it has up to 128 letters, digits and . _ -, the first no . or -",
        )
    return text


def digest_of(body: bytes, algorithm: str = "sha256") -> str:
    """ALGORITHM:HEX of *body*."""
    return f"{algorithm}:{hashlib.new(algorithm, body, usedforsecurity=False).hexdigest()}"


def parse_manifest(body: bytes, media_type: str) -> ParsedManifest:
    """Read a manifest of any type that is JSON.

    Args:
        media_type: as the client's Content-Type says, with or without parameters; "" takes the body's word.

    Raises:
        RegistryError: MANIFEST_INVALID with what is wrong and where; SIZE_INVALID (413) over the limit.
    """
    if len(body) > MAX_MANIFEST_BYTES:
        raise RegistryError(
            "SIZE_INVALID",
            f"the manifest has {len(body)} bytes, the limit is {MAX_MANIFEST_BYTES}",
            status=413,
        )
    try:
        document = msgspec.json.decode(body, type=_Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _invalid(f"the manifest cannot be read: {error}") from error
    media_type = media_type.partition(";")[0].strip() or document.media_type
    _check_media_type(document, media_type)
    config = document.config
    children = _children(document)
    config_type = "" if config is None else config.media_type
    subject = document.subject
    if subject is not None and not DIGEST.fullmatch(subject.digest):
        raise _invalid(f"the subject's digest {subject.digest[:150]!r} is not a digest")
    is_index = media_type in (OCI_INDEX, DOCKER_LIST)
    return ParsedManifest(
        media_type=media_type,
        artifact_type=document.artifact_type or ("" if is_index else config_type),
        config_media_type=config_type,
        config_digest="" if config is None else config.digest,
        subject="" if subject is None else subject.digest,
        annotations=document.annotations or {},
        children=children,
        image_size=sum(c.size for c in children if c.kind is not ChildKind.MANIFEST),
    )


def index_platforms(body: bytes) -> tuple[Mapping[str, Any], ...]:
    """`digest`, `mediaType`, `os`, `architecture`, `variant` of each image of an index, in its order."""
    document = msgspec.json.decode(body, type=_Document)
    return tuple(
        {
            "digest": d.digest,
            "mediaType": d.media_type,
            "os": d.platform.os if d.platform else "",
            "architecture": d.platform.architecture if d.platform else "",
            "variant": d.platform.variant if d.platform else "",
        }
        for d in document.manifests or ()
    )


def _check_media_type(document: _Document, media_type: str) -> None:
    if not media_type:
        raise _invalid("neither the request nor the manifest says which media type it has")
    if media_type.startswith(_SCHEMA_1) or document.schema_version == 1:
        raise _invalid("manifests of Docker's schema 1 are not stored: push with a newer client")
    if document.media_type and document.media_type != media_type:
        raise _invalid(
            f"the manifest says that it is {document.media_type!r}, the request says {media_type!r}"
        )
    if media_type in (OCI_MANIFEST, DOCKER_MANIFEST):
        if document.manifests is not None:
            raise _invalid("an image manifest has no `manifests`")
        if document.config is None:
            raise _invalid("an image manifest has a `config`")
    if media_type in (OCI_INDEX, DOCKER_LIST) and (
        document.config is not None or document.layers is not None
    ):
        raise _invalid("an index has neither `config` nor `layers`")


def _children(document: _Document) -> tuple[Child, ...]:
    """Each digest once: one that is somewhere no foreign layer has to be there."""
    found: dict[str, Child] = {}
    blobs = [
        *([document.config] if document.config else ()),
        *(document.layers or ()),
        *(document.blobs or ()),
    ]
    for descriptor in blobs:
        foreign = bool(descriptor.urls) or _is_foreign(descriptor.media_type)
        kind = ChildKind.FOREIGN if foreign else ChildKind.BLOB
        _add(found, descriptor, kind)
    for descriptor in document.manifests or ():
        _add(found, descriptor, ChildKind.MANIFEST)
    return tuple(found.values())


def _add(found: dict[str, Child], descriptor: _Descriptor, kind: ChildKind) -> None:
    if not DIGEST.fullmatch(descriptor.digest):
        raise _invalid(f"the digest {descriptor.digest[:150]!r} in the manifest is not a digest")
    if not 0 <= descriptor.size <= _LARGEST:
        wrong = "below zero" if descriptor.size < 0 else "more than a blob can have"
        raise _invalid(f"the size {descriptor.size} of {descriptor.digest} is {wrong}")
    before = found.get(descriptor.digest)
    if before is not None and (before.kind is not ChildKind.FOREIGN or kind is ChildKind.FOREIGN):
        return
    platform = descriptor.platform
    words = (platform.os, platform.architecture, platform.variant) if platform else ()
    found[descriptor.digest] = Child(
        descriptor.digest,
        kind,
        descriptor.size,
        descriptor.media_type,
        "/".join(word for word in words if word),
    )


def _is_foreign(media_type: str) -> bool:
    return ".nondistributable." in media_type or ".foreign." in media_type


def _invalid(message: str) -> RegistryError:
    return RegistryError("MANIFEST_INVALID", message)
