"""HTTP to any host: pooled connections, by way of a proxy or not. One request, one answer; retries and redirects are the caller's.

On `http.client`, since nothing more is needed and `hako image push` of an unchanged image has 100 ms.
"""

from __future__ import annotations

import contextlib
import http.client
import select
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final
from urllib.parse import urlsplit

from hakobune import __version__
from hakobune.distribution.direct_connection import DirectConnection
from hakobune.distribution.proxies import Proxies, Proxy
from hakobune.distribution.proxy_connection import ProxyConnection
from hakobune.distribution.registries import TlsFiles
from hakobune.distribution.unix_http import UnixConnection
from hakobune.errors import HakoError

USER_AGENT: Final = f"hakobune/{__version__}"
CHUNK_SIZE: Final = 256 << 10
_IDLE_CONNECTIONS: Final = 8  # of one origin
_ERROR_BODY_LIMIT: Final = 64 << 10
_SMALL: Final = 64 << 10

# What can go wrong on the way; everything else is a mistake of ours.
TRANSPORT_ERRORS: Final = (OSError, http.client.HTTPException)


class ConnectTimeoutError(OSError):
    """There is no connection within the time."""


_Key = tuple[str, bool, str]
"""Origin, whether it may be insecure, and the path of its unix socket."""


class Answer:
    """An answer whose body has not been read yet. A context manager: leaving it gives the connection back."""

    def __init__(
        self,
        response: http.client.HTTPResponse,
        connection: http.client.HTTPConnection,
        give_back: Callable[[http.client.HTTPConnection], None],
        url: str,
    ) -> None:
        self._response = response
        self._connection = connection
        self._give_back = give_back
        self.url = url
        self.status = response.status
        # By small names; of several headers with one name, the first.
        self.headers: dict[str, str] = {}
        for name, value in response.getheaders():
            self.headers.setdefault(name.lower(), value)
        self.body = b""  # after `read_whole`

    def __enter__(self) -> Answer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def header_values(self, name: str) -> list[str]:
        """All headers of that name, not joined."""
        return self._response.headers.get_all(name) or []

    def chunks(self) -> Iterator[bytes]:
        """The body as it comes, in pieces; it may end before its announced length.

        Raises:
            one of TRANSPORT_ERRORS: it stalls, or is cut.
        """
        while data := self._response.read1(CHUNK_SIZE):
            yield data

    def read(self, limit: int) -> bytes:
        """The body; more than *limit* bytes are cut one byte after it.

        Raises:
            one of TRANSPORT_ERRORS: it stalls, or ends before its announced length.
        """
        data = self._response.read(limit + 1)
        if self._response.length and len(data) <= limit:
            raise http.client.IncompleteRead(data, self._response.length)
        return data

    def read_whole(self, limit: int) -> None:
        """Fill `body` as `read` does, and close."""
        with self:
            self.body = self.read(limit)

    @property
    def length(self) -> int | None:
        """What the answer says about its body's length."""
        text = self.headers.get("content-length", "")
        return int(text) if text.isdecimal() else None

    def start_of_body(self) -> bytes:
        """What can be had of the body, for an error message."""
        try:
            return self.read(_ERROR_BODY_LIMIT)[:_ERROR_BODY_LIMIT]
        except TRANSPORT_ERRORS:
            return b""

    def close(self) -> None:
        """Give the connection back; what is left of the body is read if that is little, else the connection ends."""
        response = self._response
        with contextlib.suppress(*TRANSPORT_ERRORS):
            left = response.length
            if not response.isclosed() and left is not None and left <= _SMALL:
                response.read()
        finished = response.isclosed() and not response.will_close
        response.close()
        if finished:
            self._give_back(self._connection)
        else:
            self._connection.close()


