"""Files from the web, kept: one a URL, asked again by its validators, taken up where it broke off."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from hakobune.distribution.access import Access
from hakobune.distribution.connections import TRANSPORT_ERRORS, Answer
from hakobune.distribution.errors import NoAnswerError, RegistryError, no_answer
from hakobune.distribution.registries import Endpoint, is_loopback
from hakobune.distribution.request import Request
from hakobune.distribution.session import Session
from hakobune.errors import HakoError
from hakobune.progress import Progress
from hakobune.support.files import write_atomically
from hakobune.support.room import is_full

MOST_BYTES: Final = 4 << 30
_TRIES: Final = 4
_KEPT_S: Final = 30 * 86400
_BY_HAND: Final = "download it and name the file"


class _Notes(msgspec.Struct, frozen=True, kw_only=True):
    """What the server said of a file that is kept."""

    url: str
    etag: str = ""
    modified: str = ""


def fetch_file(
    url: str,
    folder: Path,
    access: Access,
    progress: Progress,
    *,
    offline: bool = False,
    most_bytes: int = MOST_BYTES,
) -> Path:
    """The file at *url*, kept in *folder*; what has not changed is not sent again. The caller holds the folder's lock.

    Nothing vouches for the bytes but TLS, so plain HTTP is for loopback alone.

    Args:
        offline: take what is kept, and ask nobody.

    Raises:
        HakoError: it cannot be had, or is larger than *most_bytes*. What was kept stays.
    """
    _check(url)
    path = folder / hashlib.sha256(url.encode()).hexdigest()[:32]
    kept = _read_notes(path)
    if offline and kept is None:
        raise HakoError(
            f"cannot take {url}", why="it was not downloaded before, and nobody may be asked"
        )
    if not offline:
        folder.mkdir(parents=True, exist_ok=True)
        _forget_old(folder)
        try:
            with Session(access, note=progress.note) as session:
                _Download(session, url, path, kept, progress, most_bytes).run()
        except NoAnswerError as error:
            if kept is None:
                raise _translated(url, error) from error
            progress.note(f"{url}: {error.why}; what was downloaded before is taken", warning=True)
        except RegistryError as error:
            raise _translated(url, error) from error
    _touch(path)
    return path


class _Download:
    """One file on its way."""

    def __init__(
        self,
        session: Session,
        url: str,
        path: Path,
        kept: _Notes | None,
        progress: Progress,
        most_bytes: int,
    ) -> None:
        self._session = session
        self._url = url
        self._path = path
        self._kept = kept
        self._progress = progress
        self._most_bytes = most_bytes
        self._arriving = path.with_name(f"{path.name}.part")
        self._etag = ""  # of what has arrived
        parts = urlsplit(url)
        plain = parts.scheme == "http"
        self._endpoint = Endpoint(
            host=parts.netloc, repository="", insecure=plain, plain_first=plain
        )

    def run(self) -> None:
        self._arriving.unlink(missing_ok=True)
        try:
            notes = self._attempts()
            if notes is not None:
                # A file without notes is not kept: the two never disagree.
                _notes_path(self._path).unlink(missing_ok=True)
                self._arriving.rename(self._path)
                write_atomically(_notes_path(self._path), msgspec.json.encode(notes))
        finally:
            self._arriving.unlink(missing_ok=True)

    def _attempts(self) -> _Notes | None:
        """What the server says of the file that has arrived; `None` if the one that is kept is still right."""
        attempt = 1
        while True:
            try:
                with self._ask() as answer:
                    if answer.status == 304:
                        return None
                    self._receive(answer)
                    return _Notes(
                        url=self._url,
                        etag=answer.headers.get("etag", ""),
                        modified=answer.headers.get("last-modified", ""),
                    )
            except TRANSPORT_ERRORS as error:
                if isinstance(error, OSError) and is_full(error):
                    raise
                if attempt == _TRIES:
                    what = f"cannot download {self._url}"
                    raise no_answer(what, host=self._endpoint.host, error=error) from error
            self._session.pause(0.3 * 2**attempt)
            attempt += 1

    def _ask(self) -> Answer:
        headers = {}
        arrived = self._arrived()
        if arrived and self._etag:
            headers = {"Range": f"bytes={arrived}-", "If-Range": self._etag}
        elif self._kept is not None and self._kept.etag:
            headers = {"If-None-Match": self._kept.etag}
        elif self._kept is not None and self._kept.modified:
            headers = {"If-Modified-Since": self._kept.modified}
        return self._session.send(
            Request(
                method="GET",
                url=self._url,
                what=f"cannot download {self._url}",
                headers=headers,
                expected=frozenset({200, 206} if "Range" in headers else {200, 304}),
                anonymous=True,
            ),
            self._endpoint,
        )

    def _receive(self, answer: Answer) -> None:
        goes_on = answer.status == 206 and answer.headers.get("content-range", "").startswith(
            f"bytes {self._arrived()}-"
        )
        if answer.status == 206 and not goes_on:
            self._etag = ""  # the next try begins anew
            raise http.client.HTTPException("the server sent another part than was asked for")
        etag = answer.headers.get("etag", "")
        self._etag = "" if etag.startswith("W/") else etag
        before = self._arrived() if goes_on else 0
        total = None if answer.length is None else before + answer.length
        self._check_size(total or 0)
        with open(self._arriving, "ab" if goes_on else "wb") as file:
            for chunk in answer.chunks():
                file.write(chunk)
                self._check_size(file.tell())
                self._progress.bytes(self._url, file.tell(), total)
            if total is not None and file.tell() != total:
                raise http.client.IncompleteRead(b"", total - file.tell())

    def _arrived(self) -> int:
        try:
            return self._arriving.stat().st_size
        except FileNotFoundError:
            return 0

    def _check_size(self, size: int) -> None:
        if size > self._most_bytes:
            raise HakoError(
                f"{self._url} is too large",
                why=f"at most {self._most_bytes >> 20} MB are downloaded",
                fix=_BY_HAND,
            )


def _check(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "http" and not is_loopback(parts.netloc):
        raise HakoError(
            f"{url} is not downloaded",
            why="whoever is on the way could change what comes by plain HTTP",
            fix="say https://, or download it and name the file",
        )
    if "@" in parts.netloc:
        raise HakoError(
            f"cannot download from {parts.hostname}",
            why="its URL holds a password, which would be shown and kept",
            fix=_BY_HAND,
        )
    if not parts.hostname:
        raise HakoError(f"{url} names no host", fix="https://HOST/PATH")


def _translated(url: str, error: RegistryError) -> HakoError:
    fix = error.fix if isinstance(error, NoAnswerError) else f"check the URL, or {_BY_HAND}"
    return HakoError(f"cannot download {url}", why=error.why, fix=fix)


def _notes_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _read_notes(path: Path) -> _Notes | None:
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(_notes_path(path).read_bytes(), type=_Notes)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _touch(path: Path) -> None:
    """Both files are as old as their last use."""
    for file in (path, _notes_path(path)):
        file.touch()


def _forget_old(folder: Path) -> None:
    oldest = time.time() - _KEPT_S
    for file in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if file.stat().st_mtime < oldest:
                file.unlink()
