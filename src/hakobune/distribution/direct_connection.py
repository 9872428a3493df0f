"""A connection to a host itself, with TLS or without."""

from __future__ import annotations

import http.client
import socket
import ssl

from hakobune.distribution.dial import dial


class DirectConnection(http.client.HTTPConnection):
    """To *host*; requests name their `Host` themselves.

    Args:
        timeout_s: for the connection, and for each step of its TLS.
        host_tls: for a host that is spoken to by TLS.
    """

    def __init__(
        self, host: str, port: int, *, timeout_s: float, host_tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(host, port, timeout=timeout_s)
        self._timeout_s = timeout_s
        self._host_tls = host_tls

    def connect(self) -> None:
        """Connect.

        Raises:
            OSError: nobody answers, or TLS fails.
        """
        self.sock = dial(self.host, self.port, self._timeout_s)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._host_tls is not None:
            self.sock = self._host_tls.wrap_socket(self.sock, server_hostname=self.host)
