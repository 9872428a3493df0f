"""A request as endpoints see it: what is asked, by whom, and its body when they want it."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs, quote

from hakobune.registry.body import Sink
from hakobune.registry.connection import BodyError, Connection
from hakobune.registry.errors import RegistryError
from hakobune.registry.head import Head
from hakobune.registry.peer import Peer
from hakobune.registry.repository import Repository
from hakobune.registry.route import ImageName, Route, is_name, split_name

_QUERY_FIELDS: Final = 128


class Exchange:
    """One request. *repository* and *actor* are set by `admission` before an endpoint sees it."""

    def __init__(self, connection: Connection, head: Head, route: Route) -> None:
        self.head = head
        self.route = route
        self.repository: Repository
        self.actor = ""
        self._connection = connection
        self._query: dict[str, list[str]] | None = None
        self._name: ImageName | None = None

    @property
    def peer(self) -> Peer:
        return self._connection.peer

    @property
    def name(self) -> ImageName:
        """PROJECT, REPOSITORY and IMAGE of the path.

        Raises:
            RegistryError: NAME_INVALID, or NAME_UNKNOWN if it is too short for an image here.
        """
        if self._name is None:
            self._name = parse_name(self.route.name)
        return self._name

    @property
    def image(self) -> str:
        return self.name.image

    @property
    def origin(self) -> str:
        """`SCHEME://HOST` as the client has called us."""
        peer = self._connection.peer
        scheme = "https" if peer.is_encrypted else "http"
        if peer.via_proxy and self.head.get("x-forwarded-proto") == "https":
            scheme = "https"
        return f"{scheme}://{self.head.get('host') or 'localhost'}"

    def set_actor(self, actor: str) -> None:
        """Who it is, for the audit trail and the access log."""
        self.actor = self._connection.principal = actor

    def parameter(self, name: str) -> str | None:
        """The first value of a query parameter; empty ones count."""
        values = self.parameters(name)
        return values[0] if values else None

    def parameters(self, name: str) -> list[str]:
        """All values of a query parameter.

        Raises:
            RegistryError: the query has too many fields.
        """
        if self._query is None:
            try:
                self._query = parse_qs(
                    self.head.query,
                    keep_blank_values=True,
                    max_num_fields=_QUERY_FIELDS,
                )
            except ValueError as error:
                raise RegistryError(
                    "UNSUPPORTED", f"the query cannot be read: {error}", status=414
                ) from error
        return self._query.get(name, [])

    async def receive(self, sink: Sink) -> None:
        """Give the body to *sink* as it comes; see `Connection.receive`.

        Raises:
            ClientGoneError: it will not come.
            RegistryError: its framing is broken.
        """
        try:
            await self._connection.receive(sink)
        except BodyError as error:
            raise RegistryError("SIZE_INVALID", str(error)) from error

    async def read(self, limit: int) -> bytes:
        """The whole body.

        Raises:
            RegistryError: it has more than *limit* bytes (413).
        """
        announced = self.head.fields.content_length or 0
        if announced > limit:
            raise _too_large(limit)
        collected = bytearray()

        def collect(data: memoryview) -> None:
            if len(collected) + len(data) > limit:
                raise _too_large(limit)
            collected.extend(data)

        await self.receive(collect)
        return bytes(collected)


def parse_name(name: str) -> ImageName:
    """PROJECT, REPOSITORY and IMAGE of a `<name>`.

    Raises:
        RegistryError: NAME_INVALID, or NAME_UNKNOWN if it is too short for an image here.
    """
    if not is_name(name):
        raise RegistryError("NAME_INVALID", f"{name[:255]!r} is not the name of an image")
    parts = split_name(name)
    if parts is None:
        raise RegistryError(
            "NAME_UNKNOWN",
            f"{name!r} is not the name of an image here: they are PROJECT/REPOSITORY/IMAGE",
            {"name": name},
        )
    return parts


def quoted(value: str) -> str:
    """*value* for a query."""
    return quote(value, safe=":-._~")


def _too_large(limit: int) -> RegistryError:
    return RegistryError(
        "SIZE_INVALID", f"the body is larger than the {limit} bytes that are taken", status=413
    )
