"""Virtual repositories: one name before several repositories, asked in falling priority. The first that has it wins; nothing is merged.

A repository that fails stands in the way of those below it, unless its policy says `skip_unavailable`: else an outage
above would let another's image of the same name through. By digest there is nothing to confuse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hakobune.registry.asking import Reader, Trail
from hakobune.registry.errors import RegistryError, ResourceError
from hakobune.registry.found import Found, Names, Referrers, earlier
from hakobune.registry.growing import Growing
from hakobune.registry.metadata import Metadata, StoredBlob
from hakobune.registry.metadata_blobs import blob_unknown
from hakobune.registry.remote_listing import union_of_referrers
from hakobune.registry.repository import Mode, Repository, parse_resource
from hakobune.registry.rows import manifest_unknown, name_unknown, places
from hakobune.registry.upstream_gate import UpstreamGate

_MOST_MEMBERS = 100


@dataclass(frozen=True, slots=True)
class Member:
    """A standard or remote repository behind a virtual one."""

    repository: Repository
    skip_unavailable: bool


class VirtualRepositories:
    """All virtual repositories, for one worker."""

    def __init__(self, metadata: Metadata, reader: Reader, gate: UpstreamGate) -> None:
        self._metadata = metadata
        self._reader = reader
        self._gate = gate

    async def members(self, repository: Repository) -> tuple[Member, ...]:
        """What stands behind *repository*, in falling priority; virtual ones are replaced by theirs, each once.

        Raises:
            RegistryError: one is not there, or may not be read, and its policy does not say `skip_unavailable`.
        """
        found: dict[int, Member] = {}
        await self._collect(repository, found, {repository.id}, skip=False)
        return tuple(found.values())

    async def _collect(
        self, repository: Repository, found: dict[int, Member], seen: set[int], *, skip: bool
    ) -> None:
        for policy in repository.policies_by_priority:
            member = await self._member(policy.repository)
            may_skip = skip or policy.skip_unavailable
            if member is None:
                if may_skip:
                    continue
                raise RegistryError(
                    "UNAVAILABLE",
                    f"{repository.path} stands before {policy.repository}, which is not there "
                    f"(policy {policy.id}): remove the policy, or let it skip what is unavailable",
                )
            try:
                await self._gate.check(repository, member)
            except RegistryError:
                if may_skip:
                    continue
                raise
            if member.mode is not Mode.VIRTUAL:
                found.setdefault(member.id, Member(member, may_skip))
            elif member.id not in seen and len(seen) < _MOST_MEMBERS:
                seen.add(member.id)
                await self._collect(member, found, seen, skip=may_skip)

    async def _member(self, resource: str) -> Repository | None:
        try:
            project, _, name = parse_resource(resource)
        except ResourceError:
            return None
        return await self._metadata.find_repository(project, name)

    # Manifests

    async def find_manifest(
        self, repository: Repository, image: str, reference: str, trail: Trail
    ) -> Found:
        """The manifest of the first repository that has it.

        Raises:
            RegistryError: MANIFEST_UNKNOWN; or the error of a repository that stands in the way.
        """
        members = await self.members(repository)
        if ":" in reference:
            return await self._by_digest(repository, members, image, reference, trail)
        fresh_s: float | None = None
        notes: list[str] = []
        for member in members:
            try:
                found = await self._reader.find_manifest(member.repository, image, reference, trail)
            except RegistryError as error:
                if error.status == 404:
                    fresh_s = earlier(fresh_s, _absent_for(member.repository))
                    continue
                if not member.skip_unavailable:
                    raise
                notes.append(f"skipped {member.repository.path}: {error.message}")
                fresh_s = 0.0
                continue
            note = "; ".join([*notes, found.note] if found.note else notes)
            return replace(found, note=note, fresh_s=earlier(fresh_s, found.fresh_s))
        raise manifest_unknown(repository, image, reference)

    async def _by_digest(
        self,
        repository: Repository,
        members: Sequence[Member],
        image: str,
        digest: str,
        trail: Trail,
    ) -> Found:
        held = await self._repositories(
            "SELECT repository FROM manifest WHERE image = $1 AND digest = $2 AND repository IN",
            members,
            image,
            digest,
        )
        named = held or await self._naming(members, digest, image)
        failure: RegistryError | None = None
        for member in _first(members, named):
            try:
                return await self._reader.find_manifest(member.repository, image, digest, trail)
            except RegistryError as error:
                failure = failure if error.status == 404 else error
        raise failure or manifest_unknown(repository, image, digest)

    # Blobs

    async def open_blob(
        self, repository: Repository, image: str, digest: str, trail: Trail
    ) -> StoredBlob | Growing:
        """The blob, from whichever repository has it.

        Raises:
            RegistryError: BLOB_UNKNOWN, or why none gives it.
        """
        failure: RegistryError | None = None
        for member in await self._blob_sources(repository, digest):
            try:
                return await self._reader.open_blob(member.repository, image, digest, trail)
            except RegistryError as error:
                failure = failure if error.status == 404 else error
        raise failure or blob_unknown(digest)

    async def blob_size(self, repository: Repository, image: str, digest: str, trail: Trail) -> int:
        """What a HEAD of the blob says.

        Raises:
            RegistryError: as `open_blob`.
        """
        failure: RegistryError | None = None
        for member in await self._blob_sources(repository, digest):
            try:
                return await self._reader.blob_size(member.repository, image, digest, trail)
            except RegistryError as error:
                failure = failure if error.status == 404 else error
        raise failure or blob_unknown(digest)

    async def _blob_sources(self, repository: Repository, digest: str) -> tuple[Member, ...]:
        """Where the blob may be: those that hold it; else those that a manifest of theirs says should; else all."""
        members = await self.members(repository)
        held = await self._repositories(
            "SELECT repository FROM repository_blob WHERE digest = $1 AND repository IN",
            members,
            digest,
        )
        return _first(members, held or await self._naming(members, digest))

    async def _naming(
        self, members: Sequence[Member], digest: str, image: str = ""
    ) -> frozenset[int]:
        """The repositories with a manifest that names *digest*: the one that gave the parent has the child."""
        if image:
            return await self._repositories(
                "SELECT repository FROM manifest_ref WHERE child = $1 AND image = $2 AND repository IN",
                members,
                digest,
                image,
            )
        return await self._repositories(
            "SELECT repository FROM manifest_ref WHERE child = $1 AND repository IN",
            members,
            digest,
        )

    async def _repositories(
        self, statement: str, members: Sequence[Member], *values: str
    ) -> frozenset[int]:
        if not members:
            return frozenset()
        ids = [member.repository.id for member in members]
        rows = await self._metadata.sql.fetch(
            f"{statement} ({places(len(values) + 1, len(ids))})", *values, *ids
        )
        return frozenset(row[0] for row in rows)

    # Lists

    async def list_tags(self, repository: Repository, image: str, trail: Trail) -> Names:
        """The tags of all repositories, each once.

        Raises:
            RegistryError: NAME_UNKNOWN if none knows the image; or the error of one that stands in the way.
        """
        names: set[str] = set()
        notes: list[str] = []
        known = False
        for member in await self.members(repository):
            try:
                found = await self._reader.list_tags(member.repository, image, trail)
            except RegistryError as error:
                if error.status != 404 and not member.skip_unavailable:
                    raise
                if error.status != 404:
                    notes.append(f"skipped {member.repository.path}: {error.message}")
                continue
            known = True
            names.update(found.names)
            notes += [found.note] if found.note else []
        if not known:
            raise name_unknown(repository, image)
        return Names(names=tuple(sorted(names)), note="; ".join(notes))

    async def referrers(
        self, repository: Repository, image: str, digest: str, artifact_type: str, trail: Trail
    ) -> Referrers:
        """The referrers in all repositories, each once; a repository that fails is told of, and skipped."""
        lists = []
        notes: list[str] = []
        for member in await self.members(repository):
            try:
                found = await self._reader.referrers(
                    member.repository, image, digest, artifact_type, trail
                )
            except RegistryError as error:
                if error.status != 404:
                    notes.append(f"skipped {member.repository.path}: {error.message}")
                continue
            lists.append(found.descriptors)
            notes += [found.note] if found.note else []
        return Referrers(
            descriptors=union_of_referrers(tuple(lists), artifact_type), note="; ".join(notes)
        )


def _first(members: Sequence[Member], likely: frozenset[int]) -> tuple[Member, ...]:
    """Only those that are known to have it, if any is; in falling priority."""
    if not likely:
        return tuple(members)
    return tuple(member for member in members if member.repository.id in likely)


def _absent_for(repository: Repository) -> float | None:
    """For how long what a repository does not have is not there."""
    return None if repository.remote is None else float(repository.remote.negative_ttl_s)
