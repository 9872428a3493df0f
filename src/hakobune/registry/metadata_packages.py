"""What a repository holds in Artifact Registry's words: packages, versions, tags and their history, files.

Every list is sorted and read page by page: `after` is the last key of the page before, "" for the first page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hakobune.registry.manifest import index_platforms
from hakobune.registry.repository import Repository
from hakobune.registry.rows import Rows, padded, places
from hakobune.state.sql import Row

_INDEXES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
# The body only of an index: for its platforms.
_VERSION: Final = (
    "image, digest, media_type, artifact_type, config_media_type, config_digest, subject, size, image_size, "
    "annotations, created_at, pushed_at, pulled_at, built_at, "
    f"CASE WHEN media_type IN ('{_INDEXES[0]}', '{_INDEXES[1]}') THEN body END, pushed_by"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """An image by name. Times are microseconds since 1970, here and below."""

    image: str
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A manifest of an image, with what Artifact Registry tells of it."""

    image: str
    digest: str
    media_type: str
    artifact_type: str
    config_media_type: str
    config_digest: str
    subject: str
    size: int  # of the manifest
    image_size: int  # config and layers; of an index: of all its images together
    annotations: Mapping[str, str]
    created_at: int
    pushed_at: int  # when it was stored last
    pulled_at: int  # 0: never
    built_at: int  # 0: not known
    pushed_by: str
    tags: tuple[str, ...]
    platforms: tuple[Mapping[str, Any], ...]  # of an index: as `manifest.index_platforms`

    @property
    def key(self) -> str:
        """What `after` of the next page is."""
        return f"{self.image}@{self.digest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """A tag of an image and the manifest that it names."""

    image: str
    name: str
    digest: str
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TagChange:
    """What a tag named from `at` on; `digest` is "" where it was removed."""

    name: str
    digest: str
    at: int
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A blob of a repository."""

    digest: str
    size: int
    linked_at: int
    created_at: int


