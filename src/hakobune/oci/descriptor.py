"""Content descriptors and media types (image-spec descriptor.md, media-types.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from hakobune.errors import HakoError
from hakobune.oci.digest import Digest, DigestError
from hakobune.oci.platform import Platform

INDEX: Final = "application/vnd.oci.image.index.v1+json"
MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIG: Final = "application/vnd.oci.image.config.v1+json"
LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYER_ZSTD: Final = "application/vnd.oci.image.layer.v1.tar+zstd"
DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER_GZIP: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"

INDEX_TYPES: Final = frozenset({INDEX, DOCKER_INDEX})
MANIFEST_TYPES: Final = frozenset({MANIFEST, DOCKER_MANIFEST})
CONFIG_TYPES: Final = frozenset({CONFIG, DOCKER_CONFIG})

# image-spec annotations.md: the name of an image in the index.json of a layout.
REF_NAME: Final = "org.opencontainers.image.ref.name"


class DocumentFormatError(HakoError):
    """A manifest, index or config is not what its specification says; the place in it is named."""


class Descriptor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What a content is, how it is named and how long it is. Field order is that of Go's encoder."""

    media_type: str
    digest: Digest
    size: int
    urls: tuple[str, ...] = ()
    annotations: Mapping[str, str] = {}
    platform: Platform | None = None
    artifact_type: str = ""

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError(f"the size {self.size} is negative")


_Document = TypeVar("_Document")


def document_decoder(kind: type[_Document], what: str) -> Callable[[bytes], _Document]:
    """A function that reads the JSON of *what*: unknown fields are skipped, `null` is "not said" as in Go.

    It raises `DocumentFormatError` with the place in the document.
    """

    def decode(raw: bytes) -> _Document:
        try:
            value = _without_nulls(msgspec.json.decode(raw))
            return msgspec.convert(value, kind, dec_hook=_decode_value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise DocumentFormatError(f"the {what} cannot be read", why=str(error)) from error

    return decode


def encode_document(document: msgspec.Struct) -> bytes:
    """The document as JSON, fields in the order of its class, keys of mappings sorted: equal documents give equal bytes."""
    return _ENCODER.encode(document)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _decode_value(kind: type[Any], value: Any) -> Any:
    if kind is Digest and isinstance(value, str):
        try:
            return Digest.parse(value)
        except DigestError as error:
            raise ValueError(f"{error.what}: {error.why}") from error
    raise ValueError(f"expected a {kind.__name__.lower()}, got {type(value).__name__}")


def _encode_value(value: Any) -> Any:
    if isinstance(value, Digest):
        return str(value)
    raise TypeError(f"a {type(value).__name__} has no place in a document")


_ENCODER: Final = msgspec.json.Encoder(enc_hook=_encode_value, order="deterministic")
