"""S3's REST API as far as blobs need it, over plain HTTP connections that are kept: blocking, safe to use in threads.

No SDK: boto3 alone would cost a worker more memory than the registry has. Errors that pass (connections that
end, 5xx, SlowDown) are tried again; what stays wrong is an `S3Error`.
"""

from __future__ import annotations

import contextlib
import http.client
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Final, Protocol

from hakobune.errors import HakoError
from hakobune.registry.s3_address import S3Address
from hakobune.registry.sigv4 import (
    EMPTY_SHA256,
    S3Credentials,
    Signer,
    encode_path,
    encode_query,
)

TRIES: Final = 4
TIMEOUT_S: Final = 30.0
READ_SIZE: Final = 256 * 1024
_KEPT_CONNECTIONS: Final = 8


class S3Error(HakoError, OSError):
    """S3 refused, or did not answer; *status* is 0 then."""

    def __init__(self, what: str, *, why: str = "", fix: str = "", status: int = 0) -> None:
        super().__init__(what, why=why, fix=fix)
        self.status = status


@dataclass(frozen=True, slots=True)
class S3Answer:
    """Status, headers by lower-case name, and the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Payload(Protocol):
    """A body that can be sent again."""

    @property
    def size(self) -> int: ...

    @property
    def sha256(self) -> str: ...

    def open(self) -> contextlib.AbstractContextManager[bytes | IO[bytes]]: ...


@dataclass(frozen=True, slots=True)
class Bytes:
    """A small body."""

    data: bytes
    sha256: str

    @property
    def size(self) -> int:
        return len(self.data)

    @contextlib.contextmanager
    def open(self) -> Iterator[bytes]:
        yield self.data


class S3Client:
    """Requests to one bucket, signed; connections are kept and shared by the threads that use it."""

    def __init__(
        self,
        address: S3Address,
        credentials: S3Credentials,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.address = address
        self._signer = Signer(credentials=credentials, region=address.region)
        self._now = now
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self._tls = ssl.create_default_context() if address.secure else None

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def send(
        self,
        method: str,
        key: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        payload: Payload | None = None,
        allowed: tuple[int, ...] = (200,),
    ) -> S3Answer:
        """One request, tried again while that may help.

        Raises:
            S3Error: the answer is none of *allowed*, or there is none.
        """
        for attempt in range(1, TRIES + 1):
            try:
                with self._exchange(method, key, query, headers, payload) as response:
                    answer = S3Answer(
                        response.status,
                        {name.lower(): text for name, text in response.getheaders()},
                        response.read(),
                    )
            except (OSError, http.client.HTTPException) as error:
                if attempt == TRIES:
                    raise self._unreachable(error) from error
            else:
                if answer.status in allowed:
                    return answer
                if answer.status < 500 or attempt == TRIES:
                    raise self._refused(method, key, answer.status, answer.body)
            time.sleep(0.1 * 4 ** (attempt - 1))
        raise AssertionError("unreachable")

    def read(self, key: str, first: int, last: int) -> Iterator[bytes]:
        """The bytes *first* to *last*, both included, of an object; a connection that ends is opened again.

        Raises:
            S3Error: there is no such object, or S3 does not answer.
        """
        failures = 0
        while first <= last:
            try:
                with self._exchange(
                    "GET", key, None, {"Range": f"bytes={first}-{last}"}, None
                ) as response:
                    whole = response.status == 200 and first == 0  # no range was looked at
                    if response.status != 206 and not whole:
                        if response.status < 500 or failures == TRIES:
                            raise self._refused("GET", key, response.status, response.read(4096))
                        failures += 1
                        time.sleep(0.1 * 4 ** (failures - 1))
                        continue
                    while data := response.read(min(READ_SIZE, last - first + 1)):
                        first += len(data)
                        failures = 0
                        yield data
                    if first <= last:
                        raise http.client.IncompleteRead(b"", last - first + 1)
            except S3Error:
                raise
            except (OSError, http.client.HTTPException) as error:
                failures += 1
                if failures >= TRIES:
                    raise self._unreachable(error) from error
                time.sleep(0.1 * 4 ** (failures - 1))

    def presigned(self, method: str, key: str, *, lifetime_s: int) -> str:
        """A URL with which anybody may send this request for *lifetime_s* seconds."""
        path = self.address.path(key)
        query = self._signer.presigned_query(
            method, self.address.host, path, now=self._now(), lifetime_s=lifetime_s
        )
        scheme = "https" if self.address.secure else "http"
        return f"{scheme}://{self.address.host}{encode_path(path)}?{query}"

    @contextlib.contextmanager
    def _exchange(
        self,
        method: str,
        key: str,
        query: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
        payload: Payload | None,
    ) -> Iterator[http.client.HTTPResponse]:
        path = self.address.path(key)
        signed = self._signer.headers(
            method,
            self.address.host,
            path,
            now=self._now(),
            query=query,
            headers=headers,
            payload_sha256=payload.sha256 if payload else EMPTY_SHA256,
        )
        if payload or method in ("PUT", "POST"):
            signed["Content-Length"] = str(payload.size if payload else 0)
        target = encode_path(path) + (f"?{encode_query(query)}" if query else "")
        connection = self._connection()
        whole = False
        try:
            with payload.open() if payload else contextlib.nullcontext() as body:
                connection.request(method, target, body, signed)
            response = connection.getresponse()
            yield response
            whole = response.isclosed() and not response.will_close
        finally:
            self._give_back(connection, reusable=whole)

    def _connection(self) -> http.client.HTTPConnection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        if self._tls is not None:
            return http.client.HTTPSConnection(
                self.address.host, timeout=TIMEOUT_S, context=self._tls, blocksize=READ_SIZE
            )
        return http.client.HTTPConnection(self.address.host, timeout=TIMEOUT_S, blocksize=READ_SIZE)

    def _give_back(self, connection: http.client.HTTPConnection, *, reusable: bool) -> None:
        if reusable:
            with self._lock:
                if len(self._idle) < _KEPT_CONNECTIONS:
                    self._idle.append(connection)
                    return
        connection.close()

    def _unreachable(self, error: Exception) -> S3Error:
        return S3Error(
            f"cannot reach the blobs at {self.address.endpoint}",
            why=str(error) or type(error).__name__,
        )

    def _refused(self, method: str, key: str, status: int, body: bytes) -> S3Error:
        return S3Error(
            f"cannot {method} {key or 'the bucket'} in {self.address.bucket}",
            why=f"{self.address.endpoint} answers {status} {_code_of(body)}".rstrip(),
            status=status,
        )


def _code_of(body: bytes) -> str:
    """The code of S3's error document, such as `NoSuchBucket`."""
    _, found, rest = body.partition(b"<Code>")
    return rest.partition(b"</Code>")[0].decode("ascii", "replace")[:80] if found else ""
