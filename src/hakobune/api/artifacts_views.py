"""What a repository holds, as documents: packages, versions, tags, images, files, attachments (pure)."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

from hakobune.api.artifacts_documents import (
    Attachment,
    DockerImage,
    File,
    Hash,
    HashType,
    ImageManifest,
    Package,
    Tag,
    Version,
)
from hakobune.api.artifacts_names import RepositoryName
from hakobune.api.artifacts_repository import timestamp
from hakobune.registry import metadata_packages as rows

MAX_RELATED_TAGS = 100

# What every image has: no word about what kind of artifact it is.
_IMAGE_CONFIGS = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
)

Annotations = Mapping[str, str]


def artifact_type(row: rows.Version) -> str:
    """What kind of artifact a manifest is; empty for an image."""
    return "" if row.artifact_type in _IMAGE_CONFIGS else row.artifact_type


def package_document(name: RepositoryName, row: rows.Package, annotations: Annotations) -> Package:
    return Package(
        name=name.package(row.image),
        create_time=timestamp(row.created_at),
        update_time=timestamp(row.updated_at),
        annotations=dict(annotations),
    )  # fmt: skip


def version_document(
    name: RepositoryName, row: rows.Version, annotations: Annotations, *, full: bool
) -> Version:
    """A manifest as a version.

    Args:
        full: with the tags that name it (VersionView FULL).
    """
    version = name.version(row.image, row.digest)
    metadata = {
        "name": name.docker_image(row.image, row.digest),
        "imageSizeBytes": str(row.image_size),
        "mediaType": row.media_type,
        "buildTime": timestamp(row.built_at),
        "artifactType": artifact_type(row),
    }
    related = row.tags[:MAX_RELATED_TAGS] if full else ()
    return Version(
        name=version,
        create_time=timestamp(row.created_at),
        update_time=timestamp(row.pushed_at),
        related_tags=tuple(Tag(name=name.tag(row.image, tag), version=version) for tag in related),
        metadata={key: value for key, value in metadata.items() if value},
        annotations=dict(annotations),
    )


def tag_document(name: RepositoryName, row: rows.Tag) -> Tag:
    return Tag(name=name.tag(row.image, row.name), version=name.version(row.image, row.digest))


def image_document(name: RepositoryName, row: rows.Version, *, registry_host: str) -> DockerImage:
    """A manifest as a DockerImage; `uri` is what `docker pull` takes."""
    return DockerImage(
        name=name.docker_image(row.image, row.digest),
        uri=f"{registry_host}/{name.project}/{name.repository}/{row.image}@{row.digest}",
        tags=row.tags,
        image_size_bytes=str(row.image_size),
        upload_time=timestamp(row.created_at),
        media_type=row.media_type,
        build_time=timestamp(row.built_at),
        update_time=timestamp(row.pushed_at),
        artifact_type=artifact_type(row),
        image_manifests=tuple(
            ImageManifest(
                architecture=platform["architecture"],
                os=platform["os"],
                digest=platform["digest"],
                media_type=platform["mediaType"],
                variant=platform["variant"],
            )
            for platform in row.platforms
        ),
    )


def file_document(
    name: RepositoryName,
    row: rows.StoredFile,
    owners: Sequence[tuple[str, str]],
    annotations: Annotations,
    *,
    is_cache: bool,
) -> File:
    """A blob as a file; the first of its owners is shown.

    Args:
        is_cache: the repository is a remote one: `fetchTime` is when the blob came.
    """
    algorithm, _, digits = row.digest.partition(":")
    hashes: tuple[Hash, ...] = ()
    if algorithm == "sha256":
        value = base64.b64encode(bytes.fromhex(digits)).decode()
        hashes = (Hash(type=HashType.SHA256, value=value),)
    return File(
        name=name.file(row.digest),
        size_bytes=str(row.size),
        hashes=hashes,
        create_time=timestamp(row.linked_at),
        update_time=timestamp(row.linked_at),
        owner=name.version(*owners[0]) if owners else "",
        fetch_time=timestamp(row.linked_at) if is_cache else "",
        annotations=dict(annotations),
    )


def attachment_id(image: str, digest: str) -> str:
    """The id of the attachment that a manifest with a subject is."""
    return f"{image}@{digest}".replace("/", "%2F")


def attachment_document(
    name: RepositoryName,
    row: rows.Version,
    files: Sequence[str],
    *,
    identifier: str,
    namespace: str,
) -> Attachment:
    """A manifest with a subject as an attachment.

    Args:
        files: digests of its blobs.
    """
    return Attachment(
        name=name.attachment(identifier),
        attachment_namespace=namespace,
        target=name.version(row.image, row.subject),
        type=artifact_type(row) or row.media_type,
        annotations=dict(row.annotations),
        create_time=timestamp(row.created_at),
        update_time=timestamp(row.pushed_at),
        files=tuple(map(name.file, files)),
        oci_version_name=name.version(row.image, row.digest),
    )
