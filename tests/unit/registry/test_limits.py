"""How long a client may delay."""

from __future__ import annotations

import pytest

from hakobune.registry.limits import Limits, Phase, Watch

LIMITS = Limits()


def a_watch(phase: Phase) -> Watch:
    watch = Watch()
    watch.enter(phase, 1000.0)
    return watch


@pytest.mark.parametrize(
    ("phase", "seconds"), [(Phase.IDLE, 75.0), (Phase.HEAD, 10.0), (Phase.LINGER, 2.0)]
)
def test_waiting_for_a_client_has_an_end(phase: Phase, seconds: float) -> None:
    watch = a_watch(phase)

    assert watch.overdue(1000.0 + seconds, LIMITS) is None
    assert watch.overdue(1000.0 + seconds + 0.1, LIMITS) is not None


def test_this_servers_own_work_is_nobodys_delay() -> None:
    assert a_watch(Phase.WORKING).overdue(9999.0, LIMITS) is None


@pytest.mark.parametrize("phase", [Phase.RECEIVING, Phase.SENDING])
def test_a_transfer_that_stands_still_ends_after_a_minute(phase: Phase) -> None:
    watch = a_watch(phase)
    watch.progress = 100_000_000
    assert watch.overdue(1030.0, LIMITS) is None

    assert watch.overdue(1090.0, LIMITS) is None
    assert watch.overdue(1090.1, LIMITS) == "the transfer stands still"


def test_a_trickle_ends_and_a_slow_line_does_not() -> None:
    trickle, slow = a_watch(Phase.RECEIVING), a_watch(Phase.RECEIVING)
    for second in range(1, 40):
        trickle.progress = second
        slow.progress = second * 1000
        assert slow.overdue(1000.0 + second, LIMITS) is None

    assert trickle.overdue(1040.0, LIMITS) == "the transfer is too slow"


def test_a_new_phase_begins_from_nothing() -> None:
    watch = a_watch(Phase.RECEIVING)
    watch.progress = 5
    watch.enter(Phase.IDLE, 2000.0)

    assert watch.progress == 0
    assert watch.overdue(2050.0, LIMITS) is None
