"""Desired state: services, revisions and operations in memory, written through to the database before anybody is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from hakobune.serving.errors import NotFoundError
from hakobune.serving.revision import Revision
from hakobune.serving.service import Service
from hakobune.state.database import Change, Database, Drop, EventRow, Put
from hakobune.state.operations import Operation, decode_operation, encode_operation

KEPT_OPERATIONS = 1000
T = TypeVar("T")


class ServiceEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A service with what is allocated to it once: the label in its host names, and its port."""

    service: Service
    label: str
    port: int | None = None

    @property
    def name(self) -> str:
        return self.service.name


class RevisionEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A revision with its image's digest and whether an instance of it has ever been ready."""

    revision: Revision
    digest: str
    ready: bool = False

    @property
    def name(self) -> str:
        return self.revision.name

    @property
    def failed(self) -> bool:
        """Whether it was tried, and never became ready."""
        return not self.ready and not self.revision.reconciling


Entry = ServiceEntry | RevisionEntry | Operation


class Catalog:
    """The only owner of desired state. For one asyncio loop; the database has a thread of its own."""

    def __init__(self, open_database: Callable[[], Database]) -> None:
        self._open = open_database
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database")
        self._database: Database | None = None
        self.services: dict[str, ServiceEntry] = {}
        self.revisions: dict[str, RevisionEntry] = {}
        self.operations: dict[str, Operation] = {}

    async def load(self) -> None:
        """Open the database and read everything."""
        self._database = await self._run(self._open)
        read = self._database.read
        services = await self._run(lambda: read("service"))
        revisions = await self._run(lambda: read("revision"))
        operations = await self._run(lambda: read("operation"))
        self.services = {n: _decode(b, ServiceEntry) for n, b in services.items()}
        self.revisions = {n: _decode(b, RevisionEntry) for n, b in revisions.items()}
        self.operations = {n: decode_operation(b) for n, b in operations.items()}

    async def close(self) -> None:
        if self._database is not None:
            await self._run(self._database.close)
        self._thread.shutdown()

    async def save(
        self,
        *entries: Entry,
        drop: Iterable[Entry] = (),
        events: Sequence[EventRow] = (),
    ) -> None:
        """Write all of it or nothing; memory follows the database, also when the caller is cancelled.

        Raises:
            DatabaseError: nothing was written.
        """
        await asyncio.shield(self._save(entries, tuple(drop), events))

    async def _save(
        self, entries: Sequence[Entry], gone: Sequence[Entry], events: Sequence[EventRow]
    ) -> None:
        changes: list[Change] = [_put(entry) for entry in entries]
        changes += [Drop(_kind(entry), entry.name) for entry in gone]
        database = self._database
        assert database is not None, "loaded before it is used"
        await self._run(lambda: database.write(changes, events))
        for entry in entries:
            self._remember(entry)
        for entry in gone:
            self._forget(entry)

    async def note(self, subject: str, reason: str, message: str) -> None:
        """Keep an event."""
        await self.save(events=[new_event(subject, reason, message)])

    async def events(self, subject: str, *, limit: int = 100) -> tuple[EventRow, ...]:
        """The latest of *subject*, oldest first."""
        database = self._database
        assert database is not None, "loaded before it is used"
        return await self._run(lambda: database.read_events(subject, limit=limit))

    def service(self, name: str) -> ServiceEntry:
        """One service, by its full name.

        Raises:
            NotFoundError: there is none of that name.
        """
        try:
            return self.services[name]
        except KeyError:
            raise NotFoundError(
                f"there is no service {name.rpartition('/')[2]!r}",
                fix="`hako services list` names those that there are",
            ) from None

    def revision(self, name: str) -> RevisionEntry:
        """One revision, by its full name.

        Raises:
            NotFoundError: there is none of that name.
        """
        try:
            return self.revisions[name]
        except KeyError:
            service = name.partition("/revisions/")[0].rpartition("/")[2]
            raise NotFoundError(
                f"there is no revision {name.rpartition('/')[2]!r}",
                fix=f"`hako revisions list {service}` names those that there are",
            ) from None

    def revisions_of(self, service: str) -> tuple[RevisionEntry, ...]:
        """Newest first."""
        own = [r for r in self.revisions.values() if r.revision.service == service]
        return tuple(sorted(own, key=lambda r: (r.revision.create_time, r.name), reverse=True))

    def old_operations(self) -> tuple[Operation, ...]:
        """Finished ones beyond the newest `KEPT_OPERATIONS`; in the order in which they were begun."""
        done = [o for o in self.operations.values() if o.done]
        return tuple(done[: max(len(self.operations) - KEPT_OPERATIONS, 0)])

    def _remember(self, entry: Entry) -> None:
        match entry:
            case ServiceEntry():
                self.services[entry.name] = entry
            case RevisionEntry():
                self.revisions[entry.name] = entry
            case Operation():
                self.operations[entry.name] = entry

    def _forget(self, entry: Entry) -> None:
        match entry:
            case ServiceEntry():
                self.services.pop(entry.name, None)
            case RevisionEntry():
                self.revisions.pop(entry.name, None)
            case Operation():
                self.operations.pop(entry.name, None)

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


def now_text() -> str:
    """The time as documents have it (RFC 3339, Z)."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def new_event(subject: str, reason: str, message: str) -> EventRow:
    """An event of now."""
    return EventRow(time=now_text(), subject=subject, reason=reason, message=message)


def _kind(entry: Entry) -> str:
    match entry:
        case ServiceEntry():
            return "service"
        case RevisionEntry():
            return "revision"
        case Operation():
            return "operation"


def _put(entry: Entry) -> Put:
    body = encode_operation(entry) if isinstance(entry, Operation) else msgspec.json.encode(entry)
    return Put(_kind(entry), entry.name, body)


def _decode(data: bytes, kind: type[T]) -> T:
    return msgspec.json.decode(data, type=kind)
