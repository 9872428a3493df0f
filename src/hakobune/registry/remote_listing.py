"""Lists of remote repositories: tags and referrers are the upstream's, kept for the repository's ttl."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hakobune.registry.asking import Asked, AskedHere, Trail
from hakobune.registry.errors import RegistryError
from hakobune.registry.found import Names, Referrers
from hakobune.registry.freshness import (
    Absent,
    Failed,
    Heard,
    Known,
    Step,
    Then,
    after_asking,
    before_asking,
    stale_note,
)
from hakobune.registry.metadata import Metadata
from hakobune.registry.metadata_listing import MAX_PAGE
from hakobune.registry.remote_asking import RemoteAsking
from hakobune.registry.remote_lists import (
    TAGS,
    RemoteList,
    find_remote_list,
    referrers_of,
    save_remote_list,
)
from hakobune.registry.remote_manifests import DELETED_NOTE
from hakobune.registry.repository import Repository
from hakobune.registry.rows import SECOND
from hakobune.registry.upstream_errors import AbsentError, UpstreamError, Wanted, answer_for

_KNOWN = "known"  # the `digest` of a list: it has none, and only its age counts
Ask = Callable[[Asked], Awaitable[tuple[Any, ...]]]


@dataclass(frozen=True, slots=True)
class _Read:
    """A list, and what is to be said about it; `failure` if there is none."""

    items: tuple[Any, ...] | None
    note: str = ""
    failure: AbsentError | UpstreamError | None = None


class RemoteLists:
    """The lists of all remote repositories, for one worker."""

    def __init__(self, metadata: Metadata, asking: RemoteAsking) -> None:
        self._metadata = metadata
        self._asking = asking

    async def list_tags(self, repository: Repository, image: str, trail: Trail) -> Names:
        """All tags of the upstream, or those that are cached where it fails.

        Raises:
            RegistryError: NAME_UNKNOWN, or why the upstream does not answer.
        """
        read = await self._read(repository, image, TAGS, trail, lambda asked: asked.tags(image))
        if read.items is not None:
            return Names(names=tuple(read.items), note=read.note)
        cached = await self._cached_tags(repository, image)
        failure = read.failure or AbsentError("its upstream")
        if not cached or (isinstance(failure, AbsentError) and not _serves_deleted(repository)):
            raise answer_for(failure, Wanted("NAME", f"{repository.path}/{image}"))
        return Names(names=cached, note=f"only the tags that are cached here: {failure}")

    async def referrers(
        self, repository: Repository, image: str, digest: str, artifact_type: str, trail: Trail
    ) -> Referrers:
        """The upstream's referrers and the cached ones, one each; none is no error, a silent upstream is."""
        read = await self._read(
            repository,
            image,
            referrers_of(digest),
            trail,
            lambda asked: asked.referrers(image, digest),
        )
        here = await all_referrers(self._metadata, repository, image, digest)
        if read.items is None and isinstance(read.failure, UpstreamError) and not here:
            raise answer_for(
                read.failure, Wanted("MANIFEST", f"{repository.path}/{image}@{digest}")
            )
        note = read.note or (
            f"only the referrers that are cached here: {read.failure}"
            if isinstance(read.failure, UpstreamError)
            else ""
        )
        return Referrers(
            descriptors=union_of_referrers(((read.items or ()), here), artifact_type), note=note
        )

    async def _read(
        self, repository: Repository, image: str, name: str, trail: Trail, ask: Ask
    ) -> _Read:
        row = await find_remote_list(self._metadata.sql, repository, image, name)
        known = Known(
            digest=_KNOWN if row.items is not None else "",
            checked_at=row.checked_at / SECOND,
            negative_until=row.negative_until / SECOND,
        )
        policy = await self._asking.policy(repository)
        down = self._asking.failure(repository)
        step = before_asking(
            known, policy, now=self._asking.now, down_until=self._asking.now + 1.0 if down else 0.0
        )
        match step:
            case Step.SERVE:
                return _Read(row.items)
            case Step.DELETED:
                return _Read(row.items, _deleted_note(repository))
            case Step.STALE:
                return _Read(row.items, stale_note(known, str(down), now=self._asking.now))
            case Step.MISSING:
                return _Read(None, failure=AbsentError("its upstream"))
            case Step.ASK:
                pass
        asked = await self._asking.asked(repository, trail, cached=row.items is not None)
        heard: Heard
        failure: AbsentError | UpstreamError | None = None
        try:
            items = await self._asking.answer(repository, ask(asked))
            if not isinstance(asked, AskedHere):
                fresh = RemoteList(items=items, checked_at=self._metadata.clock())
                await save_remote_list(self._metadata.sql, repository, image, name, fresh)
            return _Read(items)
        except AbsentError as error:
            failure, heard = error, Absent()
        except UpstreamError as error:
            failure = error
            heard = Failed(trouble=error.trouble, retry_after_s=error.retry_after_s)
        match after_asking(known, heard, policy, now=self._asking.now):
            case Then.STALE:
                return _Read(row.items, stale_note(known, str(failure), now=self._asking.now))
            case Then.DELETED:
                await self._note_absent(repository, image, name, row.items, policy.negative_ttl_s)
                return _Read(row.items, _deleted_note(repository))
            case Then.MISSING:
                await self._note_absent(repository, image, name, None, policy.negative_ttl_s)
            case _:
                pass
        return _Read(None, failure=failure)

    async def _note_absent(
        self,
        repository: Repository,
        image: str,
        name: str,
        items: tuple[Any, ...] | None,
        negative_ttl_s: float,
    ) -> None:
        now = self._metadata.clock()
        until = now + int(negative_ttl_s * SECOND)
        known = RemoteList(items=items, checked_at=now, negative_until=until)
        await save_remote_list(self._metadata.sql, repository, image, name, known)

    async def _cached_tags(self, repository: Repository, image: str) -> tuple[str, ...]:
        try:
            return await all_tags(self._metadata, repository, image)
        except RegistryError:
            return ()


async def all_tags(metadata: Metadata, repository: Repository, image: str) -> tuple[str, ...]:
    """All tags that are stored here.

    Raises:
        RegistryError: NAME_UNKNOWN.
    """
    found: list[str] = []
    while True:
        page = await metadata.list_tags(repository, image, MAX_PAGE, found[-1] if found else "")
        found += page.names
        if not page.more:
            return tuple(found)


async def all_referrers(
    metadata: Metadata, repository: Repository, image: str, digest: str
) -> tuple[Mapping[str, Any], ...]:
    """All referrers that are stored here."""
    found: list[Mapping[str, Any]] = []
    while True:
        last = found[-1]["digest"] if found else ""
        page = await metadata.referrers(repository, image, digest, last=last)
        found += page.descriptors
        if not page.more:
            return tuple(found)


def union_of_referrers(
    lists: tuple[tuple[Mapping[str, Any], ...], ...], artifact_type: str
) -> tuple[Mapping[str, Any], ...]:
    """Each digest once, the first one counts; sorted by digest."""
    found: dict[str, Mapping[str, Any]] = {}
    for items in lists:
        for item in items:
            if artifact_type in ("", item.get("artifactType", "")):
                found.setdefault(item["digest"], item)
    return tuple(found[digest] for digest in sorted(found))


def _serves_deleted(repository: Repository) -> bool:
    return repository.remote is not None and repository.remote.serve_deleted


def _deleted_note(repository: Repository) -> str:
    return DELETED_NOTE.format(name=repository.remote.upstream if repository.remote else "")
