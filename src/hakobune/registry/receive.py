"""Uploads of blobs (distribution-spec "Pushing blobs": end-4, end-5, end-6, end-11, end-13, end-14)."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from hakobune.registry.admission import Admission
from hakobune.registry.answer import Answer, Headers, error_answer
from hakobune.registry.byte_range import ByteRange, parse_content_range
from hakobune.registry.commit import commit_staged, created, stream
from hakobune.registry.crash_point import crash_point
from hakobune.registry.errors import RegistryError
from hakobune.registry.exchange import Exchange
from hakobune.registry.manifest import check_digest
from hakobune.registry.metadata import Upload
from hakobune.registry.metadata_uploads import upload_unknown
from hakobune.registry.parts import Parts
from hakobune.registry.push import refuse_push
from hakobune.registry.quota import check_room
from hakobune.registry.running_hash import ALGORITHMS
from hakobune.registry.staged import StagedFile, create_staged, lock_staged, resume_staged
from hakobune.registry.whole_blob import mount, receive_whole, take_link

_ID_DIGITS: Final = 32


async def start_upload(parts: Parts, admission: Admission, exchange: Exchange) -> Answer:
    """Begin a session; or mount a blob of another repository; or take the whole blob at once."""
    refuse_push(exchange.repository)
    if (link := exchange.head.get("hako-link")) is not None and exchange.peer.owner:
        return await take_link(parts, exchange, link)
    if (mounted := exchange.parameter("mount")) is not None:
        answer = await mount(parts, admission, exchange, check_digest(mounted))
        if answer is not None:
            return answer
    check_room(parts.uploads, exchange.head.fields.content_length or 0)
    digest = exchange.parameter("digest")
    if digest is not None:
        return await receive_whole(parts, exchange, check_digest(digest))
    algorithm = _algorithm(exchange)
    id = secrets.token_hex(_ID_DIGITS // 2)
    create_staged(parts.uploads / id, algorithm).close()
    await parts.metadata.begin_upload(
        exchange.repository, exchange.image, id, exchange.actor, algorithm=algorithm
    )
    return Answer(status=202, headers=_progress(exchange, id, 0))


async def append_chunk(parts: Parts, exchange: Exchange) -> Answer:
    """Take the next bytes of a session: a chunk that says where it belongs, or a stream."""
    async with _session(parts, exchange) as (upload, staged):
        chunk = _chunk(exchange)
        if chunk is not None and chunk.offset != staged.offset:
            return _out_of_order(exchange, upload.id, staged.offset, chunk)
        check_room(parts.uploads, exchange.head.fields.content_length or 0)
        await _receive(parts, exchange, upload, staged, chunk)
        return Answer(status=202, headers=_progress(exchange, upload.id, staged.offset))


async def finish_upload(parts: Parts, exchange: Exchange) -> Answer:
    """Take the last bytes of a session, if there are any, and make a blob of it."""
    wanted = exchange.parameter("digest")
    if wanted is None:
        raise RegistryError("DIGEST_INVALID", "the closing PUT needs ?digest=")
    digest = check_digest(wanted)
    async with _session(parts, exchange) as (upload, staged):
        chunk = _chunk(exchange)
        if chunk is not None and chunk.offset != staged.offset:
            return _out_of_order(exchange, upload.id, staged.offset, chunk)
        if exchange.head.has_body:
            check_room(parts.uploads, exchange.head.fields.content_length or 0)
            await _receive(parts, exchange, upload, staged, chunk)
        try:
            await commit_staged(parts, exchange, staged, digest, upload.id)
        except RegistryError as error:
            if error.code == "DIGEST_INVALID":
                await parts.metadata.end_upload(exchange.repository, upload.id)
                staged.path.unlink(missing_ok=True)
            raise
        staged.path.unlink(missing_ok=True)
        return created(exchange, digest)


async def describe_upload(parts: Parts, exchange: Exchange) -> Answer:
    """How far a session has come."""
    upload = await _find(parts, exchange)
    return Answer(status=204, headers=_progress(exchange, upload.id, upload.received))


async def cancel_upload(parts: Parts, exchange: Exchange) -> Answer:
    """Forget a session and its bytes; a request that is just using them ends with its own answer, and removes them."""
    upload = await _find(parts, exchange)
    await parts.metadata.end_upload(exchange.repository, upload.id)
    path = parts.uploads / upload.id
    with contextlib.suppress(RegistryError):
        descriptor = lock_staged(path)
        path.unlink(missing_ok=True)
        os.close(descriptor)
    return Answer(status=204)


@contextlib.asynccontextmanager
async def _session(parts: Parts, exchange: Exchange) -> AsyncIterator[tuple[Upload, StagedFile]]:
    """The session of the path with its file, which nobody else has.

    Raises:
        RegistryError: BLOB_UPLOAD_UNKNOWN; 409 while another request writes to it.
    """
    refuse_push(exchange.repository)
    path = _staged_path(parts, exchange)
    descriptor = lock_staged(path)
    try:
        upload = await _find(parts, exchange)
        arguments = (path, descriptor, upload.received, upload.algorithm, upload.hash_state)
        if upload.received and upload.hash_state is None:  # has to be read again
            staged = await parts.in_thread(resume_staged, *arguments)
        else:
            staged = resume_staged(*arguments)
    except BaseException:
        os.close(descriptor)
        raise
    try:
        yield upload, staged
    finally:
        staged.close()


async def _find(parts: Parts, exchange: Exchange) -> Upload:
    id = _staged_path(parts, exchange).name
    upload = await parts.metadata.find_upload(exchange.repository, id)
    if upload is None or upload.image != exchange.image:
        raise upload_unknown(id)
    return upload


def _staged_path(parts: Parts, exchange: Exchange) -> Path:
    id = exchange.route.reference
    if len(id) != _ID_DIGITS or not id.isalnum() or not id.isascii():
        raise upload_unknown(id[:100])
    return parts.uploads / id


async def _receive(
    parts: Parts,
    exchange: Exchange,
    upload: Upload,
    staged: StagedFile,
    chunk: ByteRange | None,
) -> None:
    """Take the body, and note how far the session has come, whatever happens.

    Raises:
        RegistryError: BLOB_UPLOAD_UNKNOWN if the session has ended meanwhile; SIZE_INVALID.
        OSError: the disk is full.
    """
    if staged.is_sealed:
        await parts.in_thread(staged.unseal)
    goes_on = False
    try:
        await stream(exchange, staged)
    finally:
        crash_point("upload-received")
        goes_on = await parts.metadata.save_upload(
            upload.id,
            before=upload.received,
            received=staged.offset,
            hash_state=staged.running.state(),
        )
        if not goes_on:
            staged.path.unlink(missing_ok=True)
        crash_point("upload-saved")
    if not goes_on:
        raise upload_unknown(upload.id)
    if chunk is not None and staged.offset != chunk.offset + chunk.count:
        raise RegistryError(
            "SIZE_INVALID",
            f"the chunk has {staged.offset - chunk.offset} bytes, its Content-Range says {chunk.count}",
        )


def _algorithm(exchange: Exchange) -> str:
    algorithm = exchange.parameter("digest-algorithm") or ALGORITHMS[0]
    if algorithm not in ALGORITHMS:
        raise RegistryError(
            "DIGEST_INVALID", f"{algorithm[:50]!r} is not one of {', '.join(ALGORITHMS)}"
        )
    return algorithm


def _chunk(exchange: Exchange) -> ByteRange | None:
    """Where the body says that it belongs.

    Raises:
        RegistryError: what it says cannot be read, or is not as long as the body.
    """
    text = exchange.head.get("content-range")
    if text is None:
        return None
    chunk = parse_content_range(text)
    if chunk is None:
        raise RegistryError(
            "BLOB_UPLOAD_INVALID", f"Content-Range is FIRST-LAST, not {text[:100]!r}", status=416
        )
    length = exchange.head.fields.content_length
    if length is not None and length != chunk.count:
        raise RegistryError(
            "SIZE_INVALID", f"the chunk has {length} bytes, its Content-Range says {chunk.count}"
        )
    return chunk


def _out_of_order(exchange: Exchange, id: str, offset: int, chunk: ByteRange) -> Answer:
    return error_answer(
        416,
        "RANGE_INVALID",
        f"the chunk begins at {chunk.offset}, the upload is at {offset}",
        headers=_progress(exchange, id, offset),
    )


def _progress(exchange: Exchange, id: str, offset: int) -> Headers:
    return (
        ("Location", f"/v2/{exchange.route.name}/blobs/uploads/{id}"),
        ("Range", f"0-{max(0, offset - 1)}"),
        ("Docker-Upload-UUID", id),
    )