class PackageRows(Rows):
    """The part of `Metadata` that tells of them."""

    async def list_packages(
        self, repository: Repository, *, after: str = "", limit: int = 1000
    ) -> tuple[Package, ...]:
        """The images of a repository by name."""
        found = await self.sql.fetch(
            "SELECT image, MIN(created_at), MAX(pushed_at) FROM manifest "
            "WHERE repository = $1 AND image > $2 GROUP BY image ORDER BY image LIMIT $3",
            repository.id,
            after,
            limit,
        )
        return tuple(Package(image=i, created_at=c, updated_at=u) for i, c, u in found)

    async def find_package(self, repository: Repository, image: str) -> Package | None:
        """One image, if it has a manifest."""
        found = await self.sql.fetch(
            "SELECT image, MIN(created_at), MAX(pushed_at) FROM manifest "
            "WHERE repository = $1 AND image = $2 GROUP BY image",
            repository.id,
            image,
        )
        return next((Package(image=i, created_at=c, updated_at=u) for i, c, u in found), None)

    async def list_versions(
        self, repository: Repository, image: str = "", *, after: str = "", limit: int = 1000
    ) -> tuple[Version, ...]:
        """The manifests of an image, or of all images of the repository, by image and digest.

        Args:
            after: `Version.key` of the last one before.
        """
        after_image, _, after_digest = after.rpartition("@")
        found = await self.sql.fetch(
            f"SELECT {_VERSION} FROM manifest WHERE repository = $1 "
            "AND (CAST($2 AS TEXT) = '' OR image = $2) "
            "AND (image, digest) > ($3, $4) ORDER BY image, digest LIMIT $5",
            repository.id,
            image,
            after_image,
            after_digest,
            limit,
        )
        return await self._versions(repository, found)

    async def find_version(self, repository: Repository, image: str, digest: str) -> Version | None:
        """One manifest with what Artifact Registry tells of it."""
        found = await self.sql.fetch(
            f"SELECT {_VERSION} FROM manifest WHERE repository = $1 AND image = $2 AND digest = $3",
            repository.id,
            image,
            digest,
        )
        return next(iter(await self._versions(repository, found)), None)

    async def list_tag_rows(
        self, repository: Repository, image: str, *, after: str = "", limit: int = 1000
    ) -> tuple[Tag, ...]:
        """The tags of an image with what they name."""
        found = await self.sql.fetch(
            "SELECT image, name, digest, created_at, updated_at FROM tag "
            "WHERE repository = $1 AND image = $2 AND name > $3 ORDER BY name LIMIT $4",
            repository.id,
            image,
            after,
            limit,
        )
        return tuple(_to_tag(row) for row in found)

    async def find_tag(self, repository: Repository, image: str, name: str) -> Tag | None:
        """One tag with what it names."""
        row = await self.sql.fetch_row(
            "SELECT image, name, digest, created_at, updated_at FROM tag "
            "WHERE repository = $1 AND image = $2 AND name = $3",
            repository.id,
            image,
            name,
        )
        return None if row is None else _to_tag(row)

    async def tag_history(
        self, repository: Repository, image: str, name: str = "", *, limit: int = 1000
    ) -> tuple[TagChange, ...]:
        """What a tag (or every tag of the image) has named, newest first."""
        found = await self.sql.fetch(
            "SELECT name, digest, at, actor FROM tag_history WHERE repository = $1 AND image = $2 "
            "AND (CAST($3 AS TEXT) = '' OR name = $3) ORDER BY id DESC LIMIT $4",
            repository.id,
            image,
            name,
            limit,
        )
        return tuple(TagChange(name=n, digest=d, at=t, actor=a) for n, d, t, a in found)

    async def list_files(
        self, repository: Repository, *, after: str = "", limit: int = 1000
    ) -> tuple[StoredFile, ...]:
        """The blobs of a repository by digest."""
        found = await self.sql.fetch(
            "SELECT r.digest, r.size, r.linked_at, b.created_at FROM repository_blob r "
            "JOIN blob b ON b.digest = r.digest WHERE r.repository = $1 AND r.digest > $2 "
            "AND b.state <= 1 ORDER BY r.digest LIMIT $3",
            repository.id,
            after,
            limit,
        )
        return tuple(
            StoredFile(digest=d, size=s, linked_at=at, created_at=c) for d, s, at, c in found
        )

    async def _versions(self, repository: Repository, found: Sequence[Row]) -> tuple[Version, ...]:
        digests: dict[str, list[str]] = {}
        for row in found:
            digests.setdefault(row[0], []).append(row[1])
        tags: dict[tuple[str, str], list[str]] = {}
        for image in digests:
            for group in padded(digests[image]):
                for name, digest in await self.sql.fetch(
                    "SELECT name, digest FROM tag WHERE repository = $1 AND image = $2 "
                    f"AND digest IN ({places(3, len(group))}) ORDER BY name",
                    repository.id,
                    image,
                    *group,
                ):
                    tags.setdefault((image, digest), []).append(name)
        return tuple([await self._version(repository, row, tags) for row in found])

    async def _version(
        self, repository: Repository, row: Row, tags: Mapping[tuple[str, str], list[str]]
    ) -> Version:
        image, digest, media_type = row[0], row[1], row[2]
        size = row[8]
        platforms: tuple[Mapping[str, Any], ...] = ()
        if media_type in _INDEXES:
            platforms = index_platforms(row[14])
            size = await self._size_of_index(repository, image, digest)
        return Version(
            image=image,
            digest=digest,
            media_type=media_type,
            artifact_type=row[3],
            config_media_type=row[4],
            config_digest=row[5],
            subject=row[6],
            size=row[7],
            image_size=size,
            annotations=json.loads(row[9]),
            created_at=row[10],
            pushed_at=row[11],
            pulled_at=row[12],
            built_at=max(0, row[13]),  # below: its configuration does not say
            pushed_by=row[15],
            tags=tuple(tags.get((image, digest), ())),
            platforms=platforms,
        )

    async def _size_of_index(self, repository: Repository, image: str, digest: str) -> int:
        row = await self.sql.fetch_row(
            "SELECT CAST(COALESCE(SUM(m.image_size), 0) AS BIGINT) FROM manifest_ref r JOIN manifest m "
            "ON m.repository = r.repository AND m.image = r.image AND m.digest = r.child "
            "WHERE r.repository = $1 AND r.image = $2 AND r.parent = $3",
            repository.id,
            image,
            digest,
        )
        return 0 if row is None else row[0]


def _to_tag(row: Row) -> Tag:
    return Tag(image=row[0], name=row[1], digest=row[2], created_at=row[3], updated_at=row[4])
