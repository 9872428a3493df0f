"""HTTP to any host: pooled connections, TLS, proxies. One request, one answer; retries and redirects are the caller's."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Final
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError, InsecureRequestWarning

from hakobune import __version__
from hakobune.distribution.proxies import Proxies
from hakobune.distribution.registries import TlsFiles
from hakobune.errors import HakoError

urllib3.disable_warnings(InsecureRequestWarning)  # whoever says `insecure` means it

USER_AGENT: Final = f"hakobune/{__version__}"
CHUNK_SIZE: Final = 256 << 10
_POOL_SIZE: Final = 8
_CONNECT_TIMEOUT_S: Final = 10.0
_ERROR_BODY_LIMIT: Final = 64 << 10
_SMALL: Final = 64 << 10

# What can go wrong on the way; everything else is a mistake of ours.
TRANSPORT_ERRORS: Final = (HTTPError, OSError)


class Answer:
    """An answer whose body has not been read yet. A context manager: leaving it gives the connection back."""

    def __init__(self, response: urllib3.BaseHTTPResponse, method: str, url: str) -> None:
        self._response = response
        self._bodyless = method == "HEAD" or response.status in (204, 304)
        self.url = url
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
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
        return self._response.headers.getlist(name)

    def chunks(self) -> Iterator[bytes]:
        """The body as it comes, in pieces; it may end before its announced length.

        Raises:
            one of TRANSPORT_ERRORS: it stalls, or is cut.
        """
        while data := self._response.read1(CHUNK_SIZE, decode_content=False):
            yield data

    def read(self, limit: int) -> bytes:
        """The body; more than *limit* bytes are cut one byte after it."""
        return self._response.read(limit + 1, decode_content=False) if limit >= 0 else b""

    def read_whole(self, limit: int) -> None:
        """Fill `body` with all, or with one byte more than *limit*, and close.

        Raises:
            one of TRANSPORT_ERRORS: it stalls, or ends before its announced length.
        """
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
        length = self.length
        if self._bodyless or (length is not None and length <= _SMALL):
            with contextlib.suppress(*TRANSPORT_ERRORS):
                self._response.read(decode_content=False)
        self._response.release_conn() if self._response.closed else self._response.close()


class Connections:
    """Pools of connections, one an origin. Threads share it; `close` closes what is idle.

    Args:
        stall_s: how long a server may send nothing.
    """

    def __init__(self, proxies: Proxies, *, stall_s: float) -> None:
        self._proxies = proxies
        self._stall_s = stall_s
        self._pools: dict[tuple[str, bool], urllib3.HTTPConnectionPool] = {}
        self._lock = threading.Lock()

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes] | None = None,
        *,
        tls: TlsFiles,
        insecure: bool,
    ) -> Answer:
        """Send a request and give the answer's head.

        Raises:
            one of TRANSPORT_ERRORS: there is no answer.
        """
        parts = urlsplit(url)
        pool = self._pool(parts.scheme, parts.netloc, tls, insecure)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if pool.proxy is not None and parts.scheme == "http":
            target = url  # a proxy for plain HTTP wants the whole URL
        response = pool.urlopen(
            method,
            target,
            body=body,
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers},
            retries=False,
            redirect=False,
            assert_same_host=False,
            timeout=urllib3.Timeout(connect=_CONNECT_TIMEOUT_S, read=self._stall_s),
            preload_content=False,
            decode_content=False,
        )
        return Answer(response, method, url)

    def close(self) -> None:
        with self._lock:
            for pool in self._pools.values():
                pool.close()
            self._pools.clear()

    def _pool(
        self, scheme: str, host: str, tls: TlsFiles, insecure: bool
    ) -> urllib3.HTTPConnectionPool:
        key = (f"{scheme}://{host}", insecure)
        with self._lock:
            if key not in self._pools:
                self._pools[key] = self._make_pool(scheme, host, tls, insecure)
            return self._pools[key]

    def _make_pool(
        self, scheme: str, host: str, tls: TlsFiles, insecure: bool
    ) -> urllib3.HTTPConnectionPool:
        parts = urlsplit(f"{scheme}://{host}")
        name, port = parts.hostname or "", parts.port or (443 if scheme == "https" else 80)
        options: dict[str, object] = {"maxsize": _POOL_SIZE, "block": False}
        if scheme == "https":
            options["ssl_context"] = _tls_context(tls, insecure=insecure)
        proxy = self._proxies.proxy_for(scheme, host)
        if proxy:
            manager = _proxy_manager(proxy, options)
            return manager.connection_from_host(name, port, scheme)
        if scheme == "https":
            return urllib3.HTTPSConnectionPool(name, port, **options)  # type: ignore[arg-type] # one set of options for both
        return urllib3.HTTPConnectionPool(name, port, **options)  # type: ignore[arg-type] # the same


def _proxy_manager(proxy: str, options: Mapping[str, object]) -> urllib3.ProxyManager:
    parts = urlsplit(proxy)
    if parts.scheme not in ("http", "https"):
        raise HakoError(
            f"cannot use the proxy at {parts.hostname}",
            why=f"its kind is {parts.scheme!r}",
            fix="name an http:// or https:// proxy in HTTPS_PROXY",
        )
    headers = {}
    if parts.username:
        from urllib.parse import unquote

        user, password = unquote(parts.username), unquote(parts.password or "")
        headers = urllib3.make_headers(proxy_basic_auth=f"{user}:{password}")
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return urllib3.ProxyManager(address, proxy_headers=headers, **options)  # type: ignore[arg-type] # see above


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
