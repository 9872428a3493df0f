"""A forward proxy on loopback: CONNECT and requests with whole URLs, both to one place, whatever host they name."""

from __future__ import annotations

import base64
import contextlib
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator

from tests.real_registry import Tls


@contextlib.contextmanager
def forward_proxy(
    target: str, *, tls: Tls | None = None, user: str = "", refuse: bytes = b""
) -> Iterator[tuple[str, list[bytes]]]:
    """A proxy until the block ends; its address, and the heads of the requests it got.

    Args:
        tls: what it is spoken to with, if by TLS.
        user: `USER:PASSWORD`, without which it answers 407.
        refuse: the status line with which it answers everything instead.
    """
    heads: list[bytes] = []
    wanted = b"Basic " + base64.b64encode(user.encode())
    context = None
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.certificate, tls.key)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            client = self.request
            client.settimeout(20)
            with contextlib.ExitStack() as stack:
                stack.enter_context(contextlib.suppress(OSError))  # clients that go away
                if context is not None:
                    client = stack.enter_context(context.wrap_socket(client, server_side=True))
                self._serve(client)

        def _serve(self, client: socket.socket) -> None:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                if not (byte := client.recv(1)):
                    return
                head += byte
            heads.append(head)
            lines = head.split(b"\r\n")
            if refuse or (user and b"Proxy-Authorization: " + wanted not in lines):
                status = refuse or b"407 Proxy Authentication Required"
                client.sendall(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\nno")
                return
            address, _, port = target.partition(":")
            with socket.create_connection((address, int(port))) as upstream:
                if lines[0].startswith(b"CONNECT "):
                    client.sendall(b"HTTP/1.1 200 connected\r\n\r\n")
                else:
                    upstream.sendall(_as_origin_wants(lines))
                there = threading.Thread(target=_copy, args=(client, upstream))
                there.start()
                _copy(upstream, client)
                there.join()

    socketserver.ThreadingTCPServer.allow_reuse_address = True
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}", heads
        finally:
            server.shutdown()
            thread.join()


def _as_origin_wants(lines: list[bytes]) -> bytes:
    """The head with the path alone, for one request a connection."""
    method, url, version = lines[0].split(b" ")
    path = b"/" + url.split(b"/", 3)[3]
    kept = [line for line in lines[1:-2] if not line.startswith(b"Proxy-")]
    return b"\r\n".join([b" ".join((method, path, version)), *kept, b"Connection: close", b"", b""])


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):  # the other direction ends, too
        target.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        source.shutdown(socket.SHUT_RDWR)
