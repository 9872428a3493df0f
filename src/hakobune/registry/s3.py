"""Blobs in S3 or anything that speaks its API: a `Storage` whose keys are used once.

Every `put` writes an object of its own, `ALGORITHM/HH/HEX.NONCE`: so deleting what a collector has doomed can never hit
what was pushed meanwhile, and nothing is copied or renamed when an upload is done. What is put twice is an object
without a row, which the collector's walk removes. Objects of more than 64 MiB go in parts, several at once.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, quote, urlsplit

from hakobune.errors import UsageError
from hakobune.registry.blobs import Stat
from hakobune.registry.s3_address import S3Address
from hakobune.registry.s3_client import Bytes, S3Client, S3Error
from hakobune.registry.sigv4 import S3Credentials

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

PART_SIZE: Final = 64 << 20
MOST_PARTS: Final = 10_000
LARGEST_COPY: Final = 5 << 30
_PARALLEL_PARTS: Final = 4
_UPLOADS_KEPT_S: Final = 24 * 3600


def open_s3(url: str, environment: Mapping[str, str]) -> S3Storage:
    """The place that *url* names: `s3://BUCKET/PREFIX?endpoint=URL&region=NAME&addressing=path|host&redirect=yes|no`.

    Args:
        environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN are looked at.

    Raises:
        UsageError: the URL cannot be understood, or the keys are missing.
    """
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    redirect = query.pop("redirect", ["no"])[-1]
    if redirect not in ("yes", "no"):
        raise UsageError(
            f"cannot understand redirect={redirect}",
            why="clients are sent to S3 for blobs (yes), or get them from the registry (no)",
        )
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    missing = [name for name in names if not environment.get(name)]
    if missing:
        raise UsageError(
            f"cannot keep blobs in s3://{parts.netloc}",
            why=f"{' and '.join(missing)} is not set",
            fix="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY where the registry is started",
        )
    rest = "&".join(f"{name}={quote(text)}" for name, texts in query.items() for text in texts)
    address = S3Address.parse(parts._replace(query=rest).geturl())
    credentials = S3Credentials(
        environment[names[0]], environment[names[1]], environment.get("AWS_SESSION_TOKEN", "")
    )
    return S3Storage(S3Client(address, credentials), redirect=redirect == "yes")


class S3Storage:
    """See `hakobune.registry.blobs.Storage`."""

    def __init__(
        self, client: S3Client, *, redirect: bool = False, part_size: int = PART_SIZE
    ) -> None:
        self._client = client
        self._prefix = client.address.prefix
        self._redirect = redirect
        self._part_size = part_size

    def check(self) -> None:
        """Look whether the bucket can be used.

        Raises:
            S3Error: it is not there, or the keys are refused.
        """
        self._client.send("GET", "", query={"list-type": "2", "max-keys": "1"})

    def put(self, staged: Path, digest: str) -> str:
        """Store a file under a new key. It is durable when S3 says so."""
        algorithm, _, digits = digest.partition(":")
        key = f"{algorithm}/{digits[:2]}/{digits}.{os.urandom(6).hex()}"
        size = staged.stat().st_size
        if size > self._part_size:
            self._put_in_parts(staged, key, size)
        else:
            whole = FilePart(staged, 0, size, known=digits if algorithm == "sha256" else "")
            self._client.send("PUT", self._prefix + key, payload=whole)
        return key

    def is_there(self, key: str) -> bool:
        """Always: a key is used once, and removed only after its row."""
        return True

    def local_path(self, key: str) -> Path | None:
        return None

    def presign(self, key: str, *, expires_s: int) -> str | None:
        if not self._redirect:
            return None
        return self._client.presigned("GET", self._prefix + key, lifetime_s=expires_s)

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        if start >= end:
            return
        try:
            yield from self._client.read(self._prefix + key, start, end - 1)
        except S3Error as error:
            if error.status == 404:
                raise FileNotFoundError(key) from error
            raise

    def stat(self, key: str) -> Stat | None:
        answer = self._client.send("HEAD", self._prefix + key, allowed=(200, 404))
        if answer.status == 404:
            return None
        from email.utils import parsedate_to_datetime

        modified = parsedate_to_datetime(answer.headers["last-modified"])
        size = int(answer.headers["content-length"])
        return Stat(key, size, int(modified.timestamp() * 1_000_000))

    def retire(self, key: str) -> None:
        """Nothing: `delete` does it."""

    def delete(self, key: str) -> None:
        self._client.send("DELETE", self._prefix + key, allowed=(200, 204, 404))

    def quarantine(self, key: str) -> str:
        """See `Storage`: here it is a copy below `quarantine/`, in parts if one request cannot do it."""
        target = f"{self._prefix}quarantine/{key.rpartition('/')[2]}"
        place = f"s3://{self._client.address.bucket}/{target}"
        found = self.stat(key)
        if found is None:
            return place
        source = quote(f"/{self._client.address.bucket}/{self._prefix}{key}")
        if found.size <= LARGEST_COPY:
            self._check_copy(
                self._client.send("PUT", target, headers={"x-amz-copy-source": source}).body
            )
        else:
            self._copy_in_parts(source, target, found.size)
        self.delete(key)
        return place

    def list(self) -> Iterator[Stat]:
        for algorithm in ("sha256", "sha512"):
            for found in self._pages(
                {"list-type": "2", "prefix": f"{self._prefix}{algorithm}/"},
                ("NextContinuationToken", "continuation-token"),
                "Contents",
            ):
                yield Stat(
                    _text(found, "Key").removeprefix(self._prefix),
                    int(_text(found, "Size")),
                    _microseconds(_text(found, "LastModified")),
                )

    def abort_leftovers(self, now_s: float) -> int:
        """End uploads in parts that a killed process has begun a day ago; how many."""
        old = [
            (_text(found, "Key"), _text(found, "UploadId"))
            for found in self._pages(
                {"uploads": "", "prefix": self._prefix}, ("NextKeyMarker", "key-marker"), "Upload"
            )
            if _microseconds(_text(found, "Initiated")) < (now_s - _UPLOADS_KEPT_S) * 1_000_000
        ]
        for key, upload in old:
            self._client.send("DELETE", key, query={"uploadId": upload}, allowed=(200, 204, 404))
        return len(old)

    def close(self) -> None:
        """Close idle connections."""
        self._client.close()

    # Uploads in parts (Amazon S3 API "CreateMultipartUpload", "UploadPart", "UploadPartCopy", "CompleteMultipartUpload")

    def _put_in_parts(self, staged: Path, key: str, size: int) -> None:
        step = _part_size(size, self._part_size)
        parts = [FilePart(staged, at, min(step, size - at)) for at in range(0, size, step)]

        def send(upload: str, number: int) -> str:
            query = {"partNumber": str(number), "uploadId": upload}
            answer = self._client.send(
                "PUT", self._prefix + key, query=query, payload=parts[number - 1]
            )
            return answer.headers["etag"]

        self._in_parts(self._prefix + key, len(parts), send)

    def _copy_in_parts(self, source: str, target: str, size: int) -> None:
        step = _part_size(size, 1 << 30)
        starts = range(0, size, step)

        def send(upload: str, number: int) -> str:
            first = starts[number - 1]
            headers = {
                "x-amz-copy-source": source,
                "x-amz-copy-source-range": f"bytes={first}-{min(first + step, size) - 1}",
            }
            query = {"partNumber": str(number), "uploadId": upload}
            body = self._client.send("PUT", target, query=query, headers=headers).body
            return self._check_copy(body)

        self._in_parts(target, len(starts), send)

    def _in_parts(self, key: str, count: int, send: Any) -> None:
        """Have `send(upload, number)` send each part and give its ETag; all become the object, or nothing does."""
        begun = self._client.send("POST", key, query={"uploads": ""})
        upload = _text(_parse(begun.body), "UploadId")
        try:
            with ThreadPoolExecutor(_PARALLEL_PARTS) as threads:
                etags = list(threads.map(lambda number: send(upload, number), range(1, count + 1)))
            body = _complete_document(etags)
            done = self._client.send(
                "POST",
                key,
                query={"uploadId": upload},
                payload=Bytes(body, sha256(body).hexdigest()),
            )
            if b"<Error>" in done.body:  # the status is sent before the parts are put together
                raise S3Error(f"cannot put the parts of {key} together", why=repr(done.body[:200]))
        except BaseException:
            with contextlib.suppress(S3Error):
                self._client.send("DELETE", key, query={"uploadId": upload}, allowed=(200, 204))
            raise

    def _check_copy(self, body: bytes) -> str:
        """The ETag of what was copied: an error may come with status 200."""
        document = _parse(body)
        if document.tag == "Error":
            raise S3Error("cannot copy an object", why=_text(document, "Message"))
        return _text(document, "ETag")

    def _pages(
        self, query: Mapping[str, str], marker: tuple[str, str], entry: str
    ) -> Iterator[Element]:
        """All elements *entry* of a listing; *marker* is how a page names the next one, and how that is asked for."""
        asked = dict(query)
        while True:
            page = _parse(self._client.send("GET", "", query=asked).body)
            yield from page.findall(entry)
            following = page.findtext(marker[0])
            if page.findtext("IsTruncated") != "true" or not following:
                return
            asked[marker[1]] = following
            if upload := page.findtext("NextUploadIdMarker"):
                asked["upload-id-marker"] = upload


@dataclass(slots=True)
class FilePart:
    """A piece of a file as a request's body; its SHA-256 is taken when it is first asked for."""

    path: Path
    start: int
    size: int
    known: str = ""

    @property
    def sha256(self) -> str:
        if not self.known:
            running = sha256()
            with self.open() as file:
                while data := file.read(1 << 20):
                    running.update(data)
            self.known = running.hexdigest()
        return self.known

    @contextlib.contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self.start)
            yield _Limited(file, self.size)  # type: ignore[misc] # http.client needs read() and no more


class _Limited:
    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data


def _part_size(size: int, least: int) -> int:
    """Whole mebibytes, so that there are not too many parts."""
    needed = -(-size // MOST_PARTS)
    return max(least, -(-needed >> 20 << 20))


def _complete_document(etags: Sequence[str]) -> bytes:
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
        for number, etag in enumerate(etags, 1)
    )
    return f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()


def _parse(body: bytes) -> Element:
    """An XML document, its names without their namespace."""
    from xml.etree import ElementTree

    try:
        document = ElementTree.fromstring(body)
    except ElementTree.ParseError as error:
        raise S3Error("S3 answers with something else than XML", why=repr(body[:200])) from error
    for element in document.iter():
        element.tag = element.tag.rpartition("}")[2]
    return document


def _text(element: Element, name: str) -> str:
    found = element.findtext(name)
    if found is None:
        raise S3Error(f"S3 answers without {name}")
    return found


def _microseconds(moment: str) -> int:
    """Of an ISO 8601 moment in UTC, since 1970."""
    from datetime import datetime

    return int(datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp() * 1_000_000)
