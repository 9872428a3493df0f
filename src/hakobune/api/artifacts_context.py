"""One call of the Artifact Registry API: what was asked, by whom, and what all methods share to answer it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from starlette.requests import Request

from hakobune.api.artifacts_filter import Record
from hakobune.api.artifacts_listing import ListRequest, parameter, read_list_request, read_page
from hakobune.api.artifacts_names import RepositoryName, location_name
from hakobune.iam.principal import Principal
from hakobune.iam.secret_box import SecretBox
from hakobune.iam.store import IamStore
from hakobune.registry.artifacts_store import ArtifactsStore
from hakobune.registry.blobs import Storage
from hakobune.registry.metadata import Metadata
from hakobune.registry.repository import Repository
from hakobune.registry.secret_store import SecretStore
from hakobune.serving.errors import InvalidArgumentError, NotFoundError

JsonObject = dict[str, Any]
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
PROTO = "type.googleapis.com/google.devtools.artifactregistry.v1."
MAX_BODY = 4 << 20
EMPTY: Mapping[str, Any] = {"@type": "type.googleapis.com/google.protobuf.Empty"}

# Asks a remote repository's upstream whether it is one; raises a HakoError in words if it is not.
UpstreamCheck = Callable[[Repository], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """What the methods work on.

    Attributes:
        open_storage: where the content of blobs is; cheap after the first call.
        staging: a folder for files on their way into it.
        host: `HOST:PORT` under which images are pushed and pulled.
    """

    metadata: Metadata
    store: ArtifactsStore
    secrets: SecretStore
    box: SecretBox
    iam: IamStore
    check_upstream: UpstreamCheck
    open_storage: Callable[[], Storage]
    staging: Path
    host: str

    async def repository(self, name: RepositoryName) -> Repository:
        """The repository of that name.

        Raises:
            NotFoundError: there is none, or it is in another location, which is said.
        """
        found = await self.metadata.find_repository(name.project, name.repository)
        if found is not None and found.location == name.location:
            return found
        raise NotFoundError(
            f"there is no repository {name}",
            why="" if found is None else f"project {name.project} has it in location {found.location}",
            fix=f"hako artifacts repositories create {name.repository} --repository-format=docker --location={name.location} --project={name.project}"
            if found is None
            else f"--location={found.location}",
        )  # fmt: skip

    async def finished(
        self,
        parent: str,
        response: Mapping[str, Any],
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> JsonObject:
        """The operation of a deed that is done, kept for those who ask again."""
        operation = {
            "name": f"{parent}/operations/{uuid.uuid4()}",
            "metadata": dict(metadata or {"@type": PROTO + "OperationMetadata"}),
            "done": True,
            "response": dict(response),
        }
        await self.store.add_operation(parent, str(operation["name"]), operation)
        return operation


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call that may be answered: its caller has the permission it needs."""

    ids: Mapping[str, str]
    query: Mapping[str, str]
    body: JsonObject
    caller: Principal

    @property
    def parent(self) -> str:
        return location_name(self.ids["project"], self.ids["location"])

    @property
    def repository(self) -> RepositoryName:
        return RepositoryName(self.ids["project"], self.ids["location"], self.ids["repository"])

    @property
    def actor(self) -> str:
        """The caller as the audit trail names it."""
        return str(self.caller)

    @property
    def list_request(self) -> ListRequest:
        return read_list_request(self.query)

    def parameter(self, name: str) -> str:
        return parameter(self.query, name)

    def flag(self, name: str) -> bool:
        return self.parameter(name).lower() in ("true", "1")


async def read_body(request: Request) -> JsonObject:
    """The JSON object of a request; empty for no body.

    Raises:
        InvalidArgumentError: it is something else, too long, or holds what no database keeps.
    """
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY:
            raise InvalidArgumentError(f"the request's body has more than {MAX_BODY} bytes")
    if not data:
        return {}
    try:
        body = json.loads(data)
        text = json.dumps(body, ensure_ascii=False).encode()  # refuses halves of surrogate pairs
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError("the request's body is not JSON", why=str(error)) from error
    if not isinstance(body, dict):
        raise InvalidArgumentError("the request's body is not a JSON object")
    if b"\\u0000" in text:
        raise InvalidArgumentError("the request's body holds a NUL character")
    return body


def listing(kind: str, items: list[JsonObject], token: str) -> JsonObject:
    """The answer of a list method."""
    return {**({kind: items} if items else {}), **({"nextPageToken": token} if token else {})}


class Fetch(Protocol[T_co]):
    """Reads the next rows after a key ("" for the first), at most so many; `Metadata.list_…` with its first arguments given."""

    def __call__(self, *, after: str, limit: int) -> Awaitable[Sequence[T_co]]: ...


async def list_rows(
    call: Call,
    kind: str,
    fetch: Fetch[T],
    *,
    key: Callable[[T], str],
    document: Callable[[T], JsonObject],
    record: Callable[[T], Record] | None = None,
    filters: Collection[str],
    orders: Collection[str],
) -> JsonObject:
    """The answer of a list method over rows of the database.

    Args:
        document: a row as it is shown.
        record: a row as filters and orders see it; by default as it is shown.

    Raises:
        InvalidArgumentError: filter, order or token cannot be understood.
    """
    page = await read_page(
        lambda after, limit: fetch(after=after, limit=limit),
        call.list_request,
        key=key,
        record=record or document,
        filters=filters,
        orders=orders,
    )
    return listing(kind, [document(row) for row in page.items], page.next_token)
