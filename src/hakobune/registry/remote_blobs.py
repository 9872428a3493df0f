"""Blobs of remote repositories: from here, from another repository here if the upstream has it too, or fetched while they are sent."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import cast

from hakobune.oci.digest import Digest
from hakobune.registry.arrival import arriving_size
from hakobune.registry.asking import Asked, AskedByHttp, AskedHere, Trail
from hakobune.registry.blobs import Storage, commit_blob
from hakobune.registry.errors import RegistryError
from hakobune.registry.fetch import Fetches, Job
from hakobune.registry.freshness import Trouble
from hakobune.registry.growing import Growing
from hakobune.registry.metadata import Metadata, StoredBlob
from hakobune.registry.quota import check_room
from hakobune.registry.remote_asking import RemoteAsking
from hakobune.registry.repository import Repository
from hakobune.registry.sweep import retire_unnamed
from hakobune.registry.upstream_errors import AbsentError, UpstreamError, Wanted, answer_for


class RemoteBlobs:
    """The blobs of all remote repositories, for one worker.

    Args:
        partial: the folder of blobs on their way.
    """

    def __init__(
        self,
        metadata: Metadata,
        storage: Storage,
        fetches: Fetches,
        asking: RemoteAsking,
        *,
        partial: Path,
    ) -> None:
        self._metadata = metadata
        self._storage = storage
        self._fetches = fetches
        self._asking = asking
        self._partial = partial

    async def open_blob(
        self, repository: Repository, image: str, digest: str, trail: Trail
    ) -> StoredBlob | Growing:
        """A blob that is here, or one that is just arriving.

        Raises:
            RegistryError: BLOB_UNKNOWN, or why the upstream does not give it.
        """
        asked: Asked | None = None
        for _ in range(3):
            if (found := await self._metadata.find_blob(repository, digest)) is not None:
                return found
            asked = asked or await self._asking.asked(repository, trail, cached=False)
            try:
                opened = await self._open(repository, image, digest, asked)
            except (AbsentError, UpstreamError) as error:
                raise _unknown(repository, image, digest, error) from error
            if opened is not None:
                return opened
        raise _unknown(repository, image, digest, AbsentError("its upstream"))

    async def _open(
        self, repository: Repository, image: str, digest: str, asked: Asked
    ) -> StoredBlob | Growing | None:
        if isinstance(asked, AskedHere):
            return await self._open_here(repository, image, digest, asked)
        if (mounted := await self._mount(repository, image, digest, asked)) is not None:
            return mounted
        check_room(self._partial, 0)
        client = cast(AskedByHttp, asked).client
        parsed = Digest.parse(digest)
        job = Job(
            parsed,
            repository.id,
            lambda offset: client.open_blob(image, parsed, offset),
            functools.partial(self._commit, repository),
            functools.partial(self._is_known, repository, parsed),
            functools.partial(check_room, self._partial),
        )

        async def prove() -> None:
            await self._asking.answer(repository, asked.blob_size(image, digest), counts=False)

        return await self._asking.answer(
            repository, self._fetches.open(job, prove=prove), counts=False
        )

    async def _open_here(
        self, repository: Repository, image: str, digest: str, asked: AskedHere
    ) -> StoredBlob | Growing | None:
        found = await asked.open_blob(image, digest)
        if isinstance(found, Growing):
            return found
        source = await self._metadata.repositories_with_blob(digest, 1)
        for other in source:
            mounted = await self._metadata.mount_blob(other, repository, digest)
            if mounted is not None:
                return mounted
        return None

    async def _mount(
        self, repository: Repository, image: str, digest: str, asked: Asked
    ) -> StoredBlob | None:
        """Link what another repository has already, if the upstream has it too: whoever may read here may have it then."""
        for other in await self._metadata.repositories_with_blob(digest, 1):
            size = await self._asking.answer(
                repository, asked.blob_size(image, digest), counts=False
            )
            stored = await self._metadata.find_blob(other, digest)
            if stored is not None and size in (None, stored.size):
                return await self._metadata.mount_blob(other, repository, digest)
        return None

    async def blob_size(self, repository: Repository, image: str, digest: str, trail: Trail) -> int:
        """What a HEAD of a blob says; one that is not here is asked for upstream (distribution#4747).

        Raises:
            RegistryError: BLOB_UNKNOWN, or why the upstream does not say.
        """
        found = await self._metadata.find_blob(repository, digest)
        if found is not None:
            return found.size
        arriving = arriving_size(self._partial, Digest.parse(digest), repository.id)
        if arriving is not None:
            return arriving
        asked = await self._asking.asked(repository, trail, cached=False)
        try:
            size = await self._asking.answer(
                repository, asked.blob_size(image, digest), counts=False
            )
        except (AbsentError, UpstreamError) as error:
            raise _unknown(repository, image, digest, error) from error
        if size is None:
            silent = UpstreamError(Trouble.BROKEN, asked.name, "it does not say how long it is")
            raise _unknown(repository, image, digest, silent)
        return size

    async def _commit(self, repository: Repository, digest: Digest, path: Path, size: int) -> None:
        async def link(key: str) -> None:
            await self._metadata.link_blob(
                repository, str(digest), size, key, still_there=self._storage.is_there
            )

        retire = functools.partial(retire_unnamed, self._metadata, self._storage)
        await commit_blob(
            self._storage, link, path, str(digest), retire=retire, run=self._fetches.run
        )

    async def _is_known(self, repository: Repository, digest: Digest) -> bool:
        return await self._metadata.find_blob(repository, str(digest)) is not None


def _unknown(
    repository: Repository, image: str, digest: str, failure: AbsentError | UpstreamError
) -> RegistryError:
    wanted = Wanted("BLOB", f"the blob {digest} of {repository.path}/{image}")
    return answer_for(failure, wanted)
