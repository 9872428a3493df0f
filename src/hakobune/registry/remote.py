"""Remote repositories: what is asked for is served from here, and fetched from the upstream the first time.

By digest: local or upstream, never revalidated. By tag: fresh for the repository's ttl, then a conditional HEAD, and a GET only
if the digest moved. What is cached is served with a warning whenever the upstream fails. Decisions are `freshness`'s.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from hakobune.oci.digest import Digest
from hakobune.registry.arrival import arriving_size
from hakobune.registry.asking import Asked, AskedByHttp, AskedHere, Content, Reader, Trail
from hakobune.registry.blobs import Storage, commit_blob
from hakobune.registry.errors import RegistryError
from hakobune.registry.fetch import Fetches, Job
from hakobune.registry.found import Found
from hakobune.registry.freshness import (
    Absent,
    Failed,
    Heard,
    Known,
    Named,
    Policy,
    Step,
    Then,
    Trouble,
    after_asking,
    before_asking,
    stale_note,
)
from hakobune.registry.growing import Growing
from hakobune.registry.manifest import StoredManifest, parse_manifest
from hakobune.registry.metadata import Metadata, RemoteTag, StoredBlob
from hakobune.registry.question_lock import QuestionLocks
from hakobune.registry.quota import check_room
from hakobune.registry.repository import Repository
from hakobune.registry.rows import SECOND
from hakobune.registry.upstream import OwnUpstream, UpstreamConfigError, as_own, parse_upstream
from hakobune.registry.upstream_errors import AbsentError, UpstreamError, Wanted, answer_for
from hakobune.registry.upstream_gate import UpstreamGate
from hakobune.registry.upstreams import Upstreams

DELETED_NOTE: Final = "{name} no longer has this; it is served from the cache"
_T = TypeVar("_T")
logger = logging.getLogger(__name__)


class RemoteRepositories:
    """All remote repositories, for one worker.

    Args:
        partial: the folder of blobs on their way.
        own_hosts: `HOST[:PORT]` of this installation: these are not asked by HTTP.
    """

    def __init__(
        self,
        metadata: Metadata,
        storage: Storage,
        fetches: Fetches,
        upstreams: Upstreams,
        *,
        reader: Reader,
        partial: Path,
        own_hosts: tuple[str, ...],
        gate: UpstreamGate,
    ) -> None:
        self._metadata = metadata
        self._storage = storage
        self._fetches = fetches
        self._upstreams = upstreams
        self._reader = reader
        self._partial = partial
        self._own_hosts = own_hosts
        self._gate = gate
        self._questions = QuestionLocks(partial)
        self._under_way: dict[Hashable, asyncio.Task[Any]] = {}

    # Manifests

    async def find_manifest(
        self, repository: Repository, image: str, reference: str, trail: Trail
    ) -> Found:
        """The manifest of a tag or digest, from here or from the upstream.

        Raises:
            RegistryError: MANIFEST_UNKNOWN, or why the upstream does not give it.
        """
        stored = await self._metadata.find_manifest(repository, image, reference)
        if stored is not None and ":" in reference:
            return Found(manifest=stored, repository=repository)
        known = await self._known(repository, image, reference, stored)
        policy = await self.policy(repository)
        down = self.failure(repository)
        down_until = self._now() + 1.0 if down is not None else 0.0
        step = before_asking(known, policy, now=self._now(), down_until=down_until)
        match step:
            case Step.SERVE if stored is not None:
                left = policy.ttl_s - (self._now() - known.checked_at)
                return Found(manifest=stored, repository=repository, fresh_s=max(left, 0.0))
            case Step.DELETED if stored is not None:
                return self._deleted(repository, stored)
            case Step.STALE if stored is not None:
                return self._stale(repository, stored, known, str(down))
            case Step.MISSING:
                raise self._unknown(repository, image, reference, AbsentError("its upstream"))
            case _:
                key = ("manifest", repository.id, image, reference)
                return await self._once(
                    key, lambda: self._ask_alone(repository, image, reference, policy, trail)
                )

    async def _ask_alone(
        self, repository: Repository, image: str, reference: str, policy: Policy, trail: Trail
    ) -> Found:
        """Ask, unless another process has done so while we waited for it."""
        async with self._questions.hold(f"{repository.id}/{image}@{reference}") as waited:
            stored = await self._metadata.find_manifest(repository, image, reference)
            known = await self._known(repository, image, reference, stored)
            if waited and stored is not None:
                fresh = before_asking(known, policy, now=self._now()) is Step.SERVE
                if fresh or ":" in reference:
                    return Found(manifest=stored, repository=repository, fresh_s=0.0)
            return await self._ask_manifest(
                repository, image, reference, stored, known, policy, trail
            )

    async def _ask_manifest(
        self,
        repository: Repository,
        image: str,
        reference: str,
        stored: StoredManifest | None,
        known: Known,
        policy: Policy,
        trail: Trail,
    ) -> Found:
        """Ask the upstream, and fetch what moved."""
        asked = await self.asked(repository, trail, cached=stored is not None)
        failure: AbsentError | UpstreamError = AbsentError(asked.name)
        try:
            if isinstance(asked, AskedHere):
                return await self._found_here(repository, image, reference, stored, asked)
            digest = known.digest and await self.answer(
                repository, asked.check(image, reference, known.digest)
            )
            heard: Heard = Named(digest=digest)
            if after_asking(known, heard, policy, now=self._now()) is Then.FETCH:
                content = await self._content(repository, image, reference, digest, asked)
                manifest = await self._store(repository, image, reference, content, asked)
                await self._note(repository, image, reference, digest=content.digest)
                fresh_s = None if ":" in reference else policy.ttl_s
                return Found(manifest=manifest, repository=repository, fresh_s=fresh_s)
        except (AbsentError, UpstreamError) as error:
            failure, heard = error, _heard(error, asked, cached=bool(known.digest))
        then = after_asking(known, heard, policy, now=self._now())
        match then:
            case Then.SERVE if stored is not None:
                await self._note(repository, image, reference, digest=stored.digest)
                return Found(manifest=stored, repository=repository, fresh_s=policy.ttl_s)
            case Then.STALE if stored is not None:
                logger.info(
                    "stale served", extra={"repository": repository.path, "why": str(failure)}
                )
                return self._stale(repository, stored, known, str(failure))
            case Then.DELETED if stored is not None:
                await self._note_absent(repository, image, reference, stored.digest, policy)
                return self._deleted(repository, stored)
            case Then.MISSING:
                await self._note_absent(repository, image, reference, "", policy)
                if stored is not None and ":" not in reference:
                    await self._metadata.delete_tag(repository, image, reference, _actor(asked))
                failure = AbsentError(asked.name)
            case _:
                pass
        raise self._unknown(repository, image, reference, failure)

    async def _found_here(
        self,
        repository: Repository,
        image: str,
        reference: str,
        stored: StoredManifest | None,
        asked: AskedHere,
    ) -> Found:
        """From another repository of this installation: always asked, since that costs nothing; kept, since it may be deleted there."""
        content = await self.answer(repository, asked.manifest(image, reference))
        if stored is None or stored.digest != content.digest:
            stored = await self._store(repository, image, reference, content, asked)
        return Found(manifest=stored, repository=repository, fresh_s=content.fresh_s)

    async def _content(
        self, repository: Repository, image: str, reference: str, digest: str, asked: Asked
    ) -> Content:
        """What a name names now; not fetched if only the name is new."""
        if digest:
            here = await self._metadata.find_manifest(repository, image, digest)
            if here is not None:
                return Content(digest, here.media_type, here.body)
        return await self.answer(repository, asked.manifest(image, digest or reference))

    async def _store(
        self, repository: Repository, image: str, reference: str, content: Content, asked: Asked
    ) -> StoredManifest:
        references = [content.digest] + ([reference] if ":" not in reference else [])
        try:
            parsed = parse_manifest(content.body, content.media_type)
            await self._metadata.put_manifest(
                repository,
                image,
                references,
                content.body,
                content.media_type,
                _actor(asked),
                children_must_exist=False,
            )
        except RegistryError as error:
            if error.code not in ("MANIFEST_INVALID", "SIZE_INVALID", "DIGEST_INVALID"):
                raise
            raise UpstreamError(Trouble.BROKEN, asked.name, error.message) from error
        return StoredManifest(
            digest=content.digest,
            media_type=parsed.media_type,
            body=content.body,
            artifact_type=parsed.artifact_type,
            subject=parsed.subject,
        )

    # Blobs

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
            asked = asked or await self.asked(repository, trail, cached=False)
            try:
                opened = await self._open(repository, image, digest, asked)
            except (AbsentError, UpstreamError) as error:
                raise self._blob_unknown(repository, image, digest, error) from error
            if opened is not None:
                return opened
        raise self._blob_unknown(repository, image, digest, AbsentError("its upstream"))

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
            await self.answer(repository, asked.blob_size(image, digest), counts=False)

        return await self.answer(repository, self._fetches.open(job, prove=prove), counts=False)

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
            size = await self.answer(repository, asked.blob_size(image, digest), counts=False)
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
        asked = await self.asked(repository, trail, cached=False)
        try:
            size = await self.answer(repository, asked.blob_size(image, digest), counts=False)
        except (AbsentError, UpstreamError) as error:
            raise self._blob_unknown(repository, image, digest, error) from error
        if size is None:
            silent = UpstreamError(Trouble.BROKEN, asked.name, "it does not say how long it is")
            raise self._blob_unknown(repository, image, digest, silent)
        return size

    async def _commit(self, repository: Repository, digest: Digest, path: Path, size: int) -> None:
        async def link(key: str) -> None:
            await self._metadata.link_blob(
                repository, str(digest), size, key, still_there=self._storage.is_there
            )

        await commit_blob(self._storage, link, path, str(digest), run=self._fetches.run)

    async def _is_known(self, repository: Repository, digest: Digest) -> bool:
        return await self._metadata.find_blob(repository, str(digest)) is not None

    async def close(self) -> None:
        """Ask no more."""
        tasks = tuple(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._questions.close()

    # Asking

    async def asked(self, repository: Repository, trail: Trail, *, cached: bool) -> Asked:
        """The upstream of a remote repository.

        Raises:
            RegistryError: it cannot be asked: its configuration is wrong, or goes in circles.
        """
        upstream = self._parse(repository)
        if isinstance(upstream, OwnUpstream):
            own = await self._metadata.find_repository(upstream.project, upstream.repository_id)
            if own is not None:
                trail |= {repository.id}
                if own.id in trail:
                    raise RegistryError(
                        "UNAVAILABLE", f"the upstreams of {repository.path} go in circles"
                    )
                await self._gate.check(repository, own)
                return AskedHere(self._reader, own, upstream.image, trail)
            if upstream.otherwise is None:
                raise RegistryError(
                    "UNAVAILABLE",
                    f"the upstream of {repository.path} is the repository {upstream}, which is not there",
                )
            upstream = upstream.otherwise
        return AskedByHttp(
            self._upstreams.client(repository, upstream),
            functools.partial(self._fetches.ask, repository.id),
            cached=cached,
        )

    def _parse(self, repository: Repository) -> Any:
        try:
            remote = repository.remote
            return as_own(parse_upstream(remote.upstream if remote else ""), self._own_hosts)
        except UpstreamConfigError as error:
            raise RegistryError("UNAVAILABLE", f"{repository.path}: {error.why}") from error

    def failure(self, repository: Repository) -> UpstreamError | None:
        """How its upstream failed just now."""
        return self._upstreams.failure(repository, now=self._now())

    async def answer(
        self, repository: Repository, question: Awaitable[_T], *, counts: bool = True
    ) -> _T:
        """Await what an upstream answers, and remember whether it does.

        Args:
            counts: it may be a pull in the sense of the upstream's limit; blobs are none.

        Raises:
            AbsentError, UpstreamError: it does not have it; no answer, or it is not to be asked now.
        """
        limit = self._upstreams.limit(repository, now=self._now())
        if limit is not None and counts:
            if isinstance(question, Coroutine):
                question.close()
            raise limit
        try:
            answer = await question
        except AbsentError:
            self._upstreams.note_success(repository)
            raise
        except UpstreamError as error:
            self._upstreams.note_failure(repository, error, now=self._now())
            raise
        self._upstreams.note_success(repository)
        return answer

    async def policy(self, repository: Repository) -> Policy:
        """How it keeps up with its upstream; one that is here is always asked."""
        remote = repository.remote
        assert remote is not None
        upstream = self._parse(repository)
        here = isinstance(upstream, OwnUpstream) and (
            await self._metadata.find_repository(upstream.project, upstream.repository_id)
        )
        return Policy(
            ttl_s=0.0 if here else float(remote.tag_ttl_s),
            negative_ttl_s=0.0 if here else float(remote.negative_ttl_s),
            serve_deleted=remote.serve_deleted,
        )

    async def _once(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """One question for all who ask it at the same time; it goes on when they are gone."""
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(work())
            self._under_way[key] = task
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
            task.add_done_callback(_look_at)
        return cast(_T, await asyncio.shield(task))

    # Notes

    async def _known(
        self, repository: Repository, image: str, reference: str, stored: StoredManifest | None
    ) -> Known:
        row = await self._metadata.find_remote_tag(repository, image, reference)
        digest = stored.digest if stored is not None else ""
        if row is None:
            return Known(digest=digest)
        return Known(
            digest=digest,
            checked_at=row.checked_at / SECOND,
            negative_until=row.negative_until / SECOND,
        )

    async def _note(
        self, repository: Repository, image: str, reference: str, *, digest: str
    ) -> None:
        if ":" not in reference:
            known = RemoteTag(digest=digest, checked_at=self._metadata.clock())
            await self._metadata.save_remote_tag(repository, image, reference, known)

    async def _note_absent(
        self, repository: Repository, image: str, reference: str, digest: str, policy: Policy
    ) -> None:
        now = self._metadata.clock()
        until = now + int(policy.negative_ttl_s * SECOND)
        known = RemoteTag(digest=digest, checked_at=now, negative_until=until)
        await self._metadata.save_remote_tag(repository, image, reference, known)

    def _now(self) -> float:
        return self._metadata.clock() / SECOND

    def _stale(
        self, repository: Repository, stored: StoredManifest, known: Known, why: str
    ) -> Found:
        note = stale_note(known, why, now=self._now())
        return Found(manifest=stored, repository=repository, note=note, fresh_s=0.0)

    def _deleted(self, repository: Repository, stored: StoredManifest) -> Found:
        name = repository.remote.upstream if repository.remote else ""
        note = DELETED_NOTE.format(name=name)
        return Found(manifest=stored, repository=repository, note=note, fresh_s=0.0)

    def _unknown(
        self,
        repository: Repository,
        image: str,
        reference: str,
        failure: AbsentError | UpstreamError,
    ) -> RegistryError:
        mark = "@" if ":" in reference else ":"
        wanted = Wanted("MANIFEST", f"{repository.path}/{image}{mark}{reference}")
        return answer_for(failure, wanted)

    def _blob_unknown(
        self, repository: Repository, image: str, digest: str, failure: AbsentError | UpstreamError
    ) -> RegistryError:
        wanted = Wanted("BLOB", f"the blob {digest} of {repository.path}/{image}")
        return answer_for(failure, wanted)


def _heard(error: AbsentError | UpstreamError, asked: Asked, *, cached: bool) -> Heard:
    """A registry that shows nobody in particular what is private says 401 or 403 for what is not there."""
    if isinstance(error, AbsentError):
        return Absent()
    anonymous = isinstance(asked, AskedByHttp) and asked.client.anonymous
    if error.trouble is Trouble.REFUSED and error.status in (401, 403) and anonymous and not cached:
        return Absent()
    return Failed(trouble=error.trouble, retry_after_s=error.retry_after_s)


def _actor(asked: Asked) -> str:
    return f"upstream:{asked.name}"


def _look_at(task: asyncio.Task[Any]) -> None:
    """Whoever asked may be gone: the error is nobody's then."""
    if not task.cancelled():
        task.exception()
