"""Whom a remote repository asks: a registry by HTTP, or a repository of this installation, through one protocol."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from hakobune.oci.digest import Digest
from hakobune.registry.errors import RegistryError
from hakobune.registry.freshness import Trouble
from hakobune.registry.repository import Repository
from hakobune.registry.route import is_tag
from hakobune.registry.upstream_errors import AbsentError, UpstreamError

if TYPE_CHECKING:
    from hakobune.registry.found import Found, Names, Referrers
    from hakobune.registry.growing import Growing
    from hakobune.registry.metadata import StoredBlob
    from hakobune.registry.upstream_client import UpstreamClient

_T = TypeVar("_T")
Trail = frozenset[int]
"""Ids of the remote and virtual repositories that have been asked already: none is asked twice."""


@dataclass(frozen=True, slots=True)
class Content:
    """A manifest as the upstream has it, checked against its digest."""

    digest: str
    media_type: str
    body: bytes
    fresh_s: float | None = None  # as `Found.fresh_s`; of a registry by HTTP the repository decides


class Asked(Protocol):
    """Answers for one remote repository. Every method raises AbsentError or UpstreamError."""

    name: str

    async def check(self, image: str, reference: str, known: str) -> str:
        """The digest that it names now; empty if only the content tells."""
        ...

    async def manifest(self, image: str, reference: str) -> Content: ...
    async def blob_size(self, image: str, digest: str) -> int | None: ...
    async def tags(self, image: str) -> tuple[str, ...]: ...
    async def referrers(self, image: str, digest: str) -> tuple[Mapping[str, Any], ...]: ...


class AskedByHttp:
    """A registry; calls run in threads.

    Args:
        cached: there is something to fall back to, so that one try is enough.
    """

    def __init__(
        self,
        client: UpstreamClient,
        run: Callable[[Callable[[], Any]], Awaitable[Any]],
        *,
        cached: bool,
    ) -> None:
        self.client = client
        self.name = client.upstream.host
        self._run: Callable[[Callable[[], Any]], Awaitable[Any]] = run
        self._tries = 1 if cached else 2

    async def check(self, image: str, reference: str, known: str) -> str:
        found: str = await self._run(
            lambda: self.client.check_manifest(image, reference, known, tries=self._tries)
        )
        return found

    async def manifest(self, image: str, reference: str) -> Content:
        document = await self._run(
            lambda: self.client.get_manifest(image, reference, tries=self._tries)
        )
        return Content(str(document.digest), document.media_type, document.raw)

    async def blob_size(self, image: str, digest: str) -> int | None:
        size: int | None = await self._run(
            lambda: self.client.head_blob(image, Digest.parse(digest))
        )
        return size

    async def tags(self, image: str) -> tuple[str, ...]:
        found = await self._run(lambda: self.client.tags(image))
        return tuple(sorted({tag for tag in found if is_tag(tag)}))

    async def referrers(self, image: str, digest: str) -> tuple[Mapping[str, Any], ...]:
        from hakobune.oci.descriptor import encode_document

        found = await self._run(lambda: self.client.referrers(image, Digest.parse(digest)))
        return tuple(json.loads(encode_document(item)) for item in found)


class Reader(Protocol):
    """What `sources.Sources` is for a repository that stands before another one."""

    async def find_manifest(
        self, repository: Repository, image: str, reference: str, trail: Trail = frozenset()
    ) -> Found: ...
    async def blob_size(
        self, repository: Repository, image: str, digest: str, trail: Trail = frozenset()
    ) -> int: ...
    async def open_blob(
        self, repository: Repository, image: str, digest: str, trail: Trail = frozenset()
    ) -> StoredBlob | Growing: ...
    async def list_tags(
        self, repository: Repository, image: str, trail: Trail = frozenset()
    ) -> Names: ...
    async def referrers(
        self,
        repository: Repository,
        image: str,
        digest: str,
        artifact_type: str = "",
        trail: Trail = frozenset(),
    ) -> Referrers: ...


class AskedHere:
    """A repository of this installation.

    Args:
        rename: what an image is called there.
    """

    def __init__(
        self, reader: Reader, repository: Repository, rename: Callable[[str], str], trail: Trail
    ) -> None:
        self.name = repository.path
        self.repository = repository
        self.trail = trail
        self.rename = rename
        self._reader = reader

    async def check(self, image: str, reference: str, known: str) -> str:
        return (await self.manifest(image, reference)).digest

    async def manifest(self, image: str, reference: str) -> Content:
        found = await self._ask(
            self._reader.find_manifest(self.repository, self.rename(image), reference, self.trail)
        )
        manifest = found.manifest
        return Content(manifest.digest, manifest.media_type, manifest.body, found.fresh_s)

    async def blob_size(self, image: str, digest: str) -> int | None:
        return await self._ask(
            self._reader.blob_size(self.repository, self.rename(image), digest, self.trail)
        )

    async def open_blob(self, image: str, digest: str) -> StoredBlob | Growing:
        """The blob there, as `Sources.open_blob` has it."""
        return await self._ask(
            self._reader.open_blob(self.repository, self.rename(image), digest, self.trail)
        )

    async def tags(self, image: str) -> tuple[str, ...]:
        return (
            await self._ask(self._reader.list_tags(self.repository, self.rename(image), self.trail))
        ).names

    async def referrers(self, image: str, digest: str) -> tuple[Mapping[str, Any], ...]:
        found = await self._ask(
            self._reader.referrers(self.repository, self.rename(image), digest, "", self.trail)
        )
        return found.descriptors

    async def _ask(self, answer: Awaitable[_T]) -> _T:
        try:
            return await answer
        except RegistryError as error:
            raise as_upstream_error(error, self.name) from error


def as_upstream_error(error: RegistryError, name: str) -> AbsentError | UpstreamError:
    """What another repository's error means for the one that stands before it."""
    if error.status == 404:
        return AbsentError(name)
    trouble = Trouble.LIMITED if error.code == "TOOMANYREQUESTS" else Trouble.BROKEN
    return UpstreamError(
        trouble, name, error.message, status=error.status, retry_after_s=error.retry_after_s
    )
