"""Manifests, indexes and images: views over raw bytes (image-spec manifest.md, image-index.md).

Raw bytes stay beside the parsed view: encoding drops fields that a view does not know, so what has a
digest is never encoded again to be hashed or passed on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from hakobune.errors import HakoError
from hakobune.oci import descriptor as media
from hakobune.oci.config import ImageConfig, decode_config
from hakobune.oci.descriptor import Descriptor, DocumentFormatError, document_decoder
from hakobune.oci.digest import Digest
from hakobune.oci.platform import Platform

# distribution-spec: registries must accept 4 MiB; nobody needs more, and it bounds what we parse.
DOCUMENT_LIMIT: Final = 4 << 20


class ManifestError(HakoError):
    """A manifest, or the config it names, contradicts itself."""


class PlatformUnknownError(HakoError):
    """An index has no image for the platform that is wanted."""

    def __init__(self, what: str, platform: Platform, index: Index) -> None:
        there = sorted(
            {str(entry.platform) for entry in index.manifests if _is_real(entry.platform)}
        )
        super().__init__(
            f"{what} has no image for {platform}",
            why=f"it has {', '.join(there)}" if there else "its index names none",
            fix=f"--platform {there[0]}" if there else "",
        )
        self.platform = platform


def _no_layers() -> tuple[Descriptor, ...]:
    """BuildKit writes `null` for an image without any; this is written as `[]`, never left out."""
    return ()


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """An image manifest: a config and its layers, base first."""

    schema_version: int
    media_type: str = ""
    artifact_type: str = ""
    config: Descriptor
    layers: tuple[Descriptor, ...] = msgspec.field(default_factory=_no_layers)
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = {}


class Index(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """An image index: manifests for several platforms, or the names in an image layout."""

    schema_version: int
    media_type: str = ""
    artifact_type: str = ""
    manifests: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = {}

    def select(self, platform: Platform) -> Descriptor | None:
        """The first manifest for *platform*; one that names no platform fits any."""
        for manifest in self.manifests:
            if manifest.platform is None or manifest.platform.matches(platform):
                return manifest
        return None


class Layer(msgspec.Struct, frozen=True):
    """A stored layer under its two names."""

    blob: Descriptor  # the compressed bytes, as a registry names them
    diff_id: Digest  # of the tar inside (image-spec config.md "Layer DiffID")


_decode_manifest: Final = document_decoder(Manifest, "manifest")
_decode_index: Final = document_decoder(Index, "index")


def decode_manifest(raw: bytes) -> Manifest:
    """Read an image manifest, OCI's or Docker's (schema 2).

    Raises:
        DocumentFormatError, ManifestError: it is none; a document that is manifest and index at once is refused.
    """
    _check_size(raw, "manifest")
    try:
        manifest = _decode_manifest(raw)
    except DocumentFormatError as error:
        if _has_schema_1(raw):
            raise ManifestError(
                "the image is in docker's old format",
                why="its manifest has schemaVersion 1, which says neither what its layers contain nor how long they are",
                fix="`skopeo copy --format v2s2` converts it; docker 1.10 and later push the new one",
            ) from error
        raise
    _check_kind(
        raw, manifest.schema_version, manifest.media_type, media.MANIFEST_TYPES, "manifests"
    )
    return manifest


def decode_index(raw: bytes) -> Index:
    """Read an image index, or Docker's manifest list.

    Raises:
        DocumentFormatError, ManifestError: it is none; a document that is manifest and index at once is refused.
    """
    _check_size(raw, "index")
    index = _decode_index(raw)
    _check_kind(raw, index.schema_version, index.media_type, media.INDEX_TYPES, "layers")
    return index


class _Kind(msgspec.Struct):
    manifests: msgspec.Raw = msgspec.Raw()


def is_index(raw: bytes) -> bool:
    """Whether the document is an index rather than an image manifest."""
    if b'"manifests"' not in raw:
        return False  # most are manifests
    try:
        return bool(bytes(msgspec.json.decode(raw, type=_Kind).manifests))
    except msgspec.DecodeError:
        return False


def media_type_of(raw: bytes) -> str:
    """What the document says it is, or what OCI calls what it looks like."""
    if is_index(raw):
        return decode_index(raw).media_type or media.INDEX
    return decode_manifest(raw).media_type or media.MANIFEST


def make_index(manifests: Sequence[Descriptor], annotations: Mapping[str, str]) -> Index:
    """An OCI index of ours; `encode_document` gives the bytes that its digest is of."""
    return Index(
        schema_version=2,
        media_type=media.INDEX,
        manifests=tuple(manifests),
        annotations=dict(annotations),
    )


def make_manifest(
    config: Descriptor, layers: Sequence[Descriptor], annotations: Mapping[str, str]
) -> Manifest:
    """An OCI manifest of ours; `encode_document` gives the bytes that its digest is of."""
    return Manifest(
        schema_version=2,
        media_type=media.MANIFEST,
        config=config,
        layers=tuple(layers),
        annotations=dict(annotations),
    )


class Image(msgspec.Struct, frozen=True):
    """An image by its manifest's digest, with the bytes that were hashed."""

    digest: Digest
    raw: bytes
    manifest: Manifest
    config: ImageConfig
    raw_config: bytes

    @classmethod
    def from_raw(cls, raw: bytes, raw_config: bytes, *, algorithm: str = "sha256") -> Image:
        """Parse both documents and check that they belong together.

        Args:
            algorithm: of the digest that the image is known by.

        Raises:
            DocumentFormatError: one of them cannot be read.
            ManifestError: the config is not the one the manifest names, or has another number of layers.
            DigestError: the config's bytes are damaged.
        """
        manifest = decode_manifest(raw)
        digest = Digest.of(raw, algorithm)
        manifest.config.digest.verify(raw_config)
        config = _decode_image_config(manifest, raw_config)
        if len(config.rootfs.diff_ids) != len(manifest.layers):
            raise ManifestError(
                f"the image {digest} contradicts itself",
                why=f"its manifest has {len(manifest.layers)} layers, "
                f"its config {len(config.rootfs.diff_ids)} diff_ids",
            )
        return cls(digest, raw, manifest, config, raw_config)

    @property
    def platform(self) -> Platform:
        """What the image runs on, by its config."""
        return self.config.platform

    @property
    def diff_ids(self) -> tuple[Digest, ...]:
        """One a layer, base first."""
        return self.config.rootfs.diff_ids


