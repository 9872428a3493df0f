"""A plain client of a registry for tests: it sends what it is told and hands back what came, nothing interpreted."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; names of headers are lower case, several of one name are joined with `, `."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body, as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The first OCI error code, or an empty text."""
        try:
            return str(self.document["errors"][0]["code"])
        except (ValueError, LookupError, TypeError):
            return ""

    def header(self, name: str) -> str:
        return self.headers.get(name.lower(), "")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class RegistryHttp:
    """One keep-alive connection to a registry, by URL or unix socket; not to be shared by threads."""

    def __init__(
        self,
        url: str,
        *,
        authorization: str = "",
        unix_socket: Path | None = None,
        authority: Path | None = None,
        timeout_s: float = 60,
    ) -> None:
        """
        Args:
            authority: whose certificates are trusted, for an https URL.
        """
        self.url = url.rstrip("/")
        self._headers = {"Authorization": authorization} if authorization else {}
        host = urlsplit(url).netloc
        self._connection: http.client.HTTPConnection
        if unix_socket is not None:
            self._connection = _UnixConnection(str(unix_socket), timeout_s)
        elif url.startswith("https:"):
            context = ssl.create_default_context(cafile=authority)
            self._connection = http.client.HTTPSConnection(host, timeout=timeout_s, context=context)
        else:
            self._connection = http.client.HTTPConnection(host, timeout=timeout_s)

    def __enter__(self) -> RegistryHttp:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def send(
        self,
        method: str,
        target: str,
        body: bytes | Iterable[bytes] | None = None,
        *,
        parameters: Iterable[tuple[str, str]] = (),
        **headers: str,
    ) -> Answer:
        """*target* is a path or a URL (a `Location`); *parameters* are added to its query.

        Headers are keyword arguments with `_` for `-`. A body that is not `bytes` is sent chunked. A GET or HEAD
        on a connection that the server has closed is sent again once, on a new one.
        """
        path = self._path_of(target, parameters)
        sent = {**self._headers, **{name.replace("_", "-"): text for name, text in headers.items()}}
        again = self._connection.sock is not None and method in ("GET", "HEAD")
        try:
            return self._exchange(method, path, body, sent)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            self._connection.close()
            if not again:
                raise
            return self._exchange(method, path, body, sent)
        except BaseException:
            self._connection.close()
            raise

    def _path_of(self, target: str, parameters: Iterable[tuple[str, str]]) -> str:
        parts = urlsplit(urljoin(self.url + "/", target))
        query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), *parameters])
        return urlunsplit(("", "", parts.path, query, ""))

    def _exchange(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None,
        headers: dict[str, str],
    ) -> Answer:
        chunked = body is not None and not isinstance(body, bytes)
        if chunked:
            headers["Transfer-Encoding"] = "chunked"
        self._connection.request(method, path, body, headers, encode_chunked=chunked)
        response = self._connection.getresponse()
        content = response.read()
        merged: dict[str, str] = {}
        for name, text in response.getheaders():
            known = merged.get(name.lower())
            merged[name.lower()] = text if known is None else f"{known}, {text}"
        return Answer(response.status, merged, content)

    # What most tests need

    def push_blob(self, name: str, data: bytes) -> str:
        """Push in one request or two, as the registry has it; gives the digest."""
        digest = digest_of(data)
        answer = self.send(
            "POST", f"/v2/{name}/blobs/uploads/", data, parameters=[("digest", digest)]
        )
        if answer.status == 202:
            answer = self.send(
                "PUT", answer.header("location"), data, parameters=[("digest", digest)]
            )
        assert answer.status == 201, (answer.status, answer.body)
        return digest

    def push_manifest(self, name: str, reference: str, body: bytes, media_type: str = "") -> Answer:
        return self.send(
            "PUT",
            f"/v2/{name}/manifests/{reference}",
            body,
            Content_Type=media_type or json.loads(body)["mediaType"],
        )

    def push_image(self, name: str, tag: str, *layers: bytes) -> str:
        """Push an image with these layers; gives the manifest's digest."""
        body = image_manifest([(self.push_blob(name, layer), len(layer)) for layer in layers])
        self.push_blob(name, b"{}")
        answer = self.push_manifest(name, tag, body)
        assert answer.status == 201, (answer.status, answer.body)
        return digest_of(body)


IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"


def digest_of(data: bytes) -> str:
    return f"sha256:{sha256(data).hexdigest()}"


def image_manifest(
    layers: Iterable[tuple[str, int]],
    *,
    subject: tuple[str, int] | None = None,
    artifact_type: str = "",
    annotations: Mapping[str, str] | None = None,
) -> bytes:
    """The manifest of an image whose config is `{}`."""
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": {"mediaType": EMPTY, "digest": digest_of(b"{}"), "size": 2},
        "layers": [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": digest,
                "size": size,
            }
            for digest, size in layers
        ],
    }
    if artifact_type:
        document["artifactType"] = artifact_type
    if subject is not None:
        document["subject"] = {"mediaType": IMAGE, "digest": subject[0], "size": subject[1]}
    if annotations:
        document["annotations"] = dict(annotations)
    return json.dumps(document).encode()
