"""The same image with its layers compressed in another way: same diff_ids and config, other blobs, another digest."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

import msgspec
from isal import isal_zlib

from hakobune.oci import deflate
from hakobune.oci import descriptor as media
from hakobune.oci.descriptor import Descriptor, encode_document
from hakobune.oci.digest import Digest
from hakobune.oci.inflate import TarBytes, UnpackError
from hakobune.oci.manifest import Image
from hakobune.oci.store import Store

_ZSTD_LEVEL: Final = 3
_MOST_LAYER_BYTES: Final = 1 << 40
_DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar"


class Compression(StrEnum):
    """How a layer's tar is stored (image-spec layer.md)."""

    GZIP = "gzip"
    ZSTD = "zstd"
    UNCOMPRESSED = "uncompressed"


_MEDIA_TYPES: Final = {
    Compression.GZIP: media.LAYER_GZIP,
    Compression.ZSTD: media.LAYER_ZSTD,
    Compression.UNCOMPRESSED: media.LAYER,
}


def recompress(store: Store, image: Image, wanted: Compression) -> Image:
    """Store the image with every layer compressed as *wanted*; layers that are so already stay as they are.

    The manifest becomes OCI's, since Docker's types have no word for zstd, and what refers to the old digest
    (signatures) does not refer to the new one. It gets no name.

    Raises:
        UnpackError: a layer is damaged.
    """
    pairs = list(zip(image.manifest.layers, image.diff_ids, strict=True))
    layers = tuple(_layer(store, blob, diff_id, wanted) for blob, diff_id in pairs)
    if layers == image.manifest.layers:
        return image
    manifest = msgspec.structs.replace(
        image.manifest,
        media_type=media.MANIFEST,
        config=msgspec.structs.replace(image.manifest.config, media_type=media.CONFIG),
        layers=layers,
    )
    return store.put_image(encode_document(manifest), image.raw_config)


def compression_of(media_type: str) -> Compression | None:
    """What a layer's media type says; `None` for types that are no layers of ours."""
    if media_type in (media.LAYER, _DOCKER_LAYER):
        return Compression.UNCOMPRESSED
    if media_type.endswith((".tar+gzip", ".tar.gzip")):
        return Compression.GZIP
    return Compression.ZSTD if media_type.endswith((".tar+zstd", ".tar.zstd")) else None


def _layer(store: Store, blob: Descriptor, diff_id: Digest, wanted: Compression) -> Descriptor:
    if compression_of(blob.media_type) is wanted:
        return msgspec.structs.replace(blob, media_type=_MEDIA_TYPES[wanted])
    path = store.blob_path(blob.digest)
    with TarBytes(path, limit_bytes=_MOST_LAYER_BYTES) as tar, store.new_blob() as writer:
        for piece in _compressed(tar, wanted):
            writer.write(piece)
        found = tar.finish()
        if found != diff_id:
            raise UnpackError(
                f"the layer {diff_id} is damaged", why=f"its tar has the digest {found}"
            )
        made = writer.commit(_MEDIA_TYPES[wanted])
    return msgspec.structs.replace(made, annotations=blob.annotations)


def _compressed(tar: TarBytes, wanted: Compression) -> Iterator[bytes]:
    match wanted:
        case Compression.GZIP:
            return _gzip(tar)
        case Compression.ZSTD:
            return _zstd(tar)
        case Compression.UNCOMPRESSED:
            return _blocks(tar)


def _blocks(tar: TarBytes) -> Iterator[bytes]:
    while block := tar.read(deflate.BLOCK_SIZE):
        yield block


def _gzip(tar: TarBytes) -> Iterator[bytes]:
    """As our own layers are made: equal tars give equal bytes."""
    crc32 = size = 0
    yield deflate.HEADER
    for block in _blocks(tar):
        crc32 = isal_zlib.crc32(block, crc32)
        size += len(block)
        yield deflate.deflate_block(memoryview(block))
    yield deflate.trailer(crc32, size)


def _zstd(tar: TarBytes) -> Iterator[bytes]:
    import zstandard  # only where it is asked for

    compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).compressobj()
    for block in _blocks(tar):
        yield compressor.compress(block)
    yield compressor.flush()
