"""What is remembered of a revision, and of its roll-out."""

from __future__ import annotations

import asyncio

import pytest

from hakobune.serving.boot import Booted
from hakobune.serving.candidates import Candidates
from hakobune.serving.diagnosis import BootError
from hakobune.serving.revision_record import RevisionRecord


def test_the_first_crash_costs_nothing_and_each_further_one_twice_as_much() -> None:
    record = RevisionRecord()
    waits = []
    for _ in range(9):
        record.count_crash(100.0)
        waits.append(record.not_before - 100.0 if record.not_before else 0.0)

    assert waits == [0, 1, 2, 4, 8, 16, 32, 60, 60]


def test_an_instance_that_lived_for_a_while_breaks_anew() -> None:
    record = RevisionRecord()
    for _ in range(3):
        record.count_crash(100.0)

    record.count_crash(100.0, alive_s=61)

    assert record.crashes == 0


def test_a_roll_out_is_done_when_enough_instances_are_ready() -> None:
    async def story() -> None:
        candidates = Candidates()
        candidates.expect("r")
        ready = candidates.begin("r", 2)

        candidates.count_ready("r", 1, Booted(0.1, "first"))
        assert not ready.done()
        candidates.count_ready("r", 2, Booted(0.2, "second"))

        assert (await ready).message == "second"
        assert candidates.needed("r") == 2
        assert "r" in candidates
        candidates.settle("r")
        assert candidates.needed("r") == 0
        assert "r" not in candidates

    asyncio.run(story())


def test_a_roll_out_has_no_second_attempt() -> None:
    async def story() -> None:
        candidates = Candidates()
        ready = candidates.begin("r", 1)

        candidates.fail("r", BootError("it exited"))

        assert candidates.needed("r") == 0
        assert candidates.waited_for() == frozenset()
        with pytest.raises(BootError, match="it exited"):
            await ready

    asyncio.run(story())
