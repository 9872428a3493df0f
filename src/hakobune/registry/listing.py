"""Lists: tags, referrers and the catalog (distribution-spec "Content Discovery": end-8, end-12; `_catalog` is Docker's)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hakobune.registry.answer import Answer, Headers, json_answer, warning
from hakobune.registry.errors import RegistryError
from hakobune.registry.exchange import Exchange, quoted
from hakobune.registry.manifest import OCI_INDEX, check_digest
from hakobune.registry.metadata_listing import MAX_PAGE, Page, ReferrerPage
from hakobune.registry.parts import Parts
from hakobune.registry.repository import Mode, Repository

_REFERRERS_PAGE: Final = 1000
_CATALOG_PAGE: Final = 1000


async def list_tags(parts: Parts, exchange: Exchange) -> Answer:
    """The tags of an image, in the order of their bytes."""
    n, last = _paging(exchange)
    headers: Headers = ()
    if exchange.repository.mode is Mode.STANDARD:
        page = await parts.metadata.list_tags(exchange.repository, exchange.image, n, last)
    else:
        found = await parts.sources.list_tags(exchange.repository, exchange.image)
        rest = [name for name in found.names if name > last]
        limit = MAX_PAGE if n is None else min(n, MAX_PAGE)
        page = Page(tuple(rest[:limit]), more=len(rest) > limit > 0)
        headers = _noted(found.note)
    if page.more and page.names:
        headers += (_next(exchange, n or len(page.names), page.names[-1]),)
    return json_answer(200, {"name": exchange.route.name, "tags": list(page.names)}, headers)


async def list_referrers(parts: Parts, exchange: Exchange) -> Answer:
    """The manifests whose subject is a digest; none is no error."""
    subject = check_digest(exchange.route.reference)
    artifact_type = exchange.parameter("artifactType") or ""
    n, last = _paging(exchange)
    limit = _REFERRERS_PAGE if n is None else min(n, _REFERRERS_PAGE)
    headers: Headers = ()
    if exchange.repository.mode is Mode.STANDARD:
        page = await parts.metadata.referrers(
            exchange.repository, exchange.image, subject, artifact_type, limit, last
        )
    else:
        found = await parts.sources.referrers(
            exchange.repository, exchange.image, subject, artifact_type
        )
        rest = [one for one in found.descriptors if one["digest"] > last]
        page = ReferrerPage(tuple(rest[:limit]), more=len(rest) > limit)
        headers = _noted(found.note)
    more = {"artifactType": artifact_type} if artifact_type else {}
    if page.more and page.descriptors:
        headers += (_next(exchange, n, page.descriptors[-1]["digest"], **more),)
    return answer_referrers(page.descriptors, artifact_type, headers)


def answer_referrers(
    descriptors: Sequence[object], artifact_type: str, headers: Headers = ()
) -> Answer:
    """An index of referrers."""
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(descriptors)}
    if artifact_type:
        headers = (*headers, ("OCI-Filters-Applied", "artifactType"))
    answer = json_answer(200, index)
    return Answer(status=200, headers=(("Content-Type", OCI_INDEX), *headers), body=answer.body)


async def list_catalog(parts: Parts, exchange: Exchange, visible: Sequence[Repository]) -> Answer:
    """The images that the client may pull."""
    n, last = _paging(exchange)
    limit = _CATALOG_PAGE if n is None else min(n, _CATALOG_PAGE)
    page = await parts.metadata.catalog(visible, limit, last)
    headers: Headers = ()
    if page.more and page.names:
        headers = (_next(exchange, limit, page.names[-1]),)
    return json_answer(200, {"repositories": list(page.names)}, headers)


def _noted(note: str) -> Headers:
    return (warning(note),) if note else ()


def _paging(exchange: Exchange) -> tuple[int | None, str]:
    """The parameters `n` and `last`.

    Raises:
        RegistryError: `n` is not a number.
    """
    text = exchange.parameter("n")
    if text is None or text == "":
        n = None
    elif text.isascii() and text.isdecimal() and len(text) < 10:
        n = int(text)
    else:
        raise RegistryError("PAGINATION_NUMBER_INVALID", f"n={text[:50]} is not a number")
    return n, exchange.parameter("last") or ""


def _next(exchange: Exchange, n: int | None, last: str, **more: str) -> tuple[str, str]:
    """The `Link` to the next page."""
    fields = {"n": "" if n is None else str(n), "last": last, **more}
    query = "&".join(f"{name}={quoted(value)}" for name, value in fields.items() if value)
    return ("Link", f'<{exchange.head.path}?{query}>; rel="next"')
