"""Bringing a service to what was asked: start, probe, switch; then the old revision drains (`plan.py`).

A revision that does not become ready changes nothing of what serves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from hakobune.errors import HakoError
from hakobune.serving.catalog import Catalog, RevisionEntry, new_event, now_text
from hakobune.serving.conditions import (
    failed_revision,
    failed_service,
    ready_revision,
    settled_service,
)
from hakobune.serving.document import Document, write_document
from hakobune.serving.fleet import Fleet
from hakobune.serving.images import Images
from hakobune.serving.routing import Addresses, serving_revisions, traffic_statuses
from hakobune.serving.service import Service, TrafficType
from hakobune.state.operations import Operation

logger = logging.getLogger(__name__)


class Rollouts:
    """The roll-outs under way, one a service; a newer one takes the older one's place."""

    def __init__(
        self,
        catalog: Catalog,
        fleet: Fleet,
        images: Images,
        addresses: Addresses,
        finished: Callable[[Operation], None],
    ) -> None:
        self._catalog = catalog
        self._fleet = fleet
        self._images = images
        self._addresses = addresses
        self._finished = finished
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._switching: set[str] = set()

    def begin(self, service: str, operation: Operation) -> None:
        """Work on *service* until it is as asked, and finish *operation*."""
        older = self._tasks.get(service)
        task = asyncio.create_task(self._run(service, operation, older))
        self._tasks[service] = task
        task.add_done_callback(lambda done: self._forget(service, done))

    async def cancel(self, service: str) -> None:
        """End the roll-out of a service, if there is one; its operation fails."""
        task = self._tasks.get(service)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def abandon(self, service: str) -> None:
        """End the roll-out of a service as failed: what served goes on. One that is switching already ends as it would."""
        task = self._tasks.get(service)
        if task is not None and service not in self._switching:
            task.cancel("abandoned")
            await asyncio.gather(task, return_exceptions=True)

    async def stop(self) -> None:
        """Leave everything as it is: the next controller goes on."""
        tasks = tuple(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel("stop")
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self, service: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(service) is task:
            del self._tasks[service]

    async def _run(
        self, service: str, operation: Operation, older: asyncio.Task[None] | None
    ) -> None:
        if older is not None:
            older.cancel("superseded")
            await asyncio.gather(older, return_exceptions=True)
        entry = self._catalog.service(service)
        created = self._catalog.revision(entry.service.latest_created_revision)
        self._fleet.expect(created.name)
        try:
            await self._fleet.route()  # its host is known from now on
            if created.failed:
                check_servable(entry.service, created)
            elif not created.ready:
                await self._make_ready(created)
            self._switching.add(service)
            await self._switch(service, operation)
        except asyncio.CancelledError as cancelled:
            if "abandoned" in cancelled.args:
                name = created.revision.short_name
                error = HakoError(f"the deploy of {name} was cancelled before it was ready")
                await self._fail(service, created, operation, error)
            elif "stop" not in cancelled.args:
                await self._supersede(operation)
            raise
        except HakoError as error:
            await self._fail(service, created, operation, error)
        except Exception as error:  # a fault of ours: the operation must end all the same
            logger.exception("roll-out failed")
            await self._fail(service, created, operation, HakoError(f"internal error: {error!r}"))
        finally:
            self._switching.discard(service)
            self._fleet.settle(created.name)

    async def _make_ready(self, created: RevisionEntry) -> None:
        """Have enough instances of it, healthy, before anybody is sent there."""
        await self._images.keep(created)
        await self._images.prepare(created.digest)
        scaling = created.revision.scaling
        count = max(1, scaling.min_instance_count if scaling else 0)
        booted = await self._fleet.roll_out(created.name, count)
        revision = ready_revision(created.revision, message=booted.message, now=now_text())
        await self._catalog.save(
            RevisionEntry(revision=revision, digest=created.digest, ready=True)
        )

    async def _switch(self, service: str, operation: Operation) -> None:
        """Send requests where the traffic says now; afterwards the operation is done."""
        entry = self._catalog.service(service)
        before = serving_revisions([entry])
        created = self._catalog.revision(entry.service.latest_created_revision)
        latest = entry.service.latest_ready_revision if created.failed else created.name
        settled = settled_service(
            entry.service,
            latest_ready=latest,
            statuses=traffic_statuses(
                entry.service, latest.rpartition("/")[2], entry.label, self._addresses
            ),
            urls=self._addresses.urls(entry.label, entry.port),
            now=now_text(),
        )
        if created.failed:  # still so, whoever serves
            message = with_state(failure(created), settled)
            settled = failed_service(settled, message=message, now=now_text())
        done = operation.succeeded(_typed(operation, settled))
        await self._catalog.save(
            msgspec.structs.replace(entry, service=settled),
            events=[new_event(service, "Switched", f"{latest.rpartition('/')[2]} is the latest")],
        )
        await self._fleet.route()
        if not before:  # what HAProxy would come back with has no answer for it
            await self._fleet.written()
        for name in before - serving_revisions([self._catalog.service(service)]):
            await self._fleet.note_if_drained(name)  # scaled to zero: no instance will
        await self._catalog.save(done)
        self._finished(done)

    async def _fail(
        self, service: str, created: RevisionEntry, operation: Operation, error: HakoError
    ) -> None:
        entry = self._catalog.service(service)
        message = with_state(str(error), entry.service)
        failed = failed_service(entry.service, message=message, now=now_text())
        revision = failed_revision(created.revision, message=str(error), now=now_text())
        done = operation.failed("FAILED_PRECONDITION", message, _typed(operation, failed))
        await self._catalog.save(
            msgspec.structs.replace(entry, service=failed),
            RevisionEntry(revision=revision, digest=created.digest, ready=False),
            done,
            events=[new_event(service, "RevisionFailed", message)],
        )
        self._finished(done)

    async def _supersede(self, operation: Operation) -> None:
        done = operation.failed(
            "ABORTED",
            "a newer change of the service has taken the place of this one",
            operation.metadata,
        )
        await self._catalog.save(done)
        self._finished(done)


def check_servable(service: Service, created: RevisionEntry) -> None:
    """See that the traffic goes to something although the latest revision has failed (pure).

    Raises:
        HakoError: it goes to the latest ready revision, and none ever was; the error is the one of that revision.
    """
    to_latest = any(target.type is TrafficType.LATEST for target in service.traffic)
    if to_latest and not service.latest_ready_revision:
        raise HakoError(failure(created))


def failure(revision: RevisionEntry) -> str:
    """Why a revision that has failed did so, as its own condition says."""
    return next(iter(revision.revision.conditions)).message


def with_state(message: str, service: Service) -> str:
    """*message* with the service's state at the end of its first line: who serves in spite of it."""
    first, newline, rest = message.partition("\n")
    serving = [
        f"{status.revision} keeps {status.percent} %"
        for status in service.traffic_statuses
        if status.percent
    ]
    return f"{first}. {', '.join(serving) or 'Nothing serves yet'}.{newline}{rest}"


def _typed(operation: Operation, document: Document) -> dict[str, object]:
    return {"@type": operation.metadata["@type"], **write_document(document)}
