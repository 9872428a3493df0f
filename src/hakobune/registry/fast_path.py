"""Hot requests (manifests and blobs that were asked for before) answered without a task, from memory.

Nothing is decided here: what the slow path has found and allowed is repeated while the generation stays the same
and its time has not run out. A blob's file is opened each time, so a file that is gone is never promised.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Final, Protocol

from hakobune.registry.answer import FilePart, Headers, date_line, one_line, status_line
from hakobune.registry.connection import Connection
from hakobune.registry.generation import Generation
from hakobune.registry.head import Head
from hakobune.registry.repeats import Repeats
from hakobune.registry.repository import Repository
from hakobune.registry.route import Kind, Route

_MANIFEST_BYTES: Final = 16 * 1024 * 1024
_ENTRIES: Final = 8192
_FOR_EVER: Final = float("inf")
_REPEATED_S: Final = 10.0  # then the pull is noted again


class NotePull(Protocol):
    """Notes that a manifest was pulled; cheap, never fails."""

    def __call__(self, repository: Repository, image: str, digest: str) -> None: ...


@dataclass(frozen=True, slots=True)
class HotManifest:
    """A manifest and its answer from after the date on, empty line included."""

    repository: Repository
    image: str
    digest: str
    head: str
    body: bytes
    until: float  # monotonic seconds


@dataclass(frozen=True, slots=True)
class HotBlob:
    """Where a blob lies, and the answer to a GET of it from after the date on."""

    path: str
    size: int
    head: str
    until: float


@dataclass(frozen=True, slots=True)
class Grant:
    """That somebody may pull, and until when that need not be asked again (monotonic seconds)."""

    principal: str
    until: float


class FastPath:
    """What one worker remembers."""

    def __init__(self, generation: Generation, note_pull: NotePull, repeats: Repeats) -> None:
        self._cells = generation.cells
        self._note_pull = note_pull
        self._repeats = repeats
        self._generation = self._cells[0]
        self._manifests: dict[tuple[str, str], HotManifest] = {}
        self._manifest_bytes = 0
        self._blobs: dict[tuple[str, str], HotBlob] = {}
        self._repositories: dict[tuple[str, str], Repository] = {}
        self._grants: dict[tuple[str | None, bool, str], Grant] = {}

    def find_repository(self, project: str, name: str) -> Repository | None:
        """A repository that `learn_repository` was given, as long as nothing has changed."""
        if self._cells[0] != self._generation:
            self._forget()
        return self._repositories.get((project, name))

    def learn_repository(self, generation: int, repository: Repository) -> None:
        """Remember a repository by its names."""
        if self._is_true(generation):
            if len(self._repositories) >= _ENTRIES:
                self._repositories.clear()
            self._repositories[repository.project, repository.name] = repository

    def __len__(self) -> int:
        return len(self._manifests) + len(self._blobs)

    def generation(self) -> int:
        """Note this before reading what is given to `learn_…` afterwards."""
        return self._cells[0]

    def answer(self, connection: Connection, head: Head, route: Route) -> bool:
        """Answer at once if everything needed is remembered; whether it was."""
        if self._cells[0] != self._generation:
            self._forget()
            return False
        kind = route.kind
        if kind is not Kind.MANIFEST and kind is not Kind.BLOB:
            return False
        values = head.fields.values
        key = (values.get("authorization"), connection.peer.owner, route.name)
        grant = self._grants.get(key)
        if grant is None or grant.until < connection.started or head.query:
            return False
        if kind is Kind.MANIFEST:
            return self._answer_manifest(connection, head, route, grant)
        return self._answer_blob(connection, head, route, grant)

    def learn_manifest(
        self,
        generation: int,
        name: str,
        reference: str,
        manifest: HotManifest,
    ) -> None:
        """Remember what a GET of NAME:REFERENCE is answered with."""
        if self._is_true(generation):
            self._manifest_bytes += len(manifest.body)
            if self._manifest_bytes > _MANIFEST_BYTES or len(self._manifests) >= _ENTRIES:
                self._manifests.clear()
                self._manifest_bytes = len(manifest.body)
            self._manifests[name, reference] = manifest

    def learn_blob(self, generation: int, name: str, digest: str, blob: HotBlob) -> None:
        """Remember where a blob lies."""
        if self._is_true(generation):
            if len(self._blobs) >= _ENTRIES:
                self._blobs.clear()
            self._blobs[name, digest] = blob

    def learn_grant(
        self, generation: int, authorization: str | None, *, owner: bool, name: str, grant: Grant
    ) -> None:
        """Remember who may pull."""
        if self._is_true(generation):
            if len(self._grants) >= _ENTRIES:
                self._grants.clear()
            self._grants[authorization, owner, name] = grant

    def _answer_manifest(
        self, connection: Connection, head: Head, route: Route, grant: Grant
    ) -> bool:
        found = self._manifests.get((route.name, route.reference))
        if found is None or found.until < connection.started:
            return False
        is_get = head.method == "GET"
        if (not is_get and head.method != "HEAD") or "if-none-match" in head.fields.values:
            return False
        connection.principal = grant.principal
        block = f"{_OK}{date_line()}{_closing(head)}{found.head}".encode("latin-1")
        body = found.body if is_get else b""
        if is_get:
            self._note_pull(found.repository, found.image, found.digest)
        self._repeats.learn(
            connection,
            until=min(found.until, grant.until, connection.started + _REPEATED_S),
            rest=found.head,
            body=body,
        )
        connection.write_hot(200, block, body)
        return True

    def _answer_blob(self, connection: Connection, head: Head, route: Route, grant: Grant) -> bool:
        # A HEAD is a promise to be kept in the database; the owner is told where the file lies.
        if head.method != "GET" or "range" in head.fields.values or connection.peer.owner:
            return False
        key = (route.name, route.reference)
        found = self._blobs.get(key)
        if (
            found is None
            or found.until < connection.started
            or "if-none-match" in head.fields.values
            or not connection.outlet.can_send_file_now
        ):
            return False
        try:
            descriptor = os.open(found.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            del self._blobs[key]
            return False
        connection.principal = grant.principal
        block = f"{_OK}{date_line()}{_closing(head)}{found.head}".encode("latin-1")
        connection.send_hot(200, block, FilePart(descriptor, 0, found.size))
        return True

    def _is_true(self, generation: int) -> bool:
        """Whether nothing has changed since *generation* was noted."""
        if self._cells[0] != self._generation:
            self._forget()
        return generation == self._generation

    def _forget(self) -> None:
        self._generation = self._cells[0]
        self._manifests.clear()
        self._manifest_bytes = 0
        self._blobs.clear()
        self._grants.clear()
        self._repositories.clear()


def answer_tail(headers: Headers, length: int) -> str:
    """The header lines after the date, and the empty line."""
    lines = [f"{name}: {one_line(value)}\r\n" for name, value in headers]
    return f"{''.join(lines)}Content-Length: {length}\r\n\r\n"


def fresh_for(seconds: float | None) -> float:
    """The `until` of something that stays true for so long; None is for ever."""
    return _FOR_EVER if seconds is None else time.monotonic() + seconds


def _closing(head: Head) -> str:
    return "" if head.keeps_connection else "Connection: close\r\n"


_OK: Final = status_line(200)
