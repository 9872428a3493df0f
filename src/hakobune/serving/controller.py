"""The loop that owns desired state: what the API calls, and how everything under it is started and found again."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hakobune.oci.store import Store
from hakobune.runtime.container import ContainerSpec
from hakobune.runtime.event import Event, EventKind
from hakobune.serving.boot import Booter
from hakobune.serving.catalog import Catalog
from hakobune.serving.changes import Changes
from hakobune.serving.desired import Desired
from hakobune.serving.errors import InvalidArgumentError
from hakobune.serving.fleet import Fleet
from hakobune.serving.grpc_program import GrpcProgram
from hakobune.serving.haproxy import HAProxy
from hakobune.serving.images import ImageGate, Images
from hakobune.serving.ingress_keeper import IngressKeeper
from hakobune.serving.ingress_program import PROGRAM, IngressProgram
from hakobune.serving.instance import KIND, KIND_LABEL, Instance
from hakobune.serving.logs import Logs
from hakobune.serving.operation_book import OperationBook
from hakobune.serving.plan import IdleRules
from hakobune.serving.registry_program import RegistryProgram
from hakobune.serving.revision import Revision
from hakobune.serving.rollout import Rollouts
from hakobune.serving.routing import Addresses
from hakobune.serving.service import Service, ServiceName, parse_parent
from hakobune.serving.supervisor_link import SupervisorLink
from hakobune.serving.verdict import Gate
from hakobune.serving.wake import HoldServer
from hakobune.settings import Settings
from hakobune.state.database import Database, EventRow, sqlite_url
from hakobune.state.operations import Operation

INSTANCES = {KIND_LABEL: KIND}
T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingOptions:
    """How the serving plane behaves; the defaults are the product's."""

    idle: IdleRules = field(default_factory=IdleRules)
    pending_s: int = 10  # how long a request waits for an instance, at least
    boots: int = field(default_factory=lambda: os.cpu_count() or 1)


