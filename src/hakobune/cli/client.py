"""The Google APIs (REST) as the command line speaks them: JSON over the unix socket, `http.client` only."""

from __future__ import annotations

import http.client
import json
import time
import urllib.parse
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

from hakobune.distribution.unix_http import UnixConnection
from hakobune.errors import HakoError

# A JSON object as the API sends it. The command line reads few of its fields and forwards the rest.
Document = dict[str, Any]


class ApiError(HakoError):
    """The API refused; `status` is the canonical word (`NOT_FOUND`, `INVALID_ARGUMENT`, …)."""

    def __init__(self, status: str, message: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(message, why=why, fix=fix)
        self.status = status


class ControllerAbsentError(HakoError):
    """Nobody answers on the API's socket."""


class Client:
    """Calls on one API socket. Not thread-safe.

    Args:
        version: of the API: `v2` is Cloud Run's; IAM, projects and Artifact Registry are `v1`.
    """

    def __init__(self, api_socket: Path, *, version: str = "v2") -> None:
        self._socket = api_socket
        self._prefix = f"/{version}/"

    def get(self, name: str, **query: str) -> Document:
        """Read one resource or list.

        Raises:
            ApiError: the API refused. ControllerAbsentError: nobody answers.
        """
        return self._call("GET", name, query=query)

    def find(self, name: str) -> Document | None:
        """Read one resource, or `None` when there is none of that name."""
        try:
            return self.get(name)
        except ApiError as error:
            if error.status == "NOT_FOUND":
                return None
            raise

    def list(self, parent: str, kind: str) -> Iterator[Document]:
        """All resources of a kind, page by page, in the API's order."""
        yield from self.list_at(f"{parent}/{kind}", kind)

    def list_at(self, path: str, field: str) -> Iterator[Document]:
        """All items of a list whose answers hold them as *field*, page by page."""
        token = ""
        while True:
            query = {"pageToken": token} if token else {}
            page = self.get(path, **query)
            yield from page.get(field, [])
            token = page.get("nextPageToken", "")
            if not token:
                return

    def create(self, parent: str, kind: str, identifier: str, body: Document) -> Document:
        """Create a resource; returns the operation."""
        singular = kind.removesuffix("s")
        return self._call("POST", f"{parent}/{kind}", {f"{singular}Id": identifier}, body)

    def update(self, name: str, body: Document, *, mask: str = "") -> Document:
        """Replace the fields of *mask* (all mutable ones without it); returns the operation."""
        return self._call("PATCH", name, {"updateMask": mask} if mask else {}, body)

    def delete(self, name: str) -> Document:
        """Delete a resource; returns the operation."""
        return self._call("DELETE", name)

    def post(self, name: str, body: Document) -> Document:
        """Call a method that is a word after the resource's name (`projects/p:setIamPolicy`), or make a resource."""
        return self._call("POST", name, body=body)

    def cancel(self, operation: Document) -> None:
        """Give up what an operation stands for; nothing happens if it is done."""
        self._call("POST", f"{operation['name']}:cancel", body={})

    def wait(
        self,
        operation: Document,
        *,
        deadline_s: float = 900.0,
        meanwhile: Callable[[Document], None] | None = None,
    ) -> Document:
        """Wait until an operation is done; returns its response.

        Args:
            meanwhile: called about once a second with the operation as it is then.

        Raises:
            ApiError: the operation failed, with the operation's own message.
            HakoError: it is not done after *deadline_s*.
        """
        end = time.monotonic() + deadline_s
        while not operation.get("done"):
            if time.monotonic() > end:
                raise HakoError(f"{operation['name']} is not done after {deadline_s:.0f} s")
            if meanwhile is not None:
                meanwhile(operation)
            timeout = "10s" if meanwhile is None else "1s"
            operation = self._call("POST", f"{operation['name']}:wait", body={"timeout": timeout})
        if error := operation.get("error"):
            raise ApiError(
                _word(error.get("code", 2)), error.get("message", "the operation failed")
            )
        response: Document = operation.get("response", {})
        return response

    def stream(self, name: str, **query: str) -> Iterator[Document]:
        """Read a long answer of one JSON object a line, as it arrives."""
        connection = UnixConnection(str(self._socket), None)
        try:
            response = self._request(connection, "GET", name, query, None)
            if response.status != 200:
                raise _refusal(response.status, response.read())
            for line in response:
                if line.strip():
                    yield json.loads(line)
        finally:
            connection.close()

    def content(self, name: str, **query: str) -> Generator[bytes, None, None]:
        """Read a long answer that is no JSON, in pieces as they arrive.

        Raises:
            HakoError: it was cut off.
        """
        connection = UnixConnection(str(self._socket), 60.0)
        try:
            response = self._request(connection, "GET", name, query, None)
            if response.status != 200:
                raise _refusal(response.status, response.read())
            while piece := response.read(1 << 20):
                yield piece
        except (OSError, http.client.HTTPException) as error:
            raise HakoError(f"the content of {name} was cut off", why=str(error)) from error
        finally:
            connection.close()

    def _call(
        self,
        method: str,
        name: str,
        query: Mapping[str, str] = {},  # never written to
        body: Document | None = None,
    ) -> Document:
        connection = UnixConnection(str(self._socket), 60.0)
        try:
            response = self._request(connection, method, name, query, body)
            data = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise _refusal(response.status, data)
        document: Document = json.loads(data)
        return document

    def _request(
        self,
        connection: UnixConnection,
        method: str,
        name: str,
        query: Mapping[str, str],
        body: Document | None,
    ) -> http.client.HTTPResponse:
        target = self._prefix + urllib.parse.quote(name, safe="/:")
        if query:
            target += "?" + urllib.parse.urlencode(query)
        try:
            connection.request(
                method,
                target,
                body=None if body is None else json.dumps(body),
                headers={"Content-Type": "application/json"} if body is not None else {},
            )
            return connection.getresponse()
        except PermissionError as error:
            raise ControllerAbsentError(
                f"this user may not use {self._socket}",
                why="the API's socket belongs to root and the group hakobune",
                fix="sudo usermod -aG hakobune $USER, then log in again (members of it are as mighty as root)",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise ControllerAbsentError(
                "hako serve does not answer",
                why=f"{self._socket}: {error}",
                fix="hako serve (or `hako deploy`, which starts it)",
            ) from error


def short_name(name: str) -> str:
    """The last part of a resource's full name."""
    return name.rpartition("/")[2]


def condition(document: Document, kind: str) -> Document:
    """The condition of that type, or an empty document."""
    return next((c for c in document.get("conditions", []) if c.get("type") == kind), {})


def _refusal(status: int, data: bytes) -> ApiError:
    try:
        error = json.loads(data)["error"]
        why = _fact(error, "why")
        message = error["message"].removesuffix(f" ({why})")
        return ApiError(error["status"], message, why=why, fix=_fact(error, "fix"))
    except (ValueError, KeyError, TypeError):
        return ApiError(
            "UNKNOWN", f"the API answered {status}", why=data[:200].decode(errors="replace")
        )


def _fact(error: Document, name: str) -> str:
    """*why* or *fix*, as `api.errors` sends them beside the message."""
    for detail in error.get("details", []):
        if fact := detail.get("metadata", {}).get(name):
            return str(fact)
    return ""


# google.rpc.Code, as far as operations use it.
_WORDS = {
    3: "INVALID_ARGUMENT", 4: "DEADLINE_EXCEEDED", 5: "NOT_FOUND", 6: "ALREADY_EXISTS",
    9: "FAILED_PRECONDITION", 10: "ABORTED", 13: "INTERNAL", 14: "UNAVAILABLE",
}  # fmt: skip


def _word(code: int) -> str:
    return _WORDS.get(code, "UNKNOWN")
