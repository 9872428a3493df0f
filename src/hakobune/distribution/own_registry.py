"""The registry of this installation, as its owner reaches it: a unix socket, and blobs by hard link instead of bytes."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from hakobune.oci.digest import Digest
from hakobune.oci.reference import Reference
from hakobune.settings import DEFAULT_LISTEN, Settings
from hakobune.support.files import write_atomically

if TYPE_CHECKING:
    from hakobune.distribution.client import RegistryClient

LINK_HEADER: Final = "Hako-Link"
PATH_HEADER: Final = "hako-blob-path"
_LOCATION_HOST: Final = re.compile(r"[a-z0-9-]+-docker\.pkg\.dev")
_LOOPBACKS: Final = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnRegistry:
    """Where this installation's registry is.

    Attributes:
        hosts: the registries in image names that mean it, each `HOST:PORT`.
        socket: where this machine's own users reach it.
        api: where the API tells which repositories there are.
        incoming: where a blob is put that shall be taken over by its link.
    """

    hosts: frozenset[str]
    socket: Path
    api: Path
    incoming: Path

    @classmethod
    def of(cls, settings: Settings) -> OwnRegistry:
        """The registry of the installation with these settings, whether it runs or not."""
        addresses = {(settings.host, settings.port), *_noted(settings)}
        if settings.registry_listen is not None:
            addresses.add(settings.registry_listen)
        return cls(
            hosts=frozenset(
                f"{name}:{port}" for host, port in addresses for name in _names_of(host)
            ),
            socket=settings.registry_socket,
            api=settings.api_socket,
            incoming=settings.registry_files / "incoming",
        )

    def host_for(self, registry: str) -> str:
        """What stands in requests for that registry, and in messages: the name that was used, or one that is ours."""
        return registry if registry in self.hosts else max(self.hosts, default=DEFAULT_LISTEN)

    @property
    def is_open(self) -> bool:
        """Whether this process may connect to it."""
        return os.access(self.socket, os.W_OK)

    def means(self, reference: Reference) -> bool:
        """Whether the name is one of an image of this registry, and this process may connect to it.

        `LOCATION-docker.pkg.dev/PROJECT/REPOSITORY/…` is, if there is such a repository here, in whatever location.
        """
        if not self.is_open:
            return False
        if reference.registry in self.hosts:
            return True
        return is_location_host(reference.registry) and self._has(reference.repository)

    def _has(self, name: str) -> bool:
        project, _, rest = name.partition("/")
        wanted = rest.partition("/")[0]
        try:
            repositories = _repositories(self.api, project)
        except (OSError, ValueError):
            return False
        return any(found.rpartition("/")[2] == wanted for found in repositories)


def note_address(settings: Settings) -> None:
    """Let this user's other commands know at which address a registry listens that was told it by a flag."""
    if settings.registry_listen is not None:
        host, port = settings.registry_listen
        write_atomically(_address_file(settings), f"{host} {port}\n".encode())


def known_hosts(settings: Settings) -> tuple[str, ...]:
    """The registries in image names that mean this installation's; first where it was told by a flag to listen."""
    noted = (f"{name}:{port}" for host, port in _noted(settings) for name in _names_of(host))
    return tuple(dict.fromkeys((*noted, *settings.registry_hosts)))


def _noted(settings: Settings) -> Iterator[tuple[str, int]]:
    with contextlib.suppress(OSError, ValueError):
        host, port = _address_file(settings).read_text().split()
        yield host, int(port)


def _address_file(settings: Settings) -> Path:
    return settings.run / "registry.address"


def _repositories(api: Path, project: str) -> Iterator[str]:
    """The full names of a project's repositories.

    Raises:
        OSError, ValueError: the API does not say.
    """
    import http.client
    import json

    from hakobune.distribution.unix_http import UnixConnection

    token = ""
    while True:
        connection = UnixConnection(str(api), 10.0)
        try:
            path = f"/v1/projects/{quote(project, safe='')}/locations/-/repositories?pageSize=1000"
            connection.request("GET", path + (f"&pageToken={quote(token)}" if token else ""))
            answer = connection.getresponse()
            data = answer.read()
        except http.client.HTTPException as error:
            raise OSError(str(error)) from error
        finally:
            connection.close()
        if answer.status != 200:
            return
        document = json.loads(data)
        yield from (str(item["name"]) for item in document.get("repositories", ()))
        token = document.get("nextPageToken", "")
        if not token:
            return


def is_location_host(registry: str) -> bool:
    """`LOCATION-docker.pkg.dev`: Artifact Registry in Google's cloud, or a repository here that is called so."""
    return _LOCATION_HOST.fullmatch(registry) is not None


def _names_of(host: str) -> Iterator[str]:
    yield f"[{host}]" if ":" in host else host
    if host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "::"):
        yield from _LOOPBACKS


def push_by_link(client: RegistryClient, digest: Digest, path: Path, incoming: Path) -> bool:
    """Have the registry take over a link to the blob at *path*, whose bytes are *digest*; `False` if it cannot.

    Raises:
        RegistryError: it refuses the blob.
    """
    name = f"{os.getpid()}-{secrets.token_hex(8)}"
    try:
        os.link(path, incoming / name)
    except OSError:  # another file system, or no folder of this user's
        return False
    try:
        with client.call(
            "POST",
            f"{client.upload_path()}?digest={quote(str(digest), safe=':')}",
            headers={"Content-Length": "0", LINK_HEADER: name},
            expected=(201, 202),
        ) as answer:
            return answer.status == 201
    finally:
        with contextlib.suppress(OSError):  # it has been renamed, if all went well
            os.unlink(incoming / name)


def path_of_blob(client: RegistryClient, digest: Digest) -> Path | None:
    """The registry's own file of a blob that it has whole, if it is on this machine."""
    headers = client.describe_blob(digest)
    path = None if headers is None else headers.get(PATH_HEADER)
    return Path(path) if path else None