class Controller:
    """Services, revisions and operations of one installation. For one asyncio loop."""

    def __init__(
        self,
        settings: Settings,
        options: ServingOptions | None = None,
        *,
        gate: ImageGate | None = None,
    ) -> None:
        self._settings = settings
        self._options = options or ServingOptions()
        serving = settings.home / "serving"
        self._catalog = Catalog(
            lambda: Database.open(sqlite_url(serving / "state.db"), lock=serving / "state.lock")
        )
        self._images = Images(lambda: Store(settings.home), gate)
        self._logs = Logs(serving / "logs")
        self._book = OperationBook(self._catalog)
        self._link = SupervisorLink(
            settings.supervisor_socket, on_event=self._happened, on_connect=self._connected
        )
        self._registry = RegistryProgram(settings, self._link)
        self._grpc = GrpcProgram(settings, self._link)
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = False

    async def start(self) -> None:
        """Find what runs, start what is missing, go on with what was begun. The supervisor runs already.

        Raises:
            HakoError: the database, the supervisor or HAProxy cannot be used.
        """
        await self._catalog.load()
        await self._link.start()
        program = IngressProgram(self._settings, self._link, pending_s=self._options.pending_s)
        start_up = await program.prepare()
        self._compose(HAProxy(start_up), start_up.service_ports)
        await self._hold.start()
        if not await program.is_running():
            await self._ingress.flush(self._desired.table((), {}))
        await program.ensure(self._haproxy)
        in_ingress = await self._ingress.adopt()
        await self._fleet.adopt(await self._link.list(INSTANCES), in_ingress)
        self._started = True
        await self._fleet.route()  # where requests go is true before anything is parked or stopped
        self._changes.resume(self._book.unfinished())
        self._spawn(self._fleet.run())
        await self._registry.ensure()
        await self._grpc.ensure()

    async def stop(self) -> None:
        """Let go of everything; instances and HAProxy run on, the next controller finds them."""
        if self._started:
            await self._changes.stop()
            await self._rollouts.stop()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._started:
            await self._hold.stop()
            await self._ingress.written()
        await self._link.stop()
        await self._catalog.close()

    # services

    async def create_service(
        self, parent: str, service_id: str, service: Service, *, validate_only: bool = False
    ) -> Operation:
        """Begin to serve; the operation ends when the first revision is ready, or cannot become so.

        Raises:
            InvalidArgumentError, AlreadyExistsError, FailedPreconditionError.
        """
        name = ServiceName.within(parent, service_id)
        return await self._changes.create(name, service, validate_only=validate_only)

    async def update_service(
        self,
        name: str,
        service: Service,
        mask: Sequence[str] = (),
        *,
        allow_missing: bool = False,
        validate_only: bool = False,
    ) -> Operation:
        """Change the fields of *mask* (all without one). Another template makes a new revision.

        Raises:
            NotFoundError, InvalidArgumentError, AlreadyExistsError, AbortedError, FailedPreconditionError.
        """
        return await self._changes.update(
            ServiceName.parse(name),
            service,
            mask,
            allow_missing=allow_missing,
            validate_only=validate_only,
        )

    async def delete_service(self, name: str, etag: str = "") -> Operation:
        """Begin to delete a service.

        Raises:
            NotFoundError: there is none of that name.
            AbortedError: the etag is not the service's.
        """
        return await self._changes.delete(ServiceName.parse(name), etag)

    def get_service(self, name: str) -> Service:
        """One service, by its full name.

        Raises:
            NotFoundError: there is none of that name.
        """
        return self._catalog.service(name).service

    def list_services(self, parent: str, page_size: int, token: str) -> tuple[list[Service], str]:
        """A page of services, newest first, and the token of the next page ("" on the last)."""
        parse_parent(parent)
        own = [
            entry.service
            for entry in self._catalog.services.values()
            if entry.name.startswith(parent + "/services/")
        ]
        own.sort(key=lambda s: (s.create_time, s.name), reverse=True)
        return page(own, page_size, token)

    # revisions

    def get_revision(self, name: str) -> Revision:
        """One revision, by its full name.

        Raises:
            NotFoundError: there is none of that name.
        """
        return self._catalog.revision(name).revision

    def list_revisions(
        self, service: str, page_size: int, token: str
    ) -> tuple[list[Revision], str]:
        """A page of a service's revisions, newest first; the service `-` is every one."""
        name = ServiceName.parse(service)
        if name.service != "-":
            return page([e.revision for e in self._of(service)], page_size, token)
        prefix = name.parent + "/"
        every = [e.revision for e in self._catalog.revisions.values() if e.name.startswith(prefix)]
        every.sort(key=lambda r: (r.create_time, r.name), reverse=True)
        return page(every, page_size, token)

    async def delete_revision(self, name: str, etag: str = "") -> Operation:
        """Delete a revision that nothing needs.

        Raises:
            NotFoundError: there is none of that name.
            AbortedError: the etag is not the revision's.
            FailedPreconditionError: it has traffic or a tag, or is the latest.
        """
        return await self._changes.delete_revision(name, etag)

    # operations

    def get_operation(self, name: str) -> Operation:
        """One operation, by its full name.

        Raises:
            NotFoundError: there is none of that name, or it ended long ago.
        """
        return self._book.get(name)

    def list_operations(
        self, parent: str, page_size: int, token: str
    ) -> tuple[list[Operation], str]:
        """A page of operations, newest first."""
        return page(self._book.within(parent), page_size, token)

    async def cancel_operation(self, name: str) -> None:
        """Give up the roll-out that an operation stands for; the operation fails, what served goes on.

        Nothing happens if it is done, or about to be. Raises: NotFoundError: there is none of that name.
        """
        operation = self._book.get(name)
        if not operation.done:
            await self._rollouts.abandon(operation.target)

    async def wait_operation(self, name: str, timeout_s: float) -> Operation:
        """The operation when it is done, or as it is after *timeout_s*.

        Raises:
            NotFoundError.
        """
        return await self._book.wait(name, timeout_s)

    # what happened

    def read_logs(
        self, service: str, *, revision: str = "", lines: int = 200, follow: bool = False
    ) -> AsyncIterator[dict[str, Any]]:
        """What its instances printed: `time`, `revision`, `instance`, `stream`, `text`.

        Raises:
            NotFoundError.
        """
        entry = self._catalog.service(service)
        short = revision.rpartition("/")[2]
        if short:
            self._catalog.revision(ServiceName.parse(service).revision(short))
        return self._logs.read(entry.label, revision=short, lines=lines, follow=follow)

    async def list_events(self, subject: str, *, limit: int = 100) -> tuple[EventRow, ...]:
        """What happened to a service or revision, and why; oldest first."""
        return await self._catalog.events(subject, limit=limit)

    def instances(self) -> tuple[Instance, ...]:
        """What runs now, as the fleet knows it."""
        return tuple(self._fleet.instances.values())

    async def ingress_pid(self) -> int:
        """The process of HAProxy's worker; deploys do not change it."""
        return await self._haproxy.pid()

    # composition

    def _compose(self, haproxy: HAProxy, service_ports: Sequence[int]) -> None:
        addresses = Addresses(self._settings.host, self._settings.port)
        self._desired = Desired(self._catalog)
        self._haproxy = haproxy
        self._ingress = IngressKeeper(haproxy, self._desired.table)
        booter = Booter(self._link, self._container_spec, self._hint)
        self._fleet = Fleet(
            self._link,
            self._ingress,
            booter,
            self._desired,
            rules=self._options.idle,
            boots=self._options.boots,
        )
        gate = Gate(self._fleet, self._desired, pending_s=self._options.pending_s)
        self._hold = HoldServer(haproxy.start.hold_socket, gate.answer)
        self._rollouts = Rollouts(
            self._catalog, self._fleet, self._images, addresses, self._book.finish
        )
        self._changes = Changes(
            self._catalog,
            self._fleet,
            self._images,
            self._logs,
            self._rollouts,
            self._book,
            service_ports,
        )

    async def _container_spec(self, revision: str, id: str) -> ContainerSpec:
        entry = self._catalog.revision(revision)
        label = self._catalog.service(entry.revision.service).label
        log_path = self._logs.path(label, entry.revision.short_name)
        return await self._images.container_spec(entry, id=id, log_path=log_path)

    async def _hint(self, revision: Revision, words: str) -> None:
        await self._catalog.note(revision.name, "StillStarting", words)

    def _happened(self, event: Event) -> None:
        """The supervisor tells of something."""
        if not self._started:
            return
        if event.kind is EventKind.EXITED and event.status is not None:
            self._fleet.status_changed(event.subject, event.status)
        if event.kind is EventKind.PROGRAM_STARTED and event.subject == PROGRAM:
            self._spawn(self._ingress_restarted())

    def _connected(self) -> None:
        """The supervisor is there (again): what happened meanwhile is looked up."""
        if self._started:
            self._spawn(self._look_again())

    async def _look_again(self) -> None:
        known = frozenset(self._fleet.instances)
        await self._fleet.adopt(await self._link.list(INSTANCES), known)
        await self._fleet.route()
        await self._registry.ensure()
        await self._grpc.ensure()

    async def _ingress_restarted(self) -> None:
        await self._ingress.restarted()
        await self._fleet.route()

    def _of(self, service: str) -> list[Any]:
        self._catalog.service(service)
        return list(self._catalog.revisions_of(service))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("controller task failed", exc_info=error)


def page(items: Sequence[T], size: int, token: str) -> tuple[list[T], str]:
    """Those from *token* (a position) on, *size* at most, and the token of the rest.

    Raises:
        InvalidArgumentError: the token is not one of ours.
    """
    if token and not token.isdecimal():
        raise InvalidArgumentError(f"{token!r} is no page token", field="pageToken")
    begin = int(token or "0")
    end = begin + max(size, 1)
    return list(items[begin:end]), str(end) if end < len(items) else ""
