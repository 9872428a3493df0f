"""Blobs that come without an upload session: in one request, from another repository, or as a file of this machine's owner."""

from __future__ import annotations

import os
import secrets
import stat
from typing import Final

from hakobune.registry.admission import Admission
from hakobune.registry.answer import Answer
from hakobune.registry.commit import commit_staged, created, store_file, stream
from hakobune.registry.errors import RegistryError
from hakobune.registry.exchange import Exchange, parse_name
from hakobune.registry.manifest import check_digest
from hakobune.registry.parts import Parts
from hakobune.registry.repository import Repository
from hakobune.registry.staged import create_staged

_NAME_BYTES: Final = 16


async def mount(
    parts: Parts, admission: Admission, exchange: Exchange, digest: str
) -> Answer | None:
    """Link a blob that the registry has into this repository, if the client may pull it where it is."""
    target = exchange.repository
    if (await parts.metadata.find_blob(target, digest)) is not None:
        return created(exchange, digest)
    source_name = exchange.parameter("from")
    if source_name is not None:
        try:
            name = parse_name(source_name)
        except RegistryError:
            return None
        found = await parts.metadata.find_repository(name.project, name.repository)
        sources: tuple[Repository, ...] = () if found is None else (found,)
    else:
        sources = await parts.metadata.repositories_with_blob(digest)
    for source in sources:
        image = source_name or f"{source.path}/{exchange.image}"
        if not await admission.may_pull(exchange, image, source, asked_for=source_name is not None):
            continue
        if await parts.metadata.mount_blob(source, target, digest) is not None:
            return created(exchange, digest)
    return None


async def take_link(parts: Parts, exchange: Exchange, link: str) -> Answer:
    """Make a blob of a file that this machine's owner has linked into `incoming` (their store has verified it)."""
    digest = check_digest(exchange.parameter("digest") or "")
    if "/" in link or link in ("", ".", ".."):
        raise RegistryError("BLOB_UPLOAD_INVALID", f"{link[:100]!r} is not the name of a file")
    path = parts.incoming / link
    try:
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode):
            raise RegistryError("BLOB_UPLOAD_INVALID", f"{link} is not a file")
        await store_file(parts, exchange, path, digest, found.st_size, "")
        path.unlink(missing_ok=True)
    except FileNotFoundError as error:
        raise RegistryError(
            "BLOB_UPLOAD_UNKNOWN", f"there is no file {link} in {parts.incoming}"
        ) from error
    return created(exchange, digest)


async def receive_whole(parts: Parts, exchange: Exchange, digest: str) -> Answer:
    """Take a blob that comes with the POST itself: no session is needed."""
    path = parts.uploads / f"whole-{secrets.token_hex(_NAME_BYTES)}"
    staged = create_staged(path, digest.partition(":")[0])
    try:
        await stream(exchange, staged)
        await commit_staged(parts, exchange, staged, digest, "")
    finally:
        staged.close()
        path.unlink(missing_ok=True)
    return created(exchange, digest)
