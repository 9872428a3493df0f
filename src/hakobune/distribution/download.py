"""A blob's bytes from one of several places: cut downloads go on where they stopped, lies about length end them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from random import random
from typing import Final
from urllib.parse import urlsplit

from hakobune.distribution.client import RegistryClient
from hakobune.distribution.connections import TRANSPORT_ERRORS, Answer
from hakobune.distribution.errors import NotThereError, RegistryError, no_answer
from hakobune.distribution.parallel import StopSign
from hakobune.distribution.patience import ATTEMPTS, MIRROR_ATTEMPTS, wait_s
from hakobune.distribution.redirect import scheme_of
from hakobune.distribution.registries import Endpoint
from hakobune.distribution.request import Request
from hakobune.oci.descriptor import Descriptor

_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


def fetch_blob(
    clients: Sequence[RegistryClient],
    blob: Descriptor,
    offset: int,
    *,
    stop: StopSign,
    wrong: int = 0,
) -> Iterator[bytes]:
    """The bytes of *blob* from *offset* on, exactly up to its size; the caller checks the digest.

    Args:
        clients: where to ask, in order; mirrors first.
        wrong: how often the bytes had another digest: that many places are asked last.

    Raises:
        RegistryError: the last place's error, when none gives the rest.
    """
    first = wrong % len(clients)
    rotated = (*clients[first:], *clients[:first])
    places = [client for client in rotated if not client.is_lost]
    at = offset
    for number, client in enumerate(places):
        try:
            for data in _fetch_from(client, blob, at, stop):
                at += len(data)
                yield data
            return
        except NotThereError:
            if number == len(places) - 1:
                if not blob.urls:
                    raise
                yield from _fetch_foreign(client, blob, at, stop)
        except RegistryError as error:
            client.judge(error)
            if number == len(places) - 1:
                raise


def _fetch_from(
    client: RegistryClient, blob: Descriptor, at: int, stop: StopSign
) -> Iterator[bytes]:
    """From one place; each time something has come, there are as many tries as at first."""
    failures = 0
    while at < blob.size:
        stop.check()
        error: BaseException
        try:
            with _open(client, blob, at) as answer:
                for data in _body(client, answer, blob, at):
                    stop.check()
                    at += len(data)
                    failures = 0
                    yield data
            if at >= blob.size:
                return
            error = EOFError("it ended early")
            why = no_answer(client.what, host=client.host, error=ConnectionResetError())
        except TRANSPORT_ERRORS as cut:
            error = cut
            why = no_answer(client.what, host=client.host, error=cut)
        failures += 1
        attempts = MIRROR_ATTEMPTS if client.endpoint.mirror else ATTEMPTS
        seconds = wait_s(failures, asked_s=None, random=random(), attempts=attempts)
        if seconds is None:
            raise why from error
        client.session.pause(seconds)


def _open(client: RegistryClient, blob: Descriptor, at: int) -> Answer:
    """The blob from *at* on, or all of it from who gives no parts, or others than were asked for."""
    try:
        answer = client.get_blob(blob.digest, offset=at)
    except RegistryError as error:
        if error.status != 416 or not at:
            raise
        return client.get_blob(blob.digest)
    if answer.status == 206 and _start_of(answer) != at:
        answer.close()
        return client.get_blob(blob.digest)
    return answer


def _start_of(answer: Answer) -> int | None:
    found = _CONTENT_RANGE.match(answer.headers.get("content-range", ""))
    return None if found is None else int(found[1])


def _body(client: RegistryClient, answer: Answer, blob: Descriptor, at: int) -> Iterator[bytes]:
    """What is new in an answer's body.

    Raises:
        WrongContentError: its length is not that of the blob.
    """
    skip = _check_lengths(client, answer, blob, at)
    left = blob.size - at
    for data in answer.chunks():
        if skip:
            dropped = min(skip, len(data))
            skip -= dropped
            data = data[dropped:]
        if len(data) > left:
            raise client.wrong(f"the blob {blob.digest.short} is longer than {blob.size} bytes")
        left -= len(data)
        if data:
            yield data


def _check_lengths(client: RegistryClient, answer: Answer, blob: Descriptor, at: int) -> int:
    """How many bytes of the body are known already (a server that ignores Range sends all)."""
    skip = at if answer.status == 200 else 0
    found = _CONTENT_RANGE.match(answer.headers.get("content-range", ""))
    if answer.status == 206 and _start_of(answer) != at:
        raise client.wrong("it sent another range than was asked for")
    if found is not None and found[3] not in ("*", str(blob.size)):
        raise client.wrong(
            f"the blob {blob.digest.short} has {found[3]} bytes there, its manifest says {blob.size}"
        )
    length = answer.headers.get("content-length", "")
    if length.isdecimal() and int(length) != blob.size - at + skip:
        raise client.wrong(
            f"the blob {blob.digest.short} has {int(length) + at - skip} bytes there, its manifest says {blob.size}"
        )
    return skip


def _fetch_foreign(
    client: RegistryClient, blob: Descriptor, at: int, stop: StopSign
) -> Iterator[bytes]:
    """From the URLs of a layer that registries may not distribute (image-spec layer.md "Non-Distributable Layers")."""
    for number, url in enumerate(blob.urls):
        if scheme_of(url) not in ("http", "https") or not url.isascii() or not urlsplit(url).netloc:
            raise client.wrong(f"a layer is at {url[:200]!r}, which is no http(s) URL")
        parts = urlsplit(url)
        endpoint = Endpoint(host=parts.netloc, repository="")
        headers = {"Range": f"bytes={at}-"} if at else {}
        request = Request(
            method="GET",
            url=url,
            what=client.what,
            headers=headers,
            expected=frozenset({200, 206}),
            anonymous=True,
        )
        try:
            with client.session.send(request, endpoint) as answer:
                for data in _body(client, answer, blob, at):
                    stop.check()
                    at += len(data)
                    yield data
                return
        except TRANSPORT_ERRORS as error:
            if number == len(blob.urls) - 1:
                raise no_answer(client.what, host=parts.netloc, error=error) from error
        except RegistryError:
            if number == len(blob.urls) - 1:
                raise
