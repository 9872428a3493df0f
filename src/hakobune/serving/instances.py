"""All instances by id, with what is remembered of their revisions."""

from __future__ import annotations

import asyncio
import time

from hakobune.runtime.container import ContainerStatus, Phase
from hakobune.serving.instance import Instance, InstanceState
from hakobune.serving.revision_record import RevisionRecord


class Instances:
    """From enrolment to dismissal. For one asyncio loop.

    Attributes:
        by_id: those there are; only `enrol` and `dismiss` change which.
    """

    def __init__(self) -> None:
        self.by_id: dict[str, Instance] = {}
        self._ends: dict[str, asyncio.Future[ContainerStatus]] = {}
        self._records: dict[str, RevisionRecord] = {}

    def enrol(self, id: str, revision: str, state: InstanceState) -> Instance:
        """A new one, from now on."""
        now = time.monotonic()
        instance = Instance(id=id, revision=revision, state=state, idle_since=now, since=now)
        self.by_id[id] = instance
        self._ends[id] = asyncio.get_running_loop().create_future()
        return instance

    def dismiss(self, instance: Instance) -> None:
        """It is gone. Idempotent."""
        self.by_id.pop(instance.id, None)
        self._ends.pop(instance.id, None)

    def end_of(self, instance: Instance) -> asyncio.Future[ContainerStatus]:
        """Done when its container has ended."""
        return self._ends[instance.id]

    def note_end(self, id: str, status: ContainerStatus) -> bool:
        """Take down that a container has ended; whether that is news of an instance."""
        end = self._ends.get(id)
        if end is None or status.phase is not Phase.STOPPED or end.done():
            return False
        end.set_result(status)
        return True

    def of(self, revision: str) -> list[Instance]:
        return [i for i in self.by_id.values() if i.revision == revision]

    def ready_count(self, revision: str) -> int:
        """Instances that are through their probe."""
        return sum(
            i.state not in (InstanceState.STARTING, InstanceState.STOPPING)
            for i in self.of(revision)
        )

    def record(self, revision: str) -> RevisionRecord:
        return self._records.setdefault(revision, RevisionRecord())
