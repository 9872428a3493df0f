"""Manifests on their way in, and what is removed (distribution-spec "Pushing Manifests", "Deleting": end-7, end-9, end-10)."""

from __future__ import annotations

from typing import Final

from hakobune.registry.answer import Answer, Headers
from hakobune.registry.crash_point import crash_point
from hakobune.registry.errors import RegistryError
from hakobune.registry.exchange import Exchange
from hakobune.registry.manifest import check_digest, check_reference, is_digest
from hakobune.registry.metadata_manifests import MAX_TAGS_OF_A_PUT
from hakobune.registry.parts import Parts
from hakobune.registry.repository import Mode, Repository

_MORE_TAGS: Final = 414  # what the specification wants for too many `tag` parameters


async def put_manifest(parts: Parts, exchange: Exchange) -> Answer:
    """Store a manifest under its digest and its tags, all at once."""
    refuse_push(exchange.repository)
    reference = check_reference(exchange.route.reference)
    tags = exchange.parameters("tag")
    if len(tags) > MAX_TAGS_OF_A_PUT:
        raise RegistryError(
            "UNSUPPORTED", f"one PUT makes {MAX_TAGS_OF_A_PUT} tags at most", status=_MORE_TAGS
        )
    body = await exchange.read(parts.limits.manifest_bytes)
    crash_point("manifest-received")
    done = await parts.metadata.put_manifest(
        exchange.repository,
        exchange.image,
        (reference, *tags),
        body,
        exchange.head.get("content-type") or "",
        exchange.actor,
    )
    crash_point("manifest-committed")
    digest = reference if is_digest(reference) else done.digest
    headers: Headers = (
        ("Location", f"/v2/{exchange.route.name}/manifests/{digest}"),
        ("Docker-Content-Digest", digest),
    )
    if done.subject:
        headers += (("OCI-Subject", done.subject),)
    headers += tuple(("OCI-Tag", tag) for tag in done.tags if tag in tags)
    return Answer(status=201, headers=headers)


async def delete_manifest(parts: Parts, exchange: Exchange) -> Answer:
    """Remove a tag, or a manifest with all its tags."""
    refuse_delete(exchange.repository)
    reference = check_reference(exchange.route.reference)
    if is_digest(reference):
        await parts.metadata.delete_manifest(
            exchange.repository, exchange.image, reference, exchange.actor
        )
    else:
        await parts.metadata.delete_tag(
            exchange.repository, exchange.image, reference, exchange.actor
        )
    return Answer(status=202)


async def delete_blob(parts: Parts, exchange: Exchange) -> Answer:
    """Take a blob out of a repository, if no manifest there names it."""
    refuse_delete(exchange.repository)
    digest = check_digest(exchange.route.reference)
    await parts.metadata.unlink_blob(exchange.repository, exchange.image, digest, exchange.actor)
    return Answer(status=202)


def refuse_push(repository: Repository) -> None:
    """Refuse a push to what only passes on.

    Raises:
        RegistryError: UNSUPPORTED.
    """
    if repository.mode is not Mode.STANDARD:
        raise RegistryError(
            "UNSUPPORTED",
            f"{repository.path} is a {repository.mode} repository: push to a standard one",
        )


def refuse_delete(repository: Repository) -> None:
    """Refuse a deletion from what holds nothing itself; what a remote repository has cached may be deleted.

    Raises:
        RegistryError: UNSUPPORTED.
    """
    if repository.mode is Mode.VIRTUAL:
        raise RegistryError(
            "UNSUPPORTED",
            f"{repository.path} is virtual: delete from the repositories behind it",
        )