class Connections:
    """Idle connections, by origin. Threads share it; `close` closes what is idle.

    Args:
        tls_files: the certificates for a `HOST[:PORT]`, proxies among them.
        stall_s: how long a server may send nothing.
        connect_s: how long a connection may take.
        head_s: how long the head of an answer may take; `stall_s` if `None`.
    """

    def __init__(
        self,
        proxies: Proxies,
        *,
        tls_files: Callable[[str], TlsFiles],
        stall_s: float,
        connect_s: float = 10.0,
        head_s: float | None = None,
    ) -> None:
        self._proxies = proxies
        self._tls_files = tls_files
        self._stall_s = stall_s
        self._connect_s = connect_s
        self._head_s = stall_s if head_s is None else head_s
        self._idle: dict[_Key, list[http.client.HTTPConnection]] = {}
        self._contexts: dict[_Key, ssl.SSLContext] = {}
        self._lock = threading.Lock()
        self._closed = False

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes] | None = None,
        *,
        insecure: bool,
        unix_socket: Path | None = None,
    ) -> Answer:
        """Send a request and give the answer's head. An iterable body needs its Content-Length.

        Args:
            unix_socket: where the URL's host is reached; certificates and proxies are for others.

        Raises:
            one of TRANSPORT_ERRORS: there is no answer.
        """
        parts = urlsplit(url)
        key = (f"{parts.scheme}://{parts.netloc}", insecure, str(unix_socket or ""))
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        host = parts.netloc.rpartition("@")[2]
        own = {"Host": host, "User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
        proxy = None if unix_socket else self._proxies.proxy_for(parts.scheme, parts.netloc)
        if proxy and parts.scheme == "http":  # it wants the whole URL
            target = url
            own |= proxy.headers
        connection = self._take_idle(key) or self._connect(key, proxy)
        try:
            _write(connection, method, target, {**own, **headers}, body)
            sock = connection.sock  # the answer's alone afterwards, where the server will close
            sock.settimeout(self._head_s)
            response = connection.getresponse()
            if sock.fileno() >= 0:
                sock.settimeout(self._stall_s)
        except BaseException:
            connection.close()
            raise
        return Answer(response, connection, lambda idle: self._keep(key, idle), url)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for idle in self._idle.values():
                for connection in idle:
                    connection.close()
            self._idle.clear()

    def _take_idle(self, key: _Key) -> http.client.HTTPConnection | None:
        """A connection that is still open; the server may have closed it meanwhile."""
        while True:
            with self._lock:
                idle = self._idle.get(key)
                if not idle:
                    return None
                connection = idle.pop()
            if not _has_ended(connection):
                return connection
            connection.close()

    def _keep(self, key: _Key, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            idle = self._idle.setdefault(key, [])
            if not self._closed and len(idle) < _IDLE_CONNECTIONS:
                idle.append(connection)
                return
        connection.close()

    def _connect(self, key: _Key, proxy: Proxy | None) -> http.client.HTTPConnection:
        """A new connection to the origin, or to the proxy before it.

        Raises:
            ConnectTimeoutError, ProxyError, OSError: there is none.
            HakoError: a certificate that is configured cannot be used.
        """
        origin = urlsplit(key[0])
        host, port = origin.hostname or "", origin.port or (443 if origin.scheme == "https" else 80)
        context = self._context(key, origin.netloc) if origin.scheme == "https" else None
        connection: http.client.HTTPConnection
        if key[2]:
            connection = UnixConnection(key[2], self._connect_s)
        elif proxy is not None:
            connection = ProxyConnection(
                proxy,
                host,
                port,
                timeout_s=self._connect_s,
                proxy_tls=self._proxy_context(proxy) if proxy.tls else None,
                host_tls=context,
            )
        else:
            connection = DirectConnection(host, port, timeout_s=self._connect_s, host_tls=context)
        try:
            connection.connect()
        except BaseException as error:
            connection.close()
            if isinstance(error, TimeoutError):
                raise ConnectTimeoutError(str(error)) from error
            raise
        connection.sock.settimeout(self._stall_s)
        return connection

    def _proxy_context(self, proxy: Proxy) -> ssl.SSLContext:
        return self._context((f"https://{proxy.address}", False, ""), proxy.address)

    def _context(self, key: _Key, host: str) -> ssl.SSLContext:
        """One an origin: reading the machine's authorities takes tens of milliseconds."""
        with self._lock:
            if key not in self._contexts:
                self._contexts[key] = _tls_context(self._tls_files(host), insecure=key[1])
            return self._contexts[key]


def _write(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes | Iterable[bytes] | None,
) -> None:
    """Send the request. Who refuses a body early may stop reading it: then the answer says why."""
    try:
        connection.request(method, target, body=body, headers=dict(headers))
    except (BrokenPipeError, ConnectionResetError):
        if body is None:
            raise


def _has_ended(connection: http.client.HTTPConnection) -> bool:
    """Whether the server has closed an idle connection (or has sent what nobody asked for)."""
    if connection.sock is None:
        return True
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


def _tls_context(tls: TlsFiles, *, insecure: bool) -> ssl.SSLContext:
    """The machine's authorities (SSL_CERT_FILE is OpenSSL's own), and those of the host.

    Who has an authority for an insecure host wants it checked all the same.

    Raises:
        HakoError: a file of certificates cannot be read; it is named.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if insecure and not tls.authorities:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for path in tls.authorities:
        with _naming(str(path)):
            context.load_verify_locations(cafile=path)
    if tls.certificate is not None:
        with _naming(str(tls.certificate)):
            context.load_cert_chain(tls.certificate, tls.key)
    return context


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    try:
        yield
    except (ssl.SSLError, OSError) as error:
        raise HakoError(
            f"cannot use the certificate {path}",
            why=error.strerror or str(error),
            fix="it must be PEM, and a client's .cert needs its .key beside it",
        ) from error
