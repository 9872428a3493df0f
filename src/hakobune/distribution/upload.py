"""A blob into a repository: mounted from another one, or sent; a cut upload goes on where the registry says (end-4 to end-6, end-11, end-13)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import quote

from hakobune.distribution.client import RegistryClient
from hakobune.distribution.connections import TRANSPORT_ERRORS
from hakobune.distribution.errors import NotThereError, RegistryError
from hakobune.distribution.patience import wait_s
from hakobune.distribution.upload_notes import UploadNotes
from hakobune.oci.descriptor import Descriptor

# Sent with the request that closes the upload: one round trip less.
_SMALL: Final = 1 << 20
_RANGE: Final = re.compile(r"(?:bytes=)?0-(\d+)")
_OCTETS: Final = "application/octet-stream"

Read = Callable[[int], Iterator[bytes]]
"""Gives a blob's bytes from an offset on."""


def upload_blob(
    client: RegistryClient,
    blob: Descriptor,
    read: Read,
    *,
    mount_from: str | None = None,
    notes: UploadNotes | None = None,
) -> bool:
    """Put a blob into the repository; `True` if it was mounted and nothing was sent.

    Args:
        mount_from: a repository of the same registry that may have it.
        notes: where the uploads of processes that were killed are found again.

    Raises:
        RegistryError: the registry refuses, or finds other bytes than the digest says.
    """
    location = _begin(client, blob, mount_from) if mount_from else None
    if location == "":
        return True
    if blob.size <= _SMALL:
        data = b"".join(read(0))
        _close(client, location or _begin(client, blob, None), blob, data)
        return False
    place = f"{client.host}/{client.endpoint.repository}"
    found = None
    if notes is not None:
        earlier = notes.find(place, blob.digest)
        found = _status(client, earlier) if earlier else None
    where = found or (location or _begin(client, blob, None), 0)
    if notes is not None:
        notes.note(place, blob.digest, where[0])
    _close(client, _stream(client, where, blob, read), blob, b"")
    if notes is not None:
        notes.forget(place, blob.digest)
    return False


def _begin(client: RegistryClient, blob: Descriptor, mount_from: str | None) -> str:
    """The URL of a new upload session; empty if the blob was mounted instead."""
    path = client.upload_path()
    if mount_from:
        path += f"?mount={quote(str(blob.digest), safe=':')}&from={quote(mount_from, safe='')}"
    headers = {"Content-Length": "0"}
    with client.call("POST", path, headers=headers, expected=(201, 202)) as answer:
        return "" if answer.status == 201 else client.locate(answer)


def _stream(client: RegistryClient, where: tuple[str, int], blob: Descriptor, read: Read) -> str:
    """Send all bytes that the session does not have; the URL at which to close the upload."""
    (location, at), failures = where, 0
    while True:
        before = at
        try:
            return _patch(client, location, blob, at, read)
        except (RegistryError, *TRANSPORT_ERRORS) as error:
            if isinstance(error, RegistryError) and error.status not in _RESUMABLE:
                raise
            location, at = _status(client, location) or (_begin(client, blob, None), 0)
            failures = 1 if at > before else failures + 1
            from random import random

            seconds = wait_s(failures, asked_s=None, random=random())
            if seconds is None:
                raise
            client.session.pause(seconds)


# 0: no answer; 416: it has another number of bytes than we think.
_RESUMABLE: Final = frozenset({0, 408, 416, 429, 500, 502, 503, 504})


def _patch(client: RegistryClient, location: str, blob: Descriptor, at: int, read: Read) -> str:
    headers = {"Content-Type": _OCTETS, "Content-Length": str(blob.size - at)}
    if at:
        headers["Content-Range"] = f"{at}-{blob.size - 1}"
    if at >= blob.size:
        return location
    with client.call(
        "PATCH", location, headers=headers, expected=(202, 204), body=lambda: read(at), again=False
    ) as answer:
        return client.locate(answer)


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