def _decode_image_config(manifest: Manifest, raw_config: bytes) -> ImageConfig:
    """The config, or what the manifest is instead of an image's: a chart, a signature, a model."""
    try:
        return decode_config(raw_config)
    except DocumentFormatError as error:
        kind = manifest.artifact_type or manifest.config.media_type
        if manifest.config.media_type in media.CONFIG_TYPES:
            raise
        raise ManifestError(
            "this is no image that can be run",
            why=f"it is an artefact of the type {kind}",
            fix="`hako image copy` takes it from registry to registry as it is",
        ) from error


class _Version(msgspec.Struct, rename="camel"):
    schema_version: int = 2


def _has_schema_1(raw: bytes) -> bool:
    try:
        return msgspec.json.decode(raw, type=_Version).schema_version == 1
    except msgspec.DecodeError:
        return False


def _is_real(platform: Platform | None) -> bool:
    """Not an attestation's: these are for `unknown/unknown`."""
    return platform is not None and platform.os != "unknown"


def _check_size(raw: bytes, what: str) -> None:
    if len(raw) > DOCUMENT_LIMIT:
        raise ManifestError(f"the {what} is too large", why=f"{len(raw)} bytes, 4 MiB at most")


def _check_kind(
    raw: bytes, schema_version: int, media_type: str, allowed: frozenset[str], foreign_key: str
) -> None:
    """Refuse other schemas and ambiguous documents (image-spec manifest.md, CVE-2021-41190)."""
    if schema_version != 2:
        raise ManifestError(
            f"schemaVersion {schema_version} is not supported", why="images have schemaVersion 2"
        )
    if media_type and media_type not in allowed:
        raise ManifestError(
            f"the document says it is {media_type!r}",
            why=f"expected {' or '.join(sorted(allowed))}",
        )
    if foreign_key in msgspec.json.decode(raw, type=dict[str, msgspec.Raw]):
        raise ManifestError(
            "the document is a manifest and an index at once",
            why=f"it has the key {foreign_key!r} too",
        )
