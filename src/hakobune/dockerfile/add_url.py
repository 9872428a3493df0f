"""ADD of a URL: downloaded once, asked again with its ETag, checked against `--checksum`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from posixpath import basename
from typing import IO, TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import msgspec

from hakobune.dockerfile.remote_url import ascii_url, shown, split_credentials
from hakobune.errors import HakoError
from hakobune.oci.digest import Digest
from hakobune.support.files import write_atomically
from hakobune.support.room import is_full

if TYPE_CHECKING:
    from urllib.request import Request

_TIMEOUT_S = 60
_BLOCK = 1 << 20


class DownloadError(HakoError):
    """A URL cannot be had, or is not what its checksum says."""


class _Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was downloaded, beside it."""

    etag: str = ""
    modified: str = ""
    digest: str


@dataclass(frozen=True, slots=True)
class Download:
    """A file from a URL: readable by its owner alone and as old as the server says, as BuildKit has it.

    Attributes:
        name: what it is called in a folder.
    """

    path: Path
    name: str
    digest: str


def download(url: str, folder: Path, *, checksum: str = "") -> Download:
    """The URL's file, kept in *folder*; the server is asked whether it has changed, unless a checksum says which it is.

    Raises:
        DownloadError: the server does not give it, or gives something else than *checksum*.
    """
    key = hashlib.sha256(url.encode()).hexdigest()[:32]
    data, notes = folder / key, folder / f"{key}.json"
    seen = _read(notes) if data.exists() else None
    if seen is None or seen.digest != checksum:
        folder.mkdir(parents=True, exist_ok=True)
        seen = _fetch(url, data, seen)
        write_atomically(notes, msgspec.json.encode(seen))
    if checksum and checksum != seen.digest:
        raise DownloadError(
            f"{shown(url)} is not what --checksum says",
            why=f"its digest is {seen.digest}",
            fix="check where it comes from; if it is right, write that digest",
        )
    return Download(data, name_of_url(url), seen.digest)


def name_of_url(url: str) -> str:
    """The last part of the URL's path."""
    return basename(unquote(urlsplit(url).path)) or "__unnamed__"


def _read(path: Path) -> _Seen | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Seen)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _fetch(url: str, data: Path, seen: _Seen | None) -> _Seen:
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import urlopen

    what = f"cannot download {shown(url)}"
    try:
        # The scheme is http or https: `substitute.is_url` decides what is a URL.
        with urlopen(_request(url, seen), timeout=_TIMEOUT_S) as answer:
            return _keep(answer, answer.headers, data)
    except HTTPError as error:
        code, reason = error.code, error.reason
        error.close()
        if code == 304 and seen is not None:
            return seen
        why = f"the server answered {code} {reason}"
        raise DownloadError(what, why=why, fix=_fix_for(code)) from error
    except (URLError, OSError) as error:
        if is_full(error):
            raise
        cause: object = error.reason if isinstance(error, URLError) else error
        why = (cause.strerror if isinstance(cause, OSError) else "") or str(cause)
        fix = "check the address, and HTTP_PROXY, HTTPS_PROXY and NO_PROXY if a proxy is between"
        raise DownloadError(what, why=why, fix=fix) from error
    except HTTPException as error:
        why = str(error) or "the server does not speak HTTP"
        raise DownloadError(what, why=why, fix="check the URL") from error
    except ValueError as error:
        raise DownloadError(what, why=str(error), fix="check how the URL is written") from error


def _fix_for(code: int) -> str:
    if code in (401, 403):
        return "if it is for some only: https://USER:PASSWORD@HOST/…"
    return "check the URL" if code < 500 else "try again later"


def _request(url: str, seen: _Seen | None) -> Request:
    from urllib.request import Request

    url, header = split_credentials(url)
    request = Request(ascii_url(url), headers={"User-Agent": "hakobune"})
    if header:
        request.add_unredirected_header("Authorization", header)
    if seen is not None and seen.etag:
        request.add_header("If-None-Match", seen.etag)
    elif seen is not None and seen.modified:
        request.add_header("If-Modified-Since", seen.modified)
    return request


def _keep(answer: IO[bytes], headers: Mapping[str, str], data: Path) -> _Seen:
    temporary = data.with_name(f".{data.name}.{os.getpid()}.{os.urandom(4).hex()}")
    summary = hashlib.sha256()
    try:
        with open(temporary, "wb") as file:
            while block := answer.read(_BLOCK):
                summary.update(block)
                file.write(block)
            _check_length(file.tell(), headers)
            os.fchmod(file.fileno(), 0o600)
        modified = _time(headers.get("Last-Modified", ""))
        os.utime(temporary, (modified, modified))
        os.rename(temporary, data)
    finally:
        temporary.unlink(missing_ok=True)
    return _Seen(
        etag=headers.get("ETag", ""),
        modified=headers.get("Last-Modified", ""),
        digest=str(Digest("sha256", summary.hexdigest())),
    )


def _check_length(size: int, headers: Mapping[str, str]) -> None:
    """A connection that ends early is not seen otherwise."""
    told = headers.get("Content-Length", "")
    if told.isdecimal() and int(told) != size:
        raise OSError(f"the connection ended after {size} of {told} bytes")


def _time(text: str) -> int:
    try:
        return int(parsedate_to_datetime(text).timestamp())
    except (TypeError, ValueError, IndexError):
        return 0
