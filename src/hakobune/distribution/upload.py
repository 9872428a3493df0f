"""A blob into a repository: mounted from another one, or sent; a cut upload goes on where the registry says (end-4 to end-6, end-11, end-13)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from hakobune.distribution.client import RegistryClient
from hakobune.distribution.connections import TRANSPORT_ERRORS
from hakobune.distribution.errors import (
    NoAnswerError,
    NotThereError,
    RateLimitError,
    RegistryError,
)
from hakobune.distribution.patience import wait_s
from hakobune.distribution.upload_notes import UploadNotes
from hakobune.oci.descriptor import Descriptor

# Sent with the request that closes the upload: one round trip less.
_SMALL: Final = 1 << 20
_RANGE: Final = re.compile(r"(?:bytes=)?0-(\d+)")
_OCTETS: Final = "application/octet-stream"
# In how large pieces a blob is sent that a proxy before the registry finds too long (Cloudflare's limit is 100 MB, nginx's 1 MiB).
_PIECES: Final = (64 << 20, 8 << 20, 1 << 20)

Read = Callable[[int], Iterator[bytes]]
"""Gives a blob's bytes from an offset on."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A repository of the same registry that may have a blob.

    Attributes:
        client: of the repository that shall have it, allowed to pull from this one.
    """

    client: RegistryClient
    repository: str


def upload_blob(
    client: RegistryClient,
    blob: Descriptor,
    read: Read,
    *,
    neighbour: Neighbour | None = None,
    notes: UploadNotes | None = None,
) -> bool:
    """Put a blob into the repository; `True` if it was mounted and nothing was sent.

    Args:
        neighbour: asked first, since then nothing need be sent; if it is refused, the blob is.
        notes: where the uploads of processes that were killed are found again.

    Raises:
        RegistryError: the registry refuses, or finds other bytes than the digest says.
    """
    location = _mount(neighbour, blob) if neighbour else None
    if location == "":
        return True
    if blob.size <= _SMALL:
        data = b"".join(read(0))
        _close(client, location or _begin(client), blob, data)
        return False
    place = f"{client.host}/{client.endpoint.repository}"
    found = None
    if notes is not None:
        earlier = notes.find(place, blob.digest)
        found = _status(client, earlier) if earlier else None
    where = found or (location or _begin(client), 0)
    if notes is not None:
        notes.note(place, blob.digest, where[0])
    _close(client, _stream(client, where, blob, read), blob, b"")
    if notes is not None:
        notes.forget(place, blob.digest)
    return False


def _mount(neighbour: Neighbour, blob: Descriptor) -> str | None:
    """Empty if the blob was mounted, else the URL of the upload session that the registry began instead.

    `None` if it is refused: who may push here need not be allowed to pull there, and some token servers give a token
    for both or for none.
    """
    source = quote(neighbour.repository, safe="")
    query = f"?mount={quote(str(blob.digest), safe=':')}&from={source}"
    try:
        return _begin(neighbour.client, query)
    except (NoAnswerError, RateLimitError):
        raise
    except RegistryError:
        return None


def _begin(client: RegistryClient, query: str = "") -> str:
    """The URL of a new upload session; empty if the *query* has done it all."""
    headers = {"Content-Length": "0"}
    with client.call(
        "POST", client.upload_path() + query, headers=headers, expected=(201, 202)
    ) as answer:
        return "" if answer.status == 201 and query else client.locate(answer)


def _stream(client: RegistryClient, where: tuple[str, int], blob: Descriptor, read: Read) -> str:
    """Send all bytes that the session does not have; the URL at which to close the upload."""
    (location, at), failures, piece = where, 0, blob.size
    while at < blob.size:
        before = at
        try:
            location, at = _patch(client, location, blob, at, min(at + piece, blob.size), read)
            failures = 0
        except (RegistryError, *TRANSPORT_ERRORS) as error:
            status = error.status if isinstance(error, RegistryError) else 0
            if status not in _RESUMABLE:
                raise
            location, at = _status(client, location) or (_begin(client), 0)
            failures = 1 if at > before else failures + 1
            smaller = next((size for size in _PIECES if size < piece), 0)
            # Some cut the connection instead of answering 413.
            if at <= before and smaller and (status == 413 or failures > 1):
                piece = smaller
                if status == 413:
                    continue
            elif status == 413:
                raise
            from random import random

            seconds = wait_s(failures, asked_s=None, random=random())
            if seconds is None:
                raise
            client.session.pause(seconds)
    return location


# 0: no answer; 413: a smaller piece may pass; 416: it has another number of bytes than we think.
_RESUMABLE: Final = frozenset({0, 408, 413, 416, 429, 500, 502, 503, 504})


def _patch(
    client: RegistryClient, location: str, blob: Descriptor, at: int, end: int, read: Read
) -> tuple[str, int]:
    """Send the bytes from *at* to *end*; where the session is now, and how many bytes it has."""
    headers = {"Content-Type": _OCTETS, "Content-Length": str(end - at)}
    if at or end < blob.size:
        headers["Content-Range"] = f"{at}-{end - 1}"
    with client.call(
        "PATCH",
        location,
        headers=headers,
        expected=(202, 204),
        body=lambda: _first(read(at), end - at),
        again=False,
    ) as answer:
        return client.locate(answer), end


def _first(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """The first *size* bytes of *chunks*."""
    for data in chunks:
        if len(data) >= size:
            yield data[:size]
            return
        yield data
        size -= len(data)


def _status(client: RegistryClient, location: str) -> tuple[str, int] | None:
    """Where the session is now and how many bytes it has; `None` if it is gone, or cannot go on.

    distribution itself lets a session go on only at the offset that its last whole answer gave: 416 else.

    Raises:
        NoAnswerError: nobody answers.
    """
    try:
        with client.call("GET", location, expected=(200, 202, 204)) as answer:
            found = _RANGE.match(answer.headers.get("range", ""))
            # An empty session is "0-0" too, as it must be for one of a single byte.
            last = int(found[1]) if found else 0
            here = answer.headers.get("location")
            return (client.locate(answer) if here else location), (last + 1 if last else 0)
    except RegistryError as error:
        if 400 <= error.status < 500:
            return None
        raise


def _close(client: RegistryClient, location: str, blob: Descriptor, data: bytes) -> None:
    url = (
        location + ("&" if "?" in location else "?") + f"digest={quote(str(blob.digest), safe=':')}"
    )
    headers = {"Content-Length": str(len(data)), "Content-Type": _OCTETS}
    try:
        client.call(
            "PUT", url, headers=headers, expected=(201, 202, 204), body=lambda: data
        ).close()
    except NotThereError:
        # An answer may have been lost: closed is closed.
        if not client.has_blob(blob.digest):
            raise
