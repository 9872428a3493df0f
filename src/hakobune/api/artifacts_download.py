"""Artifact Registry's media download: the bytes of a file, that is of a blob which the repository has."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import chain

from starlette.responses import Response, StreamingResponse

from hakobune.api.artifacts_context import Call, Registry
from hakobune.api.artifacts_names import image_of
from hakobune.registry.blobs import Storage
from hakobune.registry.manifest import check_digest
from hakobune.serving.errors import NotFoundError


class Downloads:
    """One method an RPC."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def download(self, call: Call) -> Response:
        """The whole blob, as it is stored; of a remote repository only what is cached."""
        stored = await self._registry.repository(call.repository)
        digest = check_digest(image_of(call.ids["file"]))
        blob = await self._registry.metadata.find_blob(stored, digest)
        if blob is None:
            raise NotFoundError(f"there is no file {call.repository.file(digest)}")
        try:
            content = await asyncio.to_thread(
                _open, self._registry.open_storage(), blob.storage_key, blob.size
            )
        except FileNotFoundError as error:
            raise NotFoundError(
                f"the content of {call.repository.file(digest)} is gone",
                fix="hako registry verify",
            ) from error
        return StreamingResponse(
            content,
            media_type="application/octet-stream",
            headers={"Content-Length": str(blob.size), "Docker-Content-Digest": digest},
        )


def _open(storage: Storage, key: str, size: int) -> Iterator[bytes]:
    """The content, of which the first piece has been read: what is missing is known before the head is sent."""
    pieces = storage.read(key, 0, size)
    first = next(pieces, b"")
    return chain((first,), pieces)
