"""A connection by way of a proxy, which may itself be spoken to by TLS (RFC 9110 "9.3.6 CONNECT")."""

from __future__ import annotations

import http.client
import socket
import ssl
from typing import Any

from hakobune.distribution.dial import dial
from hakobune.distribution.nested_tls import NestedTls
from hakobune.distribution.proxies import Proxy, ProxyError


class ProxyConnection(http.client.HTTPConnection):
    """Through *proxy* to *host*; requests name their `Host` themselves.

    Args:
        proxy_tls: for a proxy that is spoken to by TLS.
        host_tls: for a host that is; the proxy then only connects us. Without it the proxy is sent requests
            with whole URLs, and who we are with each.
    """

    def __init__(
        self,
        proxy: Proxy,
        host: str,
        port: int,
        *,
        timeout_s: float,
        proxy_tls: ssl.SSLContext | None,
        host_tls: ssl.SSLContext | None,
    ) -> None:
        super().__init__(host, port, timeout=timeout_s)
        self._proxy = proxy
        self._timeout_s = timeout_s
        self._proxy_tls = proxy_tls
        self._host_tls = host_tls

    def connect(self) -> None:
        """Connect, and have the proxy connect us.

        Raises:
            ProxyError: it is not there, not to be trusted, or refuses.
            OSError: TLS with the host itself fails.
        """
        try:
            self._connect_to_proxy()
            if self._host_tls is not None:
                self._ask_for_host()
        except ProxyError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise _explain(error, self._proxy, self.host) from error
        if self._host_tls is not None:
            self.sock = _begin_tls(self.sock, self._host_tls, self.host)

    def _connect_to_proxy(self) -> None:
        self.sock = dial(self._proxy.host, self._proxy.port, self._timeout_s)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._proxy_tls is not None:
            self.sock = self._proxy_tls.wrap_socket(self.sock, server_hostname=self._proxy.host)

    def _ask_for_host(self) -> None:
        name = f"[{self.host}]" if ":" in self.host else self.host
        lines = [f"CONNECT {name}:{self.port} HTTP/1.1", f"Host: {name}:{self.port}"]
        lines += [f"{key}: {value}" for key, value in self._proxy.headers.items()]
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        answer = http.client.HTTPResponse(self.sock, method="CONNECT")
        try:
            answer.begin()
            if answer.status // 100 != 2:
                raise refusal(self._proxy, self.host, answer.status, answer.reason)
        finally:
            answer.close()


def refusal(proxy: Proxy, host: str, status: int, reason: str) -> ProxyError:
    """The error for a proxy's answer that is no connection (pure)."""
    said = "".join(c if c.isprintable() else " " for c in reason)[:100].strip()
    begin = f"the proxy {proxy.address} did not connect us to {host}"
    if status == 407 and proxy.user:
        return ProxyError(
            f"{begin}: it does not accept the user {proxy.user!r} (407)",
            fix="check the user and password in HTTPS_PROXY; signs like @ and : in them are written %40 and %3A",
            final=True,
        )
    if status == 407:
        return ProxyError(
            f"{begin}: it wants to know who asks (407)",
            fix=f"HTTPS_PROXY={'https' if proxy.tls else 'http'}://USER:PASSWORD@{proxy.address}",
            final=True,
        )
    if status in (401, 403, 405):
        return ProxyError(
            f"{begin}: it does not allow that ({status} {said})",
            fix=f"ask its operator to allow {host}, or add {host} to NO_PROXY",
            final=True,
        )
    return ProxyError(f"{begin}: {status} {said}", fix="check HTTPS_PROXY, HTTP_PROXY and NO_PROXY")


def _explain(error: BaseException, proxy: Proxy, host: str) -> ProxyError:
    """What went wrong between us and the proxy."""
    begin = f"the proxy {proxy.address} did not connect us to {host}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return ProxyError(
            f"{begin}: its certificate is not one that this machine trusts ({error.verify_message})",
            fix=f"put the certificate of its authority into /etc/docker/certs.d/{proxy.address}/ca.crt, or into the file that SSL_CERT_FILE names",
            final=True,
        )
    if isinstance(error, ssl.SSLError) and error.reason in (
        "WRONG_VERSION_NUMBER",
        "HTTP_REQUEST",
        "RECORD_LAYER_FAILURE",
    ):
        return ProxyError(
            f"{begin}: it does not speak TLS",
            fix=f"HTTPS_PROXY=http://{proxy.address} (what goes through it to https:// is encrypted all the same)",
            final=True,
        )
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(error, http.client.RemoteDisconnected | ConnectionResetError) and not proxy.tls:
        reason = f"{reason} (if it is spoken to by TLS, its URL begins with https://)"
    return ProxyError(f"{begin}: {reason}", fix="check HTTPS_PROXY, HTTP_PROXY and NO_PROXY")


def _begin_tls(sock: socket.socket, context: ssl.SSLContext, host: str) -> Any:
    """The connection with TLS on it. `Any`: `http.client` asks for a socket, and takes what does as much of one as it needs."""
    if isinstance(sock, ssl.SSLSocket):
        return NestedTls(sock, context, host)
    return context.wrap_socket(sock, server_hostname=host)
