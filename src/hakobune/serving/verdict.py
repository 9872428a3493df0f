"""What becomes of a held request: go, or which status and why (Cloud Run "Status codes")."""

from __future__ import annotations

import time

from hakobune.serving.document import parse_duration
from hakobune.serving.fleet import Fleet
from hakobune.serving.instance_acts import Wanted
from hakobune.serving.waiters import GO
from hakobune.serving.wake import Question

START_FACTOR = 3.5
LONGEST_S = 55.0  # HAProxy itself waits a minute for a verdict
MAX_ATTEMPTS = 2
LOOK_AGAIN_S = 0.05


def pending_limit_s(boot_s: float, least_s: float) -> float:
    """How long a request may wait for an instance: 3.5 times the average start, ten seconds at least."""
    return min(max(START_FACTOR * boot_s, least_s), LONGEST_S)


class Gate:
    """Answers the questions of `wake.HoldServer`."""

    def __init__(self, fleet: Fleet, wanted: Wanted, *, pending_s: float) -> None:
        self._fleet = fleet
        self._wanted = wanted
        self._pending_s = pending_s

    async def answer(self, question: Question) -> str:
        """The verdict: `go`, or a status and words."""
        revision = self._wanted.revision(question.revision)
        if revision is None:
            return "404 the service is gone"
        record = self._fleet.record(question.revision)
        if question.attempt > MAX_ATTEMPTS:
            why = record.last_death or f"{revision.short_name} broke off"
            return (
                f"{500 if record.out_of_memory else 503} {why}, {question.attempt} times in a row"
            )
        limit_s = pending_limit_s(record.boot_s, self._pending_s)
        timeout_s = parse_duration(revision.timeout, field="timeout")
        verdict = await self._wait(question, min(limit_s, timeout_s))
        if verdict is not None:
            return verdict
        if timeout_s <= limit_s:
            return "504 the service did not start within the request's timeout"
        return f"429 no instance of {revision.short_name} was free within {limit_s:.0f} s"

    async def _wait(self, question: Question, limit_s: float) -> str | None:
        if not question.attempt:
            if self._fleet.can_serve(question.revision):
                return GO
            return await self._fleet.waiters.wait(question.revision, limit_s)
        # It has come back: HAProxy holds every instance to be down, whatever we know of them.
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            can_serve = self._fleet.can_serve(question.revision)
            if can_serve and await self._fleet.is_up(question.revision):
                return GO
            verdict = await self._fleet.waiters.wait(question.revision, LOOK_AGAIN_S)
            if verdict is not None and verdict != GO:
                return verdict
        return None
