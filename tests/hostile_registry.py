"""A small registry in this process that does what it is told to do wrong; it notes every request it gets."""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

Fault = Callable[["Handler"], bool]
"""Answers a request in its own way; `False` leaves it to the registry."""


@dataclass(slots=True)
class Seen:
    """A request that came."""

    method: str
    path: str
    query: str
    headers: dict[str, str]


@dataclass(slots=True)
class _Rule:
    method: str
    path: re.Pattern[str]
    fault: Fault
    times: int


@dataclass(slots=True)
class HostileRegistry:
    """Manifests and blobs by digest; a tag is a manifest's other name. One repository is like another."""

    host: str = ""
    scheme: str = "http"
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    rules: list[_Rule] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def new_session(self) -> str:
        """Begin an upload."""
        session = f"u{next(self.numbers)}"
        self.uploads[session] = bytearray()
        return session

    def fail(
        self, method: str, path: str, fault: Fault, *, times: int = 1_000_000, first: bool = False
    ) -> None:
        """Let *fault* answer the next *times* requests whose path matches, after (or before) what was said earlier."""
        self.rules.insert(
            0 if first else len(self.rules), _Rule(method, re.compile(path), fault, times)
        )

    def put_blob(self, data: bytes) -> str:
        digest = f"sha256:{sha256(data).hexdigest()}"
        self.blobs[digest] = data
        return digest

    def put_manifest(self, media_type: str, raw: bytes, *tags: str) -> str:
        digest = f"sha256:{sha256(raw).hexdigest()}"
        for name in (digest, *tags):
            self.manifests[name] = (media_type, raw)
        return digest

    def requests(self, method: str, path: str) -> list[Seen]:
        """Those that came and match."""
        return [s for s in self.seen if s.method == method and re.search(path, s.path)]

    def take_rule(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for rule in self.rules:
                if rule.times > 0 and rule.method == method and rule.path.search(path):
                    rule.times -= 1
                    return rule.fault
        return None


class Handler(BaseHTTPRequestHandler):
    """Speaks the distribution specification as far as pulls and pushes need it."""

    protocol_version = "HTTP/1.1"
    registry: HostileRegistry

    def log_message(self, format: str, *arguments: object) -> None: ...

    def _do(self) -> None:
        parts = urlsplit(self.path)
        self.registry.seen.append(
            Seen(
                self.command,
                parts.path,
                parts.query,
                {k.lower(): v for k, v in self.headers.items()},
            )
        )
        fault = self.registry.take_rule(self.command, parts.path)
        try:
            if fault is None or not fault(self):
                self._answer(parts.path, parse_qs(parts.query))
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _do  # http.server's names

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        """An answer with its right length; underscores in names are hyphens."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            raise AssertionError("we send lengths")
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def end(self) -> None:
        """Close the connection after what was sent, however much was announced."""
        self.wfile.flush()
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """Reset the connection; what is still on its way is lost."""
        self.wfile.flush()
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def content(self) -> tuple[str, bytes] | None:
        """Media type and bytes of what the path names."""
        name = urlsplit(self.path).path.rsplit("/", 1)[-1]
        if "/manifests/" in self.path:
            return self.registry.manifests.get(name)
        blob = self.registry.blobs.get(name)
        return None if blob is None else ("application/octet-stream", blob)

    def _answer(self, path: str, query: dict[str, list[str]]) -> None:
        registry = self.registry
        if path in ("/v2/", "/v2"):
            self.reply(200, b"{}")
        elif "/blobs/uploads/" in path:
            self._upload(path, query)
        elif self.command == "PUT":
            raw = self.body()
            digest = registry.put_manifest(
                self.headers["Content-Type"], raw, path.rsplit("/", 1)[-1]
            )
            self.reply(201, Docker_Content_Digest=digest)
        elif (found := self.content()) is None:
            self.reply(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown"}]}')
        else:
            self.send_content(*found)

    def send_content(self, media_type: str, data: bytes) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        digest = f"sha256:{sha256(data).hexdigest()}"
        headers = {"Content_Type": media_type, "Docker_Content_Digest": digest}
        if asked is None:
            self.reply(200, data, **headers)
            return
        first = int(asked[1])
        headers["Content_Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        self.reply(206, data[first:], **headers)

    def _upload(self, path: str, query: dict[str, list[str]]) -> None:
        registry, session = self.registry, path.rsplit("/", 1)[-1]
        match self.command:
            case "POST":
                self.reply(202, Location=f"{path}{registry.new_session()}")
            case "GET":
                size = len(registry.uploads[session])
                self.reply(204, Location=path, Range=f"0-{max(size - 1, 0)}")
            case "PATCH":
                start = self.headers.get("Content-Range", "0-").partition("-")[0]
                if int(start) != len(registry.uploads[session]):
                    self.body()
                    self.reply(416)
                    return
                registry.uploads[session] += self.body()
                size = len(registry.uploads[session])
                self.reply(202, Location=path, Range=f"0-{size - 1}")
            case _:
                data = bytes(registry.uploads.pop(session)) + self.body()
                digest = f"sha256:{sha256(data).hexdigest()}"
                if digest != query["digest"][0]:
                    self.reply(400, b'{"errors":[{"code":"DIGEST_INVALID","message":"wrong"}]}')
                    return
                registry.blobs[digest] = data
                self.reply(201, Location=f"/v2/x/blobs/{digest}")


@contextlib.contextmanager
def hostile_registry(
    tls: tuple[Path, Path] | None = None, *, address: str = "127.0.0.1"
) -> Iterator[HostileRegistry]:
    """A registry on a free port of loopback, until the block ends.

    Args:
        tls: certificate and key.
        address: where it listens; an IPv6 address has no brackets.
    """
    registry = HostileRegistry()
    handler = type("Bound", (Handler,), {"registry": registry})
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = type("Server", (ThreadingHTTPServer,), {"address_family": family})
    server = kind((address, 0), handler)
    server.daemon_threads = True
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        registry.scheme = "https"
    server.handle_error = lambda *_: None  # type: ignore[method-assign] # clients that go away are the subject
    registry.host = f"[{address}]" if ":" in address else address
    registry.host += f":{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield registry
    finally:
        registry.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


# Faults


def status(code: int, body: bytes = b"", **headers: str) -> Fault:
    """Answers with that status."""

    def fault(handler: Handler) -> bool:
        handler.body()
        handler.reply(code, body, **headers)
        return True

    return fault


def cut_after(size: int) -> Fault:
    """Announces everything (from where it was asked for), sends *size* bytes of it, and closes the connection (resets it if that is nothing)."""

    def fault(handler: Handler) -> bool:
        found = handler.content()
        assert found is not None
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        first = int(asked[1]) if asked else 0
        rest = found[1][first:]
        handler.send_response(206 if asked else 200)
        handler.send_header("Content-Length", str(len(rest)))
        if asked:
            handler.send_header(
                "Content-Range", f"bytes {first}-{len(found[1]) - 1}/{len(found[1])}"
            )
        handler.end_headers()
        handler.wfile.write(rest[:size])
        if size:
            handler.end()
        else:
            handler.cut()
        return True

    return fault


def stall_after(size: int) -> Fault:
    """Sends *size* bytes and then nothing, with the connection open."""

    def fault(handler: Handler) -> bool:
        found = handler.content()
        assert found is not None
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(found[1])))
        handler.end_headers()
        handler.wfile.write(found[1][:size])
        handler.wfile.flush()
        handler.registry.ended.wait(60)
        handler.cut()
        return True

    return fault


def send(data: Callable[[bytes], bytes], **headers: str) -> Fault:
    """Sends what *data* makes of the content, as if it were right."""

    def fault(handler: Handler) -> bool:
        found = handler.content()
        assert found is not None
        handler.reply(200, data(found[1]), **headers)
        return True

    return fault


def cut_upload_after(size: int) -> Fault:
    """Takes *size* bytes of a PATCH and cuts the connection; the session has them."""

    def fault(handler: Handler) -> bool:
        session = urlsplit(handler.path).path.rsplit("/", 1)[-1]
        handler.registry.uploads[session] += handler.rfile.read(size)
        time.sleep(0.05)
        handler.cut()
        return True

    return fault
