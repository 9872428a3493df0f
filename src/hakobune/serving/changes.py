"""Creating, changing and deleting services and revisions: check, write down, answer with an operation; the work follows."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

import msgspec

from hakobune.serving.catalog import Catalog, RevisionEntry, ServiceEntry, new_event, now_text
from hakobune.serving.change_checks import (
    allocate_label,
    allocate_port,
    check_etag,
    check_ready,
    check_traffic,
    differs,
)
from hakobune.serving.conditions import reconciling_service
from hakobune.serving.document import Document, write_document
from hakobune.serving.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
)
from hakobune.serving.fleet import Fleet
from hakobune.serving.images import Images
from hakobune.serving.logs import Logs
from hakobune.serving.mask import changed_service
from hakobune.serving.operation_book import OperationBook
from hakobune.serving.revision import (
    make_revision,
    next_revision_name,
    referenced_revisions,
    retired_revisions,
    same_template,
)
from hakobune.serving.rollout import Rollouts
from hakobune.serving.service import Service, ServiceName
from hakobune.serving.validate import validate_service
from hakobune.state.operations import Operation, start_operation

SERVICE_TYPE = "type.googleapis.com/google.cloud.run.v2.Service"
REVISION_TYPE = "type.googleapis.com/google.cloud.run.v2.Revision"
DELETE_PATIENCE_S = 10.0
IMAGE_FIELD = "template.containers[0].image"

logger = logging.getLogger(__name__)


class Changes:
    """Every mutation. Those of one service come one after the other."""

    def __init__(
        self,
        catalog: Catalog,
        fleet: Fleet,
        images: Images,
        logs: Logs,
        rollouts: Rollouts,
        book: OperationBook,
        service_ports: Sequence[int],
    ) -> None:
        self._catalog = catalog
        self._fleet = fleet
        self._images = images
        self._logs = logs
        self._rollouts = rollouts
        self._book = book
        self._ports = tuple(service_ports)
        self._locks: dict[str, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def create(self, name: ServiceName, wanted: Service, *, validate_only: bool) -> Operation:
        """Make a service and begin to roll its first revision out.

        Raises:
            AlreadyExistsError: there is one of that name.
            InvalidArgumentError, FailedPreconditionError: what *wanted* says cannot be.
        """
        async with self._lock(name):
            if str(name) in self._catalog.services:
                raise AlreadyExistsError(f"the service {name.service!r} exists")
            now = now_text()
            service = msgspec.structs.replace(
                validate_service(wanted, short_name=name.service),
                name=str(name),
                uid=str(uuid.uuid4()),
                generation="1",
                create_time=now,
            )
            entry = ServiceEntry(
                service=service,
                label=allocate_label(name, (e.label for e in self._catalog.services.values())),
                port=allocate_port(self._ports, (e.port for e in self._catalog.services.values())),
            )
            return await self._put(entry, None, anew=True, validate_only=validate_only)

    async def update(
        self,
        name: ServiceName,
        wanted: Service,
        mask: Sequence[str],
        *,
        allow_missing: bool,
        validate_only: bool,
    ) -> Operation:
        """Change what *mask* names, and begin to roll a revision out if that needs a new one.

        Raises:
            NotFoundError: there is no such service, and it may not be made.
            AbortedError: the etag is not the service's.
            InvalidArgumentError, FailedPreconditionError: what *wanted* says cannot be.
        """
        if allow_missing and str(name) not in self._catalog.services:
            return await self.create(name, wanted, validate_only=validate_only)
        async with self._lock(name):
            entry = self._catalog.service(str(name))
            check_etag(entry.service.etag, wanted.etag)
            service = validate_service(
                changed_service(entry.service, wanted, mask), short_name=name.service
            )
            changed = msgspec.structs.replace(entry, service=service)
            anew = not mask or any(path.partition(".")[0] == "template" for path in mask)
            return await self._put(changed, entry, anew=anew, validate_only=validate_only)

    async def delete(self, name: ServiceName, etag: str) -> Operation:
        """The service is gone at once; its instances have some seconds to end their requests."""
        lock = self._lock(name)
        await lock.acquire()
        try:
            entry = self._catalog.service(str(name))
            check_etag(entry.service.etag, etag)
            await self._rollouts.cancel(str(name))
            entry = self._catalog.service(str(name))
            now = now_text()
            gone = msgspec.structs.replace(entry.service, delete_time=now, update_time=now)
            operation = start_operation(name.parent, str(name), typed(SERVICE_TYPE, gone))
            revisions = self._catalog.revisions_of(str(name))
            await self._catalog.save(
                operation,
                drop=(entry, *revisions),
                events=[new_event(str(name), "Deleted", f"{name.service} was deleted")],
            )
        except BaseException:
            lock.release()
            raise
        self._spawn(self._end_service(entry, revisions, operation, lock))
        return operation

    async def delete_revision(self, name: str, etag: str) -> Operation:
        """Delete a revision that nothing needs.

        Raises:
            NotFoundError: there is none of that name.
            AbortedError: the etag is not the revision's.
            FailedPreconditionError: it has traffic or a tag, or is the latest.
        """
        service = ServiceName.parse(name.partition("/revisions/")[0])
        async with self._lock(service):
            entry = self._catalog.revision(name)
            check_etag(entry.revision.etag, etag)
            short = entry.revision.short_name
            if short in referenced_revisions(self._catalog.service(str(service)).service):
                raise FailedPreconditionError(
                    f"the revision {short} cannot be deleted",
                    why="it has traffic or a tag, or is the service's latest",
                )
            await self._catalog.save(drop=[entry])
            await self._drop_revisions([entry])
        resource = typed(REVISION_TYPE, entry.revision)
        operation = start_operation(service.parent, name, resource).succeeded(resource)
        await self._catalog.save(operation)
        return operation

    def resume(self, operations: Iterable[Operation]) -> None:
        """Go on with what an earlier controller began."""
        for operation in operations:
            entry = self._catalog.services.get(operation.target)
            if (
                entry is not None
                and entry.service.latest_created_revision in self._catalog.revisions
            ):
                self._rollouts.begin(operation.target, operation)
            else:
                self._spawn(self._finish(operation.succeeded(operation.metadata)))

    async def stop(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _put(
        self,
        entry: ServiceEntry,
        before: ServiceEntry | None,
        *,
        anew: bool,
        validate_only: bool,
    ) -> Operation:
        """Write down what is wanted, with a new revision if the template is another one, and begin.

        Args:
            anew: look what the template's image is now; otherwise it stays what it was.
        """
        name = ServiceName.parse(entry.name)
        template = entry.service.template
        assert template is not None, "a validated service has a template"
        latest = self._catalog.revisions.get(entry.service.latest_created_revision)
        if anew or latest is None:
            image = template.containers[0].image
            resolved = self._images.resolve(image, field=IMAGE_FIELD, project=name.project)
            digest = str(await resolved)
        else:
            digest = latest.digest
        revision = self._wanted_revision(entry, before, digest, anew=anew)
        service = entry.service
        if revision is not None:
            service = msgspec.structs.replace(service, latest_created_revision=revision.name)
        known = {r.revision.short_name for r in self._catalog.revisions_of(entry.name)}
        check_traffic(service, known | ({revision.revision.short_name} if revision else set()))
        check_ready(service, self._catalog.revisions_of(entry.name))
        if before is not None and revision is None and not differs(service, before.service):
            return await self._unchanged(name, before.service, validate_only=validate_only)
        if before is not None:
            number = int(before.service.generation or "1") + 1
            service = msgspec.structs.replace(service, generation=str(number))
        service = reconciling_service(service, now=now_text())
        operation = start_operation(name.parent, str(name), typed(SERVICE_TYPE, service))
        if validate_only:
            return operation.succeeded(operation.metadata)
        retired = self._retired(service, revision)
        await self._catalog.save(
            msgspec.structs.replace(entry, service=service),
            *([revision] if revision else []),
            operation,
            drop=(*retired, *self._catalog.old_operations()),
        )
        self._rollouts.begin(str(name), operation)
        await self._drop_revisions(retired)
        return operation

    def _wanted_revision(
        self, entry: ServiceEntry, before: ServiceEntry | None, digest: str, *, anew: bool
    ) -> RevisionEntry | None:
        """A new revision, or `None` when the latest one is what is wanted (and is, or may become, ready).

        A template that nobody has sent (not *anew*) is no wish to try it again, though it has failed: who sends requests
        back to what worked wants just that.
        """
        template = entry.service.template
        assert template is not None
        latest = self._catalog.revisions.get(entry.service.latest_created_revision)
        if latest is not None and not anew:
            return None
        if before is not None and before.service.template is not None and latest is not None:
            same = same_template(template, before.service.template) and latest.digest == digest
            if same and (latest.ready or latest.revision.reconciling):
                return None
        taken = [r.revision.short_name for r in self._catalog.revisions_of(entry.name)]
        short = template.revision or next_revision_name(
            ServiceName.parse(entry.name).service, taken
        )
        if short in taken:
            raise AlreadyExistsError(
                f"the revision {short} exists, and revisions never change",
                fix="leave template.revision out, or choose another name",
            )
        revision = make_revision(
            entry.service, short_name=short, uid=str(uuid.uuid4()), now=now_text()
        )
        return RevisionEntry(revision=revision, digest=digest)

    def _retired(self, service: Service, new: RevisionEntry | None) -> tuple[RevisionEntry, ...]:
        entries = {r.revision.name: r for r in self._catalog.revisions_of(service.name)}
        revisions = [r.revision for r in entries.values()] + ([new.revision] if new else [])
        return tuple(
            entries[r.name] for r in retired_revisions(service, revisions) if r.name in entries
        )

    async def _unchanged(
        self, name: ServiceName, service: Service, *, validate_only: bool
    ) -> Operation:
        operation = start_operation(name.parent, str(name), typed(SERVICE_TYPE, service))
        # The very same wish is being carried out: its end is this one's end, too.
        if service.reconciling:
            await self._catalog.save(operation)
            self._rollouts.begin(str(name), operation)
            return operation
        done = operation.succeeded(operation.metadata)
        if not validate_only:
            await self._catalog.save(done)
        return done

    async def _end_service(
        self,
        entry: ServiceEntry,
        revisions: Sequence[RevisionEntry],
        operation: Operation,
        lock: asyncio.Lock,
    ) -> None:
        try:
            await self._fleet.route()
            await self._drop_revisions(revisions)
            await asyncio.to_thread(self._logs.drop, entry.label)
            await self._finish(operation.succeeded(operation.metadata))
        finally:
            lock.release()

    async def _drop_revisions(self, revisions: Sequence[RevisionEntry]) -> None:
        """End what is left of revisions that the catalog does not have any more."""
        names = frozenset(r.name for r in revisions)
        await self._fleet.retire(names, patience_s=DELETE_PATIENCE_S)
        for name in names:
            await self._images.release(name)

    async def _finish(self, operation: Operation) -> None:
        await self._catalog.save(operation)
        self._book.finish(operation)

    def _lock(self, name: ServiceName) -> asyncio.Lock:
        return self._locks.setdefault(str(name), asyncio.Lock())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def typed(type_url: str, document: Document) -> dict[str, Any]:
    """A document as an operation carries it (google.protobuf.Any in JSON)."""
    return {"@type": type_url, **write_document(document)}
