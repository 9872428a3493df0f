"""Lists for the distribution API: tags, referrers, the catalog.

Each is sorted and read page by page: `last` is the last name of the page before, "" for the first page.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hakobune.registry.repository import Repository
from hakobune.registry.rows import Rows, name_unknown
from hakobune.state.sql import Row

MAX_PAGE: Final = 10_000


@dataclass(frozen=True, slots=True)
class Page:
    """Names in order, and whether there are more."""

    names: tuple[str, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class ReferrerPage:
    """Descriptors for the index of the referrers API, and whether there are more."""

    descriptors: tuple[Mapping[str, Any], ...]
    more: bool


class ListingRows(Rows):
    """The part of `Metadata` that lists."""

    async def list_tags(
        self, repository: Repository, image: str, n: int | None = None, last: str = ""
    ) -> Page:
        """Tags in the order of their bytes (end-8): at most *n* (and `MAX_PAGE`) after *last*.

        Raises:
            RegistryError: NAME_UNKNOWN if the image has no manifest at all.
        """
        limit = MAX_PAGE if n is None else min(n, MAX_PAGE)
        found = await self.sql.fetch(
            "SELECT name FROM tag WHERE repository = $1 AND image = $2 AND name > $3 "
            "ORDER BY name LIMIT $4",
            repository.id,
            image,
            last,
            limit + 1,
        )
        if not found and not await self.has_image(repository, image):
            raise name_unknown(repository, image)
        names = tuple(row[0] for row in found[:limit])
        return Page(names, more=len(found) > limit > 0)

    async def has_image(self, repository: Repository, image: str) -> bool:
        """Whether anything is stored under that name."""
        row = await self.sql.fetch_row(
            "SELECT 1 FROM manifest WHERE repository = $1 AND image = $2 LIMIT 1",
            repository.id,
            image,
        )
        return row is not None

    async def referrers(
        self,
        repository: Repository,
        image: str,
        subject: str,
        artifact_type: str = "",
        n: int = 1000,
        last: str = "",
    ) -> ReferrerPage:
        """Manifests whose subject is *subject*, by digest (end-12a, end-12b); none is no error.

        Args:
            artifact_type: only those of that type.
            last: the digest of the last descriptor of the page before.
        """
        found = await self.sql.fetch(
            "SELECT media_type, digest, size, artifact_type, annotations FROM manifest "
            "WHERE repository = $1 AND image = $2 AND subject = $3 AND subject <> '' "
            "AND (CAST($4 AS TEXT) = '' OR artifact_type = $4) AND digest > $5 ORDER BY digest LIMIT $6",
            repository.id,
            image,
            subject,
            artifact_type,
            last,
            n + 1,
        )
        return ReferrerPage(tuple(_to_descriptor(row) for row in found[:n]), more=len(found) > n)

    async def catalog(
        self, repositories: Iterable[Repository], n: int = 1000, last: str = ""
    ) -> Page:
        """PROJECT/REPOSITORY/IMAGE of every image in *repositories*, in the order of their bytes."""
        names: list[str] = []
        for repository in repositories:
            found = await self.sql.fetch(
                "SELECT DISTINCT image FROM manifest WHERE repository = $1", repository.id
            )
            names += (f"{repository.path}/{row[0]}" for row in found)
        names = sorted(name for name in names if name > last)
        return Page(tuple(names[:n]), more=len(names) > n)


def _to_descriptor(row: Row) -> Mapping[str, Any]:
    media_type, digest, size, artifact_type, annotations = row
    descriptor: dict[str, Any] = {"mediaType": media_type, "digest": digest, "size": size}
    if artifact_type:
        descriptor["artifactType"] = artifact_type
    if annotations != "{}":
        descriptor["annotations"] = json.loads(annotations)
    return descriptor
