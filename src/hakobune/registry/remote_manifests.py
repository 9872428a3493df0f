"""Manifests of remote repositories: by digest from here or the upstream, by tag as fresh as the repository wants them.

What is cached is served with a warning whenever the upstream fails. Decisions are `freshness`'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Hashable
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from hakobune.registry.asking import Asked, AskedByHttp, AskedHere, Content, Trail
from hakobune.registry.errors import RegistryError
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
from hakobune.registry.manifest import StoredManifest, parse_manifest
from hakobune.registry.metadata import Metadata, RemoteTag
from hakobune.registry.question_lock import QuestionLocks
from hakobune.registry.remote_asking import RemoteAsking
from hakobune.registry.repository import Repository
from hakobune.registry.rows import SECOND
from hakobune.registry.upstream_errors import AbsentError, UpstreamError, Wanted, answer_for

DELETED_NOTE: Final = "{name} no longer has this; it is served from the cache"
_T = TypeVar("_T")
logger = logging.getLogger(__name__)


class RemoteManifests:
    """The manifests of all remote repositories, for one worker.

    Args:
        partial: the folder in which all workers meet.
    """

    def __init__(self, metadata: Metadata, asking: RemoteAsking, *, partial: Path) -> None:
        self._metadata = metadata
        self._asking = asking
        self._questions = QuestionLocks(partial)
        self._under_way: dict[Hashable, asyncio.Task[Any]] = {}

    async def close(self) -> None:
        """Ask no more."""
        tasks = tuple(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._questions.close()

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
        policy = await self._asking.policy(repository)
        down = self._asking.failure(repository)
        down_until = self._asking.now + 1.0 if down is not None else 0.0
        step = before_asking(known, policy, now=self._asking.now, down_until=down_until)
        match step:
            case Step.SERVE if stored is not None:
                left = policy.ttl_s - (self._asking.now - known.checked_at)
                return Found(manifest=stored, repository=repository, fresh_s=max(left, 0.0))
            case Step.DELETED if stored is not None:
                return self._deleted(repository, stored)
            case Step.STALE if stored is not None:
                return self._stale(repository, stored, known, str(down))
            case Step.MISSING:
                raise self._unknown(repository, image, reference, AbsentError("its upstream"))
            case _:
                pass
        asked = await self._asking.asked(repository, trail, cached=stored is not None)
        if isinstance(asked, AskedHere):  # not to be waited for: it may wait for us
            return await self._ask(repository, image, reference, stored, known, policy, asked)
        return await self._once(
            (repository.id, image, reference),
            lambda: self._ask_alone(repository, image, reference, policy, asked),
        )

    async def _ask_alone(
        self, repository: Repository, image: str, reference: str, policy: Policy, asked: Asked
    ) -> Found:
        """Ask, unless another process has done so while we waited for it."""
        async with self._questions.hold(f"{repository.id}/{image}@{reference}") as waited:
            stored = await self._metadata.find_manifest(repository, image, reference)
            known = await self._known(repository, image, reference, stored)
            if waited and stored is not None:
                fresh = before_asking(known, policy, now=self._asking.now) is Step.SERVE
                if fresh or ":" in reference:
                    return Found(manifest=stored, repository=repository, fresh_s=0.0)
            return await self._ask(repository, image, reference, stored, known, policy, asked)

    async def _ask(
        self,
        repository: Repository,
        image: str,
        reference: str,
        stored: StoredManifest | None,
        known: Known,
        policy: Policy,
        asked: Asked,
    ) -> Found:
        """Ask the upstream, and fetch what moved."""
        failure: AbsentError | UpstreamError = AbsentError(asked.name)
        try:
            if isinstance(asked, AskedHere):
                return await self._found_here(repository, image, reference, stored, asked)
            digest = known.digest and await self._asking.answer(
                repository, asked.check(image, reference, known.digest)
            )
            heard: Heard = Named(digest=digest)
            if after_asking(known, heard, policy, now=self._asking.now) is Then.FETCH:
                content = await self._content(repository, image, reference, digest, asked)
                manifest = await self._store(repository, image, reference, content, asked)
                await self._note(repository, image, reference, digest=content.digest)
                fresh_s = None if ":" in reference else policy.ttl_s
                return Found(manifest=manifest, repository=repository, fresh_s=fresh_s)
        except (AbsentError, UpstreamError) as error:
            failure, heard = error, _heard(error, asked, cached=bool(known.digest))
        then = after_asking(known, heard, policy, now=self._asking.now)
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
        content = await self._asking.answer(repository, asked.manifest(image, reference))
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
        return await self._asking.answer(repository, asked.manifest(image, digest or reference))

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

    async def _once(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """One question for all who ask it at the same time; it goes on when they are gone."""
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(work())
            self._under_way[key] = task
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
            task.add_done_callback(_look_at)
        return cast(_T, await asyncio.shield(task))

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

    def _stale(
        self, repository: Repository, stored: StoredManifest, known: Known, why: str
    ) -> Found:
        note = stale_note(known, why, now=self._asking.now)
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
