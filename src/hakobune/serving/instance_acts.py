"""What is done to single instances: boot, thaw, park, freeze, stop, bury. Each step tells HAProxy first or at once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from hakobune.errors import HakoError
from hakobune.runtime.container import ContainerStatus, Phase
from hakobune.serving.boot import Booter
from hakobune.serving.candidates import Candidates
from hakobune.serving.diagnosis import BootError, describe_exit
from hakobune.serving.ingress_keeper import IngressKeeper
from hakobune.serving.instance import Instance, InstanceState, new_instance_id
from hakobune.serving.instances import Instances
from hakobune.serving.meter import Meter
from hakobune.serving.plan import Action, Verb
from hakobune.serving.revision import Revision
from hakobune.serving.supervisor_link import SupervisorLink
from hakobune.serving.waiters import GO, Waiters

STOP_TIMEOUT_S = 10.0
LIVES_IN_INGRESS = (InstanceState.READY, InstanceState.PARKED)

logger = logging.getLogger(__name__)


class Wanted(Protocol):
    """What the fleet asks of desired state."""

    def revision(self, name: str) -> Revision | None: ...

    def serving(self) -> frozenset[str]:
        """Full names of the revisions that requests can reach."""
        ...

    async def note(self, subject: str, reason: str, message: str) -> None: ...


class InstanceActs:
    """Carries out what the plan says, beside the loop that plans. For one asyncio loop.

    Args:
        poke: called when something has changed that a plan depends on.
    """

    def __init__(
        self,
        instances: Instances,
        *,
        link: SupervisorLink,
        ingress: IngressKeeper,
        booter: Booter,
        wanted: Wanted,
        meter: Meter,
        candidates: Candidates,
        waiters: Waiters,
        poke: Callable[[], None],
    ) -> None:
        self._instances = instances
        self._link = link
        self._ingress = ingress
        self._booter = booter
        self._wanted = wanted
        self._meter = meter
        self._candidates = candidates
        self._waiters = waiters
        self._poke = poke
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, action: Action) -> None:
        """Change the state now, so that the next plan counts it, and do the work beside the loop."""
        logger.info(
            "instance planned",
            extra={"verb": action.verb.value, "target": action.target, "reason": action.reason},
        )
        if action.verb is Verb.START:
            revision = self._wanted.revision(action.target)
            if revision is not None:
                name = new_instance_id(revision.short_name)
                instance = self._instances.enrol(name, revision.name, InstanceState.STARTING)
                self.spawn(self.boot(instance, revision, adopted=False))
            return
        instance = self._instances.by_id[action.target]
        match action.verb:
            case Verb.THAW if instance.state is InstanceState.PARKED:
                instance.state = InstanceState.READY
                self.spawn(self.route())
            case Verb.THAW:
                instance.state = InstanceState.THAWING
                self.spawn(self._thaw(instance))
            case Verb.PARK:
                instance.state = InstanceState.PARKED
                self.spawn(self.route())
            case Verb.FREEZE:
                instance.state = InstanceState.FREEZING
                self.spawn(self._freeze(instance))
            case Verb.STOP:
                before = instance.state
                live = before in LIVES_IN_INGRESS
                instance.state = InstanceState.FREEZING if live else InstanceState.STOPPING
                self.spawn(self._stop(instance, before))

    async def boot(self, instance: Instance, revision: Revision, *, adopted: bool) -> None:
        """Start it, or go on waiting for one that is *adopted*; ready, it takes requests."""
        begin = self._booter.watch if adopted else self._booter.start
        try:
            booted = await begin(instance, revision, self._instances.end_of(instance))
        except HakoError as error:
            if instance.state is InstanceState.STARTING:
                await self._give_up(instance, revision, error)
            return
        if instance.state is not InstanceState.STARTING:
            return  # stopped meanwhile
        self._instances.record(revision.name).count_boot(booted.seconds)
        instance.state = InstanceState.READY
        instance.idle_since = time.monotonic()
        await self.route()
        self._candidates.count_ready(
            revision.name, self._instances.ready_count(revision.name), booted
        )
        await self._wanted.note(revision.name, "InstanceReady", f"{instance.id}: {booted.message}")

    async def _give_up(self, instance: Instance, revision: Revision, error: HakoError) -> None:
        """An instance did not become ready: say why to all who wait, and wait longer each time."""
        self.dismiss(instance)
        self.spawn(self.remove(instance.id))
        record = self._instances.record(revision.name)
        record.count_crash(time.monotonic())
        record.last_death = first_line = error.what.splitlines()[0]
        failure = error
        if not isinstance(error, BootError):  # it says nothing of the revision
            failure = BootError(f"{revision.short_name}: {error}")
        self._candidates.fail(revision.name, failure)
        if not self._instances.ready_count(revision.name):
            self._waiters.answer(revision.name, f"503 {first_line}")
        await self._wanted.note(revision.name, "InstanceFailed", error.what)
        self._poke()

    async def _thaw(self, instance: Instance) -> None:
        """Let it run, and let requests to it in the meantime: what comes too early waits in its socket's backlog."""
        thawed = asyncio.ensure_future(self._link.thaw(instance.id))
        await asyncio.sleep(0)  # the supervisor is asked first
        instance.state = InstanceState.READY
        instance.idle_since = time.monotonic()
        await self.route()
        try:
            await thawed
        except HakoError:
            await self._look_again(instance)
            raise

    async def _freeze(self, instance: Instance) -> None:
        """No new requests; then, if none has slipped in, no CPU."""
        await self.route()
        if await self._is_quiet(instance):
            try:
                await self._link.freeze(instance.id)
            except HakoError:
                await self._look_again(instance)
                raise
            if instance.state is InstanceState.FREEZING:
                instance.state = InstanceState.FROZEN
        elif instance.state is InstanceState.FREEZING:
            instance.state = InstanceState.READY
            await self.route()
        self._poke()

    async def _stop(self, instance: Instance, before: InstanceState) -> None:
        """No new requests; then, if none has slipped in, the end; else it is what it was *before*."""
        if instance.state is InstanceState.FREEZING:
            await self.route()
            quiet = await self._is_quiet(instance)
            if self._instances.by_id.get(instance.id) is not instance:
                return  # it has ended by itself
            if not quiet:
                instance.state = before
                await self.route()
                return
        await self.end(instance)

    async def end(self, instance: Instance) -> None:
        """Stop signal, ten seconds, the end; also of one that an earlier controller had begun to stop."""
        instance.state = InstanceState.STOPPING
        await self.route()
        await self.note_if_drained(instance.revision)
        try:
            await self._link.stop_container(instance.id, timeout_s=STOP_TIMEOUT_S)
        except HakoError as error:
            logger.warning("container not stopped", extra={"id": instance.id, "why": str(error)})
        await self.remove(instance.id)
        self.dismiss(instance)
        await self.route()
        self._poke()

    async def note_if_drained(self, revision: str) -> None:
        """Keep as an event that the last instance of a revision without traffic goes, and how many requests that cuts."""
        stays = any(i.state is not InstanceState.STOPPING for i in self._instances.of(revision))
        if stays or revision in self._wanted.serving() or self._wanted.revision(revision) is None:
            return
        cut = await self._meter.running(revision)
        if cut is None:
            return  # nobody knows
        await self._wanted.note(
            revision, "Drained", f"drained, {cut} request{'' if cut == 1 else 's'} cut"
        )

    async def _look_again(self, instance: Instance) -> None:
        """A verb failed half-way: what the container is now is what counts."""
        phases = {status.id: status.phase for status in await self._link.list({})}
        match phases.get(instance.id):
            case Phase.FROZEN:
                instance.state = InstanceState.FROZEN
            case Phase.RUNNING:
                instance.state = InstanceState.READY
            case _:
                self.note_end(instance.id, ContainerStatus(id=instance.id, phase=Phase.STOPPED))
        await self.route()

    async def _is_quiet(self, instance: Instance) -> bool:
        if self._waiters.count(instance.revision):
            return False
        return await self._meter.is_quiet(instance)

    def note_end(self, id: str, status: ContainerStatus) -> None:
        """A container has ended, as its status says."""
        if self._instances.note_end(id, status):
            self.spawn(self._bury(id, status))

    async def _bury(self, id: str, status: ContainerStatus) -> None:
        """A container has ended; if nobody meant it to, say how, and start another after a while."""
        instance = self._instances.by_id.get(id)
        if instance is None or instance.state in (InstanceState.STARTING, InstanceState.STOPPING):
            return  # its boot or its stop deals with it
        revision = self._wanted.revision(instance.revision)
        self.dismiss(instance)
        if revision is not None:
            resources = revision.containers[0].resources
            memory = resources.limits["memory"] if resources else ""
            record = self._instances.record(instance.revision)
            record.last_death = f"{revision.short_name} {describe_exit(status, memory=memory)}"
            record.out_of_memory = status.oom_killed
            now = time.monotonic()
            record.count_crash(now, alive_s=now - instance.since)
            reason = "OutOfMemory" if status.oom_killed else "InstanceExited"
            await self._wanted.note(instance.revision, reason, f"{id}: {record.last_death}")
        await self.route()
        await self.remove(id)
        self._poke()

    def dismiss(self, instance: Instance) -> None:
        """It is gone."""
        self._instances.dismiss(instance)
        self._meter.forget(instance.id)

    async def remove(self, id: str) -> None:
        """Remove its container, whatever that does."""
        try:
            await self._link.remove(id, force=True)
        except HakoError as error:
            if getattr(error, "kind", "") != "not_found":
                logger.warning("container not removed", extra={"id": id, "why": str(error)})

    async def route(self) -> None:
        """Make HAProxy know what is there now, and let go the requests that can be served."""
        usable = await self._ingress.apply(self._instances.by_id.values())
        for revision in usable & self._waiters.revisions():
            self._waiters.answer(revision, GO)
        self._poke()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do *work* beside the loop; a failure is logged."""
        task = asyncio.create_task(_logged(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def cancel(self) -> None:
        """Cancel what has been begun; containers stay."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _logged(work: Awaitable[None]) -> None:
    try:
        await work
    except HakoError as error:
        logger.warning("instance action failed", extra={"what": error.what, "why": error.why})
