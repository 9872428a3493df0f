"""The docker daemon as a place of images, over its socket (Docker Engine API, "Images").

Into it goes one archive, without the layers that it has: the daemon looks a layer up by its chain before it opens its
file. Out of it comes everything, since its API has no way to ask for less.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import socket
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from hakobune.errors import HakoError
from hakobune.oci.archive_save import save_docker_archive
from hakobune.oci.digest import Digest
from hakobune.oci.manifest import Image
from hakobune.oci.reference import Reference
from hakobune.oci.snapshot import chain_ids
from hakobune.oci.store import Store

DEFAULT_HOST = "unix:///var/run/docker.sock"
_TIMEOUT_S = 600.0
_MOST_IMAGES = 1000


class DaemonError(HakoError):
    """The docker daemon is not there, or refuses."""


class Daemon:
    """One daemon. *host* is spelled as `DOCKER_HOST` is."""

    def __init__(self, host: str = DEFAULT_HOST) -> None:
        self._host = host

    def load(
        self, store: Store, image: Image, name: Reference, note: Callable[[str], object]
    ) -> None:
        """Put an image into the daemon under *name*.

        Raises:
            DaemonError: it is not there, or does not take the image.
            BlobUnknownError: a layer is not in the store.
        """
        there = self.layers()
        chains = zip(image.diff_ids, chain_ids(image.diff_ids), strict=True)
        without = frozenset(diff_id for diff_id, chain_id in chains if chain_id in there)
        try:
            self._load(store, image, name, without)
        except DaemonError:
            if not without:
                raise
            # Daemons that keep images in containerd want every layer.
            note("the daemon wants the whole image")
            self._load(store, image, name, frozenset())
        else:
            if without:
                note(f"the daemon had {len(without)} of {len(image.diff_ids)} layers")

    @contextmanager
    def save(self, name: Reference) -> Iterator[IO[bytes]]:
        """The archive that the daemon makes of an image, as a stream.

        Raises:
            DaemonError: it is not there, or has no such image.
        """
        query = urllib.parse.urlencode({"names": str(name)})
        with self._connected(f"cannot get {name.short} from the docker daemon") as connection:
            connection.request("GET", f"/images/get?{query}")
            yield cast("IO[bytes]", self._answer(connection, name))

    def layers(self) -> frozenset[Digest]:
        """The chain of every layer that is at the top or below it in some image of the daemon."""
        found: set[Digest] = set()
        with self._connected("cannot list the docker daemon's images") as connection:
            images = self._json(connection, "/images/json")
            for item in images[:_MOST_IMAGES]:
                details = self._json(connection, f"/images/{item['Id']}/json")
                diff_ids = (details.get("RootFS") or {}).get("Layers") or ()
                found.update(chain_ids(tuple(map(Digest.parse, diff_ids))))
        return frozenset(found)

    def _load(
        self, store: Store, image: Image, name: Reference, without: frozenset[Digest]
    ) -> None:
        what = f"cannot load {name.short} into the docker daemon"
        with self._connected(what) as connection:
            connection.putrequest("POST", "/images/load?quiet=1")
            connection.putheader("Content-Type", "application/x-tar")
            connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders()
            body = _Chunks(connection)
            # A daemon that refuses says why before it has read everything.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                with io.BufferedWriter(body, 256 << 10) as out:
                    save_docker_archive(
                        store, {name: image}, cast("IO[bytes]", out), without=without
                    )
                connection.send(b"0\r\n\r\n")
            answer = self._answer(connection, name)
            for line in answer.read().splitlines():
                message = json.loads(line) if line.strip() else {}
                if error := message.get("error"):
                    raise DaemonError(what, why=str(error))

    def _json(self, connection: http.client.HTTPConnection, path: str) -> Any:
        connection.request("GET", path)
        return json.loads(self._answer(connection, None).read())

    def _answer(
        self, connection: http.client.HTTPConnection, name: Reference | None
    ) -> http.client.HTTPResponse:
        response = connection.getresponse()
        if response.status < 400:
            return response
        text = response.read().decode(errors="replace")
        with contextlib.suppress(ValueError):
            text = json.loads(text).get("message", text)
        fix = "`docker image ls` lists what it has" if response.status == 404 else ""
        thing = f" {name.short}" if name else ""
        raise DaemonError(f"the docker daemon refused{thing}", why=text.strip(), fix=fix)

    @contextmanager
    def _connected(self, what: str) -> Iterator[http.client.HTTPConnection]:
        try:
            with contextlib.closing(_connect(self._host, what)) as connection:
                yield connection
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.filename:
                raise
            reason = getattr(error, "strerror", None) or str(error) or "no answer"
            raise DaemonError(
                what,
                why=f"{self._host}: {reason}",
                fix="start it (`systemctl start docker`), or let DOCKER_HOST say where it is",
            ) from error


def daemon_of(env: Mapping[str, str]) -> Daemon:
    """The daemon that the docker command would use."""
    return Daemon(env.get("DOCKER_HOST") or DEFAULT_HOST)


def _connect(host: str, what: str) -> http.client.HTTPConnection:
    kind, _, rest = host.partition("://")
    if kind == "unix":
        return _UnixConnection(Path(rest))
    if kind in ("tcp", "http") and rest:
        return http.client.HTTPConnection(rest.rstrip("/"), timeout=_TIMEOUT_S)
    raise DaemonError(
        what,
        why=f"DOCKER_HOST is {host}, and only unix:// and tcp:// without TLS are understood",
        fix=f"DOCKER_HOST={DEFAULT_HOST}",
    )


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("docker", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(os.fspath(self._path))
        except OSError:
            self.sock.close()
            raise


class _Chunks(io.RawIOBase):
    """A request's body, piece by piece (RFC 9112 "7.1")."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        super().__init__()
        self._connection = connection

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data)
        if piece:
            self._connection.send(b"%x\r\n" % len(piece) + piece + b"\r\n")
        return len(piece)
