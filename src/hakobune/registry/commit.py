"""From a file of bytes to a blob of a repository.

A 201 is strict: the file is synced, linked to its place and its folder synced before the database says that it is there.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from hakobune.registry.answer import Answer
from hakobune.registry.blobs import commit_blob
from hakobune.registry.crash_point import crash_point
from hakobune.registry.errors import RegistryError
from hakobune.registry.exchange import Exchange
from hakobune.registry.parts import Parts
from hakobune.registry.staged import StagedFile
from hakobune.registry.sweep import retire_unnamed


async def stream(exchange: Exchange, staged: StagedFile) -> None:
    """Append the request's body to a staged file; what came before an error is in it.

    Raises:
        ClientGoneError: the rest will not come.
        OSError: the disk is full.
    """
    try:
        await exchange.receive(staged.write)
    finally:
        staged.flush()


async def commit_staged(
    parts: Parts, exchange: Exchange, staged: StagedFile, digest: str, upload: str
) -> None:
    """Make a blob of a staged file.

    Raises:
        RegistryError: DIGEST_INVALID if its bytes are others.
    """
    algorithm = digest.partition(":")[0]
    if algorithm == staged.running.algorithm:
        actual = staged.digest(algorithm)
    else:
        actual = await parts.in_thread(staged.digest, algorithm)
    if actual != digest:
        raise RegistryError(
            "DIGEST_INVALID",
            f"the {staged.offset} bytes that came have the digest {actual}",
            {"digest": digest, "actual": actual},
        )
    await store_file(parts, exchange, staged.path, digest, staged.offset, upload)


async def store_file(
    parts: Parts, exchange: Exchange, path: Path, digest: str, size: int, upload: str
) -> None:
    """Make a file, whose bytes have that digest, a blob of the exchange's repository; the file is the caller's.

    Args:
        upload: the session that ends with it; "" for none.

    Raises:
        RegistryError: a quota would be exceeded, or the repository is gone; nothing is stored.
    """

    def still_there(key: str) -> bool:
        crash_point("blob-committing")
        return parts.storage.is_there(key)

    async def link(key: str) -> None:
        crash_point("blob-stored")
        await parts.metadata.link_blob(
            exchange.repository,
            digest,
            size,
            key,
            upload=upload,
            still_there=still_there,
        )

    retire = partial(retire_unnamed, parts.metadata, parts.storage)
    await commit_blob(parts.storage, link, path, digest, retire=retire, run=parts.in_thread)
    crash_point("blob-committed")


def created(exchange: Exchange, digest: str) -> Answer:
    """201: the blob is there and stays."""
    return Answer(
        status=201,
        headers=(
            ("Location", f"/v2/{exchange.route.name}/blobs/{digest}"),
            ("Docker-Content-Digest", digest),
        ),
    )
