"""All instances, kept as the plan wants them: the loop that observes, decides (`plan.py`) and has it carried out (`instance_acts.py`)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping

from hakobune.runtime.container import ContainerStatus, Phase
from hakobune.serving.boot import Booted, Booter
from hakobune.serving.candidates import Candidates
from hakobune.serving.ingress_keeper import IngressKeeper
from hakobune.serving.instance import REVISION_LABEL, Instance, InstanceState, adopted_state
from hakobune.serving.instance_acts import LIVES_IN_INGRESS, InstanceActs, Wanted
from hakobune.serving.instances import Instances
from hakobune.serving.meter import Meter
from hakobune.serving.plan import IdleRules, RevisionWish, next_due, plan
from hakobune.serving.revision_record import RevisionRecord
from hakobune.serving.supervisor_link import SupervisorLink
from hakobune.serving.waiters import Waiters
from hakobune.serving.wish import make_wish

BUSY_TICK_S = 0.1

logger = logging.getLogger(__name__)


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
        self.waiters = Waiters(self.poke)
        self._ingress = ingress
        self._wanted = wanted
        self._rules = rules
        self._boots = boots
        self._instances = Instances()
        self._meter = Meter(ingress)
        self._candidates = Candidates()
        self._poked = asyncio.Event()
        self._acts = InstanceActs(
            self._instances,
            link=link,
            ingress=ingress,
            booter=booter,
            wanted=wanted,
            meter=self._meter,
            candidates=self._candidates,
            waiters=self.waiters,
            poke=self.poke,
        )

    @property
    def instances(self) -> Mapping[str, Instance]:
        """Those there are, by id."""
        return self._instances.by_id

    def poke(self) -> None:
        """Something has changed: decide anew."""
        self._poked.set()

    def record(self, revision: str) -> RevisionRecord:
        return self._instances.record(revision)

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
            await self._acts.cancel()

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
        self._candidates.count_ready(
            revision, self._instances.ready_count(revision), Booted(0.0, "ready")
        )
        self.poke()
        return await ready

    def settle(self, revision: str) -> None:
        """Treat *revision* as any other from now on: without traffic its instances go."""
        self._candidates.settle(revision)
        self.poke()

    def status_changed(self, id: str, status: ContainerStatus) -> None:
        """The supervisor says that a container has ended."""
        self._acts.note_end(id, status)

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
                self._acts.spawn(self._acts.remove(status.id))
                continue
            instance = self._instances.enrol(status.id, revision.name, state)
            instance.address = status.address
            if state is InstanceState.STARTING:
                self._acts.spawn(self._acts.boot(instance, revision, adopted=True))
            elif state is InstanceState.STOPPING:
                self._acts.spawn(self._acts.end(instance))
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
                    self._acts.dismiss(instance)
                    self._acts.spawn(self._acts.remove(instance.id))
                await self._acts.route()
            self.poke()
            await asyncio.sleep(0.02)

    async def _round(self) -> None:
        self._poked.clear()
        live = [i for i in self.instances.values() if i.state in LIVES_IN_INGRESS]
        await self._meter.observe(live, self.record)
        now = time.monotonic()
        wishes = [self._wish(name, now) for name in sorted(self._interesting())]
        own = list(self.instances.values())
        for action in plan(wishes, own, now=now, rules=self._rules, boots=self._boots):
            self._acts.begin(action)
        await self._pause(wishes)

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
            self._instances.of(name),
            now=now,
            serves=name in self._candidates or name in self._wanted.serving(),
            minimum=max(self._minimum(name), self._candidates.needed(name)),
            waiting=self.waiters.count(name),
        )

    async def _pause(self, wishes: list[RevisionWish]) -> None:
        """Until something happens or becomes due; while instances run, requests are counted ten times a second."""
        own = self.instances.values()
        timeout: float | None = None
        if any(i.state in LIVES_IN_INGRESS for i in own):
            timeout = BUSY_TICK_S
        elif (due := next_due(own, wishes, rules=self._rules)) is not None:
            timeout = max(due - time.monotonic(), 0.01)
        try:
            async with asyncio.timeout(timeout):
                await self._poked.wait()
        except TimeoutError:
            pass

    async def note_if_drained(self, revision: str) -> None:
        """Keep as an event that nothing of a revision without traffic is left, and how many requests that has cut."""
        await self._acts.note_if_drained(revision)

    async def route(self) -> None:
        """Make HAProxy know desired state as it is now."""
        await self._acts.route()

    async def written(self) -> None:
        """Return when an HAProxy that is started again comes back as it is now."""
        await self._ingress.written()

    def can_serve(self, revision: str) -> bool:
        """Whether HAProxy has been told of an instance that takes requests."""
        return self._ingress.can_serve(revision)

    async def is_up(self, revision: str) -> bool:
        """Whether HAProxy itself holds an instance of *revision* to be well."""
        return await self._meter.is_up(revision)
