"""Where a repository's content comes from: its own rows, its upstream, or the repositories behind it.

One object a worker; the data plane asks it for everything that is pulled from a remote or virtual repository.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hakobune.registry.asking import Trail
from hakobune.registry.blobs import Storage
from hakobune.registry.fetch import Fetches
from hakobune.registry.found import Found, Names, Referrers
from hakobune.registry.growing import Growing
from hakobune.registry.metadata import Metadata, StoredBlob
from hakobune.registry.metadata_blobs import blob_unknown
from hakobune.registry.remote_asking import RemoteAsking
from hakobune.registry.remote_blobs import RemoteBlobs
from hakobune.registry.remote_listing import (
    RemoteLists,
    all_referrers,
    all_tags,
    union_of_referrers,
)
from hakobune.registry.remote_manifests import RemoteManifests
from hakobune.registry.repository import Mode, Repository
from hakobune.registry.rows import manifest_unknown
from hakobune.registry.upstream_gate import SameProject, UpstreamGate
from hakobune.registry.upstreams import OpenPassword, Upstreams
from hakobune.registry.virtual import VirtualRepositories

_NOBODY: Trail = frozenset()


class Sources:
    """Made on the loop that uses it; `close` ends what is under way.

    Args:
        partial: the folder of blobs on their way, one for all workers of the machine.
        open_password: the password of a remote repository's upstream, in clear; called when the upstream asks for it.
        env: for proxies (HTTPS_PROXY …) and registries.conf.
        home: `HAKO_HOME`, which may hold a `certs.d` of its own.
        own_hosts: `HOST[:PORT]` of this installation: upstreams there are not asked by HTTP.
        gate: which repository here may stand before which other one.
    """

    def __init__(
        self,
        metadata: Metadata,
        storage: Storage,
        *,
        partial: Path,
        open_password: OpenPassword,
        env: Mapping[str, str],
        home: Path,
        own_hosts: tuple[str, ...] = (),
        gate: UpstreamGate | None = None,
    ) -> None:
        gate = gate or SameProject()
        self._metadata = metadata
        self._fetches = Fetches(partial)
        self.upstreams = Upstreams(open_password, env, home)
        asking = RemoteAsking(
            metadata, self._fetches, self.upstreams, reader=self, own_hosts=own_hosts, gate=gate
        )
        self._manifests = RemoteManifests(metadata, asking, partial=partial)
        self._blobs = RemoteBlobs(metadata, storage, self._fetches, asking, partial=partial)
        self._lists = RemoteLists(metadata, asking)
        self._virtuals = VirtualRepositories(metadata, self, gate)

    async def find_manifest(
        self, repository: Repository, image: str, reference: str, trail: Trail = _NOBODY
    ) -> Found:
        """The manifest of a tag or digest.

        Raises:
            RegistryError: MANIFEST_UNKNOWN; TOOMANYREQUESTS or UNAVAILABLE if the upstream does not give it.
        """
        match repository.mode:
            case Mode.REMOTE:
                return await self._manifests.find_manifest(repository, image, reference, trail)
            case Mode.VIRTUAL:
                return await self._virtuals.find_manifest(repository, image, reference, trail)
            case Mode.STANDARD:
                stored = await self._metadata.find_manifest(repository, image, reference)
                if stored is None:
                    raise manifest_unknown(repository, image, reference)
                return Found(manifest=stored, repository=repository)

    async def open_blob(
        self, repository: Repository, image: str, digest: str, trail: Trail = _NOBODY
    ) -> StoredBlob | Growing:
        """A blob that is stored, or one that is just arriving: that one has to be closed.

        Raises:
            RegistryError: BLOB_UNKNOWN; TOOMANYREQUESTS or UNAVAILABLE if the upstream does not give it.
        """
        match repository.mode:
            case Mode.REMOTE:
                return await self._blobs.open_blob(repository, image, digest, trail)
            case Mode.VIRTUAL:
                return await self._virtuals.open_blob(repository, image, digest, trail)
            case Mode.STANDARD:
                stored = await self._metadata.find_blob(repository, digest)
                if stored is None:
                    raise blob_unknown(digest)
                return stored

    async def blob_size(
        self, repository: Repository, image: str, digest: str, trail: Trail = _NOBODY
    ) -> int:
        """What a HEAD of a blob says; nothing is fetched for it.

        Raises:
            RegistryError: as `open_blob`.
        """
        match repository.mode:
            case Mode.REMOTE:
                return await self._blobs.blob_size(repository, image, digest, trail)
            case Mode.VIRTUAL:
                return await self._virtuals.blob_size(repository, image, digest, trail)
            case Mode.STANDARD:
                stored = await self._metadata.find_blob(repository, digest)
                if stored is None:
                    raise blob_unknown(digest)
                return stored.size

    async def list_tags(self, repository: Repository, image: str, trail: Trail = _NOBODY) -> Names:
        """All tags of an image.

        Raises:
            RegistryError: NAME_UNKNOWN; TOOMANYREQUESTS or UNAVAILABLE if the upstream does not tell.
        """
        match repository.mode:
            case Mode.REMOTE:
                return await self._lists.list_tags(repository, image, trail)
            case Mode.VIRTUAL:
                return await self._virtuals.list_tags(repository, image, trail)
            case Mode.STANDARD:
                return Names(names=await all_tags(self._metadata, repository, image))

    async def referrers(
        self,
        repository: Repository,
        image: str,
        digest: str,
        artifact_type: str = "",
        trail: Trail = _NOBODY,
    ) -> Referrers:
        """All manifests that refer to *digest*; none is no error.

        Raises:
            RegistryError: TOOMANYREQUESTS or UNAVAILABLE if the upstream does not tell, and nothing is cached.
        """
        match repository.mode:
            case Mode.REMOTE:
                return await self._lists.referrers(repository, image, digest, artifact_type, trail)
            case Mode.VIRTUAL:
                return await self._virtuals.referrers(
                    repository, image, digest, artifact_type, trail
                )
            case Mode.STANDARD:
                found = await all_referrers(self._metadata, repository, image, digest)
                return Referrers(descriptors=union_of_referrers((found,), artifact_type))

    async def close(self) -> None:
        """End what is under way; other workers go on with what they read."""
        await self._manifests.close()
        await self._fetches.close()
        self.upstreams.close()
