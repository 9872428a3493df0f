"""Manifests and blobs on their way out (distribution-spec "Pulling manifests", "Pulling blobs": end-2, end-3)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from hakobune.registry.answer import (
    API_VERSION,
    Answer,
    FilePart,
    Headers,
    StreamPart,
    error_answer,
    warning,
)
from hakobune.registry.byte_range import UnsatisfiableError, parse_range
from hakobune.registry.errors import RegistryError
from hakobune.registry.exchange import Exchange
from hakobune.registry.fast_path import HotBlob, HotManifest, answer_tail, fresh_for
from hakobune.registry.manifest import check_digest, check_reference
from hakobune.registry.metadata_blobs import StoredBlob
from hakobune.registry.parts import Parts

_BLOB_TYPE: Final = "application/octet-stream"
_PRESIGNED_S: Final = 3600
_FOR_EVER: Final = ("Cache-Control", "max-age=31536000, immutable")


async def get_manifest(parts: Parts, exchange: Exchange) -> Answer:
    """A manifest by tag or digest, as it was pushed; HEAD gets the headers alone."""
    reference = check_reference(exchange.route.reference)
    generation = parts.fast.generation()
    found = await parts.sources.find_manifest(exchange.repository, exchange.image, reference)
    manifest = found.manifest
    headers: Headers = (
        API_VERSION,
        ("Content-Type", manifest.media_type),
        ("Docker-Content-Digest", manifest.digest),
        ("ETag", f'"{manifest.digest}"'),
    )
    if found.note:
        headers = (*headers, warning(found.note))
    else:
        hot = HotManifest(
            repository=found.repository,
            image=exchange.image,
            digest=manifest.digest,
            head=answer_tail(headers, len(manifest.body)),
            body=manifest.body,
            until=fresh_for(found.fresh_s),
        )
        parts.fast.learn_manifest(generation, exchange.route.name, reference, hot)
    if _is_known(exchange, manifest.digest):
        return Answer(status=304, headers=headers)
    if exchange.head.method == "GET":
        parts.metadata.note_pull(found.repository, exchange.image, manifest.digest)
    return Answer(status=200, headers=headers, body=manifest.body)


async def head_blob(parts: Parts, exchange: Exchange) -> Answer:
    """That a blob is there and how long it is; a promise that it stays for a while. Nothing is fetched for it."""
    digest = check_digest(exchange.route.reference)
    headers = blob_headers(digest)
    found = await parts.metadata.find_blob(exchange.repository, digest)
    if found is None:
        size = await parts.sources.blob_size(exchange.repository, exchange.image, digest)
        return Answer(status=200, headers=headers, length=size)
    path = parts.storage.local_path(found.storage_key)
    if path is not None:
        if not path.exists():
            raise _vanished(digest)
        if exchange.peer.owner:
            headers = (*headers, ("Hako-Blob-Path", str(path)))
    if _is_known(exchange, digest):
        return Answer(status=304, headers=headers)
    return Answer(status=200, headers=headers, length=found.size)


async def get_blob(parts: Parts, exchange: Exchange) -> Answer:
    """A blob or a part of it, also while it is still arriving from an upstream."""
    digest = check_digest(exchange.route.reference)
    generation = parts.fast.generation()
    found = await parts.sources.open_blob(exchange.repository, exchange.image, digest)
    if not isinstance(found, StoredBlob):
        whole = FilePart(found.file, 0, found.size, found)
        return answer_blob(exchange, whole, blob_headers(digest))
    path = parts.storage.local_path(found.storage_key)
    if path is None:
        return _answer_from_storage(parts, exchange, found)
    descriptor = open_blob(str(path), digest)
    try:
        if os.fstat(descriptor).st_size != found.size:
            raise RegistryError("UNKNOWN", f"the stored blob {digest} is damaged")
        headers = blob_headers(digest)
        if exchange.peer.owner:
            headers = (*headers, ("Hako-Blob-Path", str(path)))
        _learn_blob(parts, exchange, found, str(path), generation)
        answer = answer_blob(exchange, FilePart(descriptor, 0, found.size), headers)
    except BaseException:
        os.close(descriptor)
        raise
    return answer


def answer_blob(exchange: Exchange, whole: FilePart | StreamPart, headers: Headers) -> Answer:
    """Answer with *whole*, or with the part of it that was asked for. The file is the answer's, or closed."""
    etag = f'"{exchange.route.reference}"'
    if _is_known(exchange, exchange.route.reference):
        whole.close()
        return Answer(status=304, headers=headers)
    wanted = exchange.head.get("range")
    condition = exchange.head.get("if-range")
    if condition is not None and condition != etag:
        wanted = None
    try:
        part = parse_range(wanted, whole.count)
    except UnsatisfiableError:
        whole.close()
        return error_answer(
            416,
            "RANGE_INVALID",
            f"the blob has {whole.count} bytes, none of them is in the range {wanted}",
            headers=(("Content-Range", f"bytes */{whole.count}"),),
        )
    if part is None:
        return Answer(status=200, headers=headers, body=whole)
    last = part.offset + part.count - 1
    content_range = ("Content-Range", f"bytes {part.offset}-{last}/{whole.count}")
    return Answer(
        status=206,
        headers=(*headers, content_range),
        body=replace(whole, offset=part.offset, count=part.count),
    )


def blob_headers(digest: str) -> Headers:
    """What stands over every answer with a blob."""
    return (
        API_VERSION,
        ("Content-Type", _BLOB_TYPE),
        ("Docker-Content-Digest", digest),
        ("ETag", f'"{digest}"'),
        ("Accept-Ranges", "bytes"),
        _FOR_EVER,
    )


def open_blob(path: str, digest: str) -> int:
    """The descriptor of a stored blob's file.

    Raises:
        RegistryError: it is not there although it should be.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise _vanished(digest) from error


def _vanished(digest: str) -> RegistryError:
    return RegistryError("BLOB_UNKNOWN", f"the file of {digest} is gone", {"digest": digest})


def _answer_from_storage(parts: Parts, exchange: Exchange, found: StoredBlob) -> Answer:
    """A blob that is not on this machine: a URL where the client gets it, or its bytes through here."""
    headers = blob_headers(exchange.route.reference)
    if url := parts.storage.presign(found.storage_key, expires_s=_PRESIGNED_S):
        return Answer(
            status=307,
            headers=(
                ("Location", url),
                ("Docker-Content-Digest", exchange.route.reference),
                ("Cache-Control", "no-store"),
            ),
        )

    def read(offset: int, count: int) -> Iterator[bytes]:
        return parts.storage.read(found.storage_key, offset, offset + count)

    return answer_blob(exchange, StreamPart(read, parts.threads, 0, found.size), headers)


def _learn_blob(
    parts: Parts, exchange: Exchange, found: StoredBlob, path: str, generation: int
) -> None:
    digest = exchange.route.reference
    until_us = found.promised_until - parts.metadata.clock()
    hot = HotBlob(
        path=path,
        size=found.size,
        head=answer_tail(blob_headers(digest), found.size),
        until=fresh_for(until_us / 1e6),
    )
    parts.fast.learn_blob(generation, exchange.route.name, digest, hot)


def _is_known(exchange: Exchange, digest: str) -> bool:
    """Whether the client has it already (If-None-Match)."""
    known = exchange.head.get("if-none-match")
    if known is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in known.split(",")]
    return "*" in tags or f'"{digest}"' in tags
