"""All instances, kept as the plan wants them: the loop that observes, decides (`plan.py`) and carries out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Coroutine, Iterable
from typing import Any, Protocol

from hakobune.errors import HakoError
from hakobune.runtime.container import ContainerStatus, Phase
from hakobune.serving.boot import Booted, Booter
from hakobune.serving.candidates import Candidates
from hakobune.serving.diagnosis import BootError, describe_exit
from hakobune.serving.ingress_keeper import IngressKeeper
from hakobune.serving.instance import (
    REVISION_LABEL,
    Instance,
    InstanceState,
    adopted_state,
    new_instance_id,
)
from hakobune.serving.meter import Meter
from hakobune.serving.plan import Action, IdleRules, RevisionWish, Verb, next_due, plan
from hakobune.serving.revision import Revision
from hakobune.serving.revision_record import RevisionRecord
from hakobune.serving.supervisor_link import SupervisorLink
from hakobune.serving.waiters import GO, Waiters
from hakobune.serving.wish import make_wish

BUSY_TICK_S = 0.1
STOP_TIMEOUT_S = 10.0
_LIVES_IN_INGRESS = (InstanceState.READY, InstanceState.PARKED)

logger = logging.getLogger(__name__)


class Wanted(Protocol):
    """What the fleet asks of desired state."""

    def revision(self, name: str) -> Revision | None: ...

    def serving(self) -> frozenset[str]:
        """Full names of the revisions that requests can reach."""
        ...

    async def note(self, subject: str, reason: str, message: str) -> None: ...


class Fleet:
    """Owns every instance from its start to its end. For one asyncio loop."""

    def __init__(
        self,
        link: SupervisorLink,
        ingress: IngressKeeper,
        booter: Booter,
        wanted: Wanted,
        *,
        rules: IdleRules,
        boots: int,
    ) -> None:
        self.instances: dict[str, Instance] = {}
        self.waiters = Waiters(self.poke)
        self._link = link
        self._ingress = ingress
        self._booter = booter
        self._wanted = wanted
        self._rules = rules
        self._boots = boots
        self._records: dict[str, RevisionRecord] = {}
        self._meter = Meter(ingress)
        self._exits: dict[str, asyncio.Future[ContainerStatus]] = {}
        self._candidates = Candidates()
        self._tasks: set[asyncio.Task[None]] = set()
        self._poked = asyncio.Event()

    def poke(self) -> None:
        """Something has changed: decide anew."""
        self._poked.set()

    def record(self, revision: str) -> RevisionRecord:
        return self._records.setdefault(revision, RevisionRecord())

    def ready_count(self, revision: str) -> int:
        """Instances that are through their probe."""
        return sum(
            i.revision == revision
            and i.state not in (InstanceState.STARTING, InstanceState.STOPPING)
            for i in self.instances.values()
        )

    async def run(self) -> None:
        """Observe, decide and act until cancelled; what has been begun is cancelled then, containers stay."""
        try:
            while True:
                try:
                    await self._round()
                except Exception:  # a fault of ours must not stop everything else
                    logger.exception("round failed")
                    await asyncio.sleep(1)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def expect(self, revision: str) -> None:
        """Leave the instances of *revision* alone until `settle`: it is about to be rolled out."""
        self._candidates.expect(revision)

    async def roll_out(self, revision: str, count: int) -> Booted:
        """Return when *count* instances of *revision* are ready; it is kept alive until `settle`.

        Raises:
            BootError: one could not become ready.
        """
        ready = self._candidates.begin(revision, count)
        self.record(revision).forgive()
        self._candidates.count_ready(revision, self.ready_count(revision), Booted(0.0, "ready"))
        self.poke()
        return await ready

    def settle(self, revision: str) -> None:
        """Treat *revision* as any other from now on: without traffic its instances go."""
        self._candidates.settle(revision)
        self.poke()

    def status_changed(self, id: str, status: ContainerStatus) -> None:
        """The supervisor says that a container has ended."""
        exited = self._exits.get(id)
        if exited is not None and status.phase is Phase.STOPPED and not exited.done():
            exited.set_result(status)
            self._spawn(self._bury(id, status))

    async def adopt(self, statuses: Iterable[ContainerStatus], in_ingress: frozenset[str]) -> None:
        """Take over what runs already; what cannot be used is removed. Known ones are only looked up again."""
        seen = set()
        for status in statuses:
            seen.add(status.id)
            if status.id in self.instances:
                self.status_changed(status.id, status)
                continue
            revision = self._wanted.revision(status.labels.get(REVISION_LABEL, ""))
            state = adopted_state(status, in_ingress=status.id in in_ingress)
            if revision is None or state is None or not status.address:
                self._spawn(self._remove(status.id))
                continue
            instance = self._enrol(status.id, revision.name, state)
            instance.address = status.address
            if state is InstanceState.STARTING:
                self._spawn(self._boot(instance, revision, adopted=True))
            elif state is InstanceState.STOPPING:
                self._spawn(self._end(instance))
        for id in self.instances.keys() - seen:
            if self.instances[id].address:  # made, and gone without a word
                self.status_changed(id, ContainerStatus(id=id, phase=Phase.STOPPED))
        self.poke()

    async def retire(self, revisions: frozenset[str], *, patience_s: float) -> None:
        """Return when no instance of *revisions*, which are no longer wanted, is left.

        Requests under way have *patience_s* to end.
        """
        deadline = time.monotonic() + patience_s
        while left := [i for i in self.instances.values() if i.revision in revisions]:
            if time.monotonic() > deadline:
                for instance in left:
                    instance.state = InstanceState.STOPPING
                    self._dismiss(instance)
                    self._spawn(self._remove(instance.id))
                await self._route()
            self.poke()
            await asyncio.sleep(0.02)

    async def _round(self) -> None:
        self._poked.clear()
        live = [i for i in self.instances.values() if i.state in _LIVES_IN_INGRESS]
        await self._meter.observe(live, self.record)
        now = time.monotonic()
        wishes = [self._wish(name, now) for name in sorted(self._interesting())]
        own = list(self.instances.values())
        for action in plan(wishes, own, now=now, rules=self._rules, boots=self._boots):
            self._begin(action)
        await self._pause(wishes)

    # deciding

    def _interesting(self) -> frozenset[str]:
        names = {i.revision for i in self.instances.values()} | self.waiters.revisions()
        names |= self._candidates.waited_for()
        names |= {n for n in self._wanted.serving() if self._minimum(n)}
        return frozenset(name for name in names if self._wanted.revision(name) is not None)

    def _minimum(self, name: str) -> int:
        revision = self._wanted.revision(name)
        return revision.scaling.min_instance_count if revision and revision.scaling else 0

    def _wish(self, name: str, now: float) -> RevisionWish:
        revision = self._wanted.revision(name)
        assert revision is not None, "only known revisions are interesting"
        return make_wish(
            revision,
            self.record(name),
            [i for i in self.instances.values() if i.revision == name],
            now=now,
            serves=name in self._candidates or name in self._wanted.serving(),
            minimum=max(self._minimum(name), self._candidates.needed(name)),
            waiting=self.waiters.count(name),
        )

    async def _pause(self, wishes: list[RevisionWish]) -> None:
        """Until something happens or becomes due; while instances run, requests are counted ten times a second."""
        own = self.instances.values()
        timeout: float | None = None
        if any(i.state in _LIVES_IN_INGRESS for i in own):
            timeout = BUSY_TICK_S
        elif (due := next_due(own, wishes, rules=self._rules)) is not None:
            timeout = max(due - time.monotonic(), 0.01)
        try:
            async with asyncio.timeout(timeout):
                await self._poked.wait()
        except TimeoutError:
            pass

    # acting

    def _begin(self, action: Action) -> None:
        """Change the state now, so that the next plan counts it, and do the work beside the loop."""
        logger.info(
            "instance planned",
            extra={"verb": action.verb.value, "target": action.target, "reason": action.reason},
        )
        if action.verb is Verb.START:
            revision = self._wanted.revision(action.target)
            if revision is not None:
                name = new_instance_id(revision.short_name)
                instance = self._enrol(name, revision.name, InstanceState.STARTING)
                self._spawn(self._boot(instance, revision, adopted=False))
            return
        instance = self.instances[action.target]
        match action.verb:
            case Verb.THAW if instance.state is InstanceState.PARKED:
                instance.state = InstanceState.READY
                self._spawn(self._route())
            case Verb.THAW:
                instance.state = InstanceState.THAWING
                self._spawn(self._thaw(instance))
            case Verb.PARK:
                instance.state = InstanceState.PARKED
                self._spawn(self._route())
            case Verb.FREEZE:
                instance.state = InstanceState.FREEZING
                self._spawn(self._freeze(instance))
            case Verb.STOP:
                before = instance.state
                live = before in _LIVES_IN_INGRESS
                instance.state = InstanceState.FREEZING if live else InstanceState.STOPPING
                self._spawn(self._stop(instance, before))

    def _enrol(self, id: str, revision: str, state: InstanceState) -> Instance:
        now = time.monotonic()
        instance = Instance(id=id, revision=revision, state=state, idle_since=now, since=now)
        self.instances[id] = instance
        self._exits[id] = asyncio.get_running_loop().create_future()
        return instance

    async def _boot(self, instance: Instance, revision: Revision, *, adopted: bool) -> None:
        begin = self._booter.watch if adopted else self._booter.start
        try:
            booted = await begin(instance, revision, self._exits[instance.id])
        except HakoError as error:
            if instance.state is InstanceState.STARTING:
                await self._give_up(instance, revision, error)
            return
        if instance.state is not InstanceState.STARTING:
            return  # stopped meanwhile
        self.record(revision.name).count_boot(booted.seconds)
        instance.state = InstanceState.READY
        instance.idle_since = time.monotonic()
        await self._route()
        self._candidates.count_ready(revision.name, self.ready_count(revision.name), booted)
        await self._wanted.note(revision.name, "InstanceReady", f"{instance.id}: {booted.message}")

    async def _give_up(self, instance: Instance, revision: Revision, error: HakoError) -> None:
        """An instance did not become ready: say why to all who wait, and wait longer each time."""
        self._dismiss(instance)
        self._spawn(self._remove(instance.id))
        record = self.record(revision.name)
        record.count_crash(time.monotonic())
        record.last_death = first_line = error.what.splitlines()[0]
        failure = error
        if not isinstance(error, BootError):  # it says nothing of the revision
            failure = BootError(f"{revision.short_name}: {error}")
        self._candidates.fail(revision.name, failure)
        if not self.ready_count(revision.name):
            self.waiters.answer(revision.name, f"503 {first_line}")
        await self._wanted.note(revision.name, "InstanceFailed", error.what)
        self.poke()

    async def _thaw(self, instance: Instance) -> None:
        """Let it run, and let requests to it in the meantime: what comes too early waits in its socket's backlog."""
        thawed = asyncio.ensure_future(self._link.thaw(instance.id))
        await asyncio.sleep(0)  # the supervisor is asked first
        instance.state = InstanceState.READY
        instance.idle_since = time.monotonic()
        await self._route()
        try:
            await thawed
        except HakoError:
            await self._look_again(instance)
            raise

    async def _freeze(self, instance: Instance) -> None:
        """No new requests; then, if none has slipped in, no CPU."""
        await self._route()
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
            await self._route()
        self.poke()

    async def _stop(self, instance: Instance, before: InstanceState) -> None:
        """No new requests; then, if none has slipped in, the end; else it is what it was *before*."""
        if instance.state is InstanceState.FREEZING:
            await self._route()
            quiet = await self._is_quiet(instance)
            if self.instances.get(instance.id) is not instance:
                return  # it has ended by itself
            if not quiet:
                instance.state = before
                await self._route()
                return
        await self._end(instance)

    async def _end(self, instance: Instance) -> None:
        """Stop signal, ten seconds, the end; also of one that an earlier controller had begun to stop."""
        instance.state = InstanceState.STOPPING
        await self._route()
        await self.note_if_drained(instance.revision)
        try:
            await self._link.stop_container(instance.id, timeout_s=STOP_TIMEOUT_S)
        except HakoError as error:
            logger.warning("container not stopped", extra={"id": instance.id, "why": str(error)})
        await self._remove(instance.id)
        self._dismiss(instance)
        await self._route()
        self.poke()

    async def note_if_drained(self, revision: str) -> None:
        """Keep as an event that the last instance of a revision without traffic goes, and how many requests that cuts."""
        stays = any(
            i.revision == revision and i.state is not InstanceState.STOPPING
            for i in self.instances.values()
        )
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
                self.status_changed(
                    instance.id, ContainerStatus(id=instance.id, phase=Phase.STOPPED)
                )
        await self._route()

    async def _is_quiet(self, instance: Instance) -> bool:
        if self.waiters.count(instance.revision):
            return False
        return await self._meter.is_quiet(instance)

    async def _bury(self, id: str, status: ContainerStatus) -> None:
        """A container has ended; if nobody meant it to, say how, and start another after a while."""
        instance = self.instances.get(id)
        if instance is None or instance.state in (InstanceState.STARTING, InstanceState.STOPPING):
            return  # its boot or its stop deals with it
        revision = self._wanted.revision(instance.revision)
        self._dismiss(instance)
        if revision is not None:
            resources = revision.containers[0].resources
            memory = resources.limits["memory"] if resources else ""
            record = self.record(instance.revision)
            record.last_death = f"{revision.short_name} {describe_exit(status, memory=memory)}"
            record.out_of_memory = status.oom_killed
            now = time.monotonic()
            record.count_crash(now, alive_s=now - instance.since)
            reason = "OutOfMemory" if status.oom_killed else "InstanceExited"
            await self._wanted.note(instance.revision, reason, f"{id}: {record.last_death}")
        await self._route()
        await self._remove(id)
        self.poke()

    def _dismiss(self, instance: Instance) -> None:
        self.instances.pop(instance.id, None)
        self._exits.pop(instance.id, None)
        self._meter.forget(instance.id)

    async def _remove(self, id: str) -> None:
        try:
            await self._link.remove(id, force=True)
        except HakoError as error:
            if getattr(error, "kind", "") != "not_found":
                logger.warning("container not removed", extra={"id": id, "why": str(error)})

    async def _route(self) -> None:
        """Make HAProxy know what is there now, and let go the requests that can be served."""
        usable = await self._ingress.apply(self.instances.values())
        for revision in usable & self.waiters.revisions():
            self.waiters.answer(revision, GO)
        self.poke()

    async def route(self) -> None:
        """Make HAProxy know desired state as it is now."""
        await self._route()

    async def written(self) -> None:
        """Return when an HAProxy that is started again comes back as it is now."""
        await self._ingress.written()

    def can_serve(self, revision: str) -> bool:
        """Whether HAProxy has been told of an instance that takes requests."""
        return self._ingress.can_serve(revision)

    async def is_up(self, revision: str) -> bool:
        """Whether HAProxy itself holds an instance of *revision* to be well."""
        return await self._meter.is_up(revision)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(_logged(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _logged(work: Awaitable[None]) -> None:
    try:
        await work
    except HakoError as error:
        logger.warning("instance action failed", extra={"what": error.what, "why": error.why})
