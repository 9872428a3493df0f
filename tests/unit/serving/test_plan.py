"""What the plan does next with instances, and how many a revision wants."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hakobune.runtime.container import ContainerStatus, Phase
from hakobune.serving.autoscale import (
    DemandWindow,
    RecentWants,
    ScaleDecision,
    ScaleLimits,
    decide_scale,
)
from hakobune.serving.instance import Instance, InstanceState, adopted_state
from hakobune.serving.plan import Action, IdleRules, RevisionWish, next_due, plan

RULES = IdleRules(freeze_after_s=10, stop_after_s=900)
LIMITS = ScaleLimits(minimum=0, maximum=20, concurrency=10)


def an_instance(id: str, state: str = "ready", **changes: object) -> Instance:
    instance = Instance(id=id, revision="r", state=InstanceState(state))
    for name, value in changes.items():
        setattr(instance, name, value)
    return instance


def a_wish(want: int = 0, **changes: object) -> RevisionWish:
    fields: dict[str, object] = {
        "revision": "r",
        "serves": True,
        "scale": ScaleDecision(want, "why"),
        "minimum": 0,
        "may_freeze": True,
    }
    return RevisionWish(**(fields | changes))  # type: ignore[arg-type] # builder


def verbs(actions: tuple[Action, ...]) -> list[tuple[str, str]]:
    return [(action.verb.value, action.target) for action in actions]


def decide(
    wish: RevisionWish, *instances: Instance, now: float = 0, boots: int = 2
) -> list[tuple[str, str]]:
    return verbs(plan([wish], instances, now=now, rules=RULES, boots=boots))


def test_a_waiting_request_starts_an_instance_of_a_revision_at_zero() -> None:
    assert decide(a_wish(1, waiting=1)) == [("start", "r")]


def test_no_more_than_the_cores_start_at_a_time() -> None:
    assert decide(a_wish(20, waiting=200)) == [("start", "r")] * 2
    assert decide(a_wish(20, waiting=200), an_instance("a", "starting")) == [("start", "r")]


def test_a_frozen_instance_is_woken_before_another_is_started() -> None:
    assert decide(a_wish(2, waiting=1), an_instance("a", "frozen")) == [
        ("thaw", "a"),
        ("start", "r"),
    ]


def test_a_parked_instance_comes_back_before_a_frozen_one() -> None:
    assert decide(a_wish(1, waiting=1), an_instance("a", "frozen"), an_instance("b", "parked")) == [
        ("thaw", "b")
    ]


def test_an_instance_on_its_way_into_the_freezer_is_not_replaced() -> None:
    assert decide(a_wish(1, waiting=1), an_instance("a", "freezing")) == []


def test_nothing_is_woken_for_an_average_when_nobody_asks() -> None:
    assert decide(a_wish(3), an_instance("a", "frozen")) == []


def test_a_crashed_revision_waits_for_its_time() -> None:
    assert decide(a_wish(1, waiting=1, not_before=5), now=4) == []
    assert decide(a_wish(1, waiting=1, not_before=5), now=5) == [("start", "r")]


def test_an_idle_instance_freezes_and_later_ends() -> None:
    assert decide(a_wish(), an_instance("a"), now=9) == []
    assert decide(a_wish(), an_instance("a"), now=10) == [("freeze", "a")]
    assert decide(a_wish(), an_instance("a", "frozen"), now=900) == [("stop", "a")]


def test_one_with_requests_is_left_alone() -> None:
    assert decide(a_wish(1), an_instance("a", running=1), now=1000) == []


def test_cpu_always_means_never_frozen() -> None:
    assert decide(a_wish(may_freeze=False), an_instance("a"), now=100) == []


def test_the_minimum_stays() -> None:
    frozen = [an_instance("a", "frozen"), an_instance("b", "frozen")]

    assert decide(a_wish(1, minimum=1), *frozen, now=1000) == [("stop", "a")]


def test_too_many_are_parked_the_least_busy_first() -> None:
    busy, calm = an_instance("a", running=3), an_instance("b", running=1)

    assert decide(a_wish(1), busy, calm) == [("park", "b")]
    assert decide(a_wish(1, keep=2), busy, calm) == []


def test_without_traffic_an_instance_drains_and_then_ends() -> None:
    wish = a_wish(serves=False)

    assert decide(wish, an_instance("a", running=1)) == [("park", "a")]
    assert decide(wish, an_instance("a", "parked", running=1)) == []
    assert decide(wish, an_instance("a", "parked")) == [("stop", "a")]
    assert decide(wish, an_instance("a", "frozen")) == [("stop", "a")]


def test_without_traffic_what_is_queued_is_taken_first() -> None:
    wish = a_wish(serves=False, queued=3)

    assert decide(wish, an_instance("a", running=1)) == []
    assert decide(wish, an_instance("a", "parked")) == [("thaw", "a")]


def test_instances_of_a_deleted_revision_end() -> None:
    assert verbs(plan([], [an_instance("a")], now=0, rules=RULES, boots=2)) == [("stop", "a")]


def test_the_next_due_time_is_the_earliest() -> None:
    own = [an_instance("a", idle_since=5.0), an_instance("b", "frozen", idle_since=1.0)]

    assert next_due(own, [], rules=RULES) == 15.0
    assert next_due([], [], rules=RULES) is None


@pytest.mark.parametrize(
    ("phase", "in_ingress", "stopping", "state"),
    [
        ("running", True, False, "ready"),
        ("running", False, False, "starting"),
        ("running", True, True, "stopping"),
        ("frozen", True, False, "frozen"),
        ("created", False, False, None),
        ("stopped", True, False, None),
    ],
)
def test_a_container_that_is_found_is_what_it_was(
    phase: str, in_ingress: bool, stopping: bool, state: str | None
) -> None:
    found = ContainerStatus(id="a", phase=Phase(phase), stopping=stopping)

    assert adopted_state(found, in_ingress=in_ingress) == state


def scale(current: int = 0, stable: float = 0, panic: float = 0, ready: int = 0) -> int:
    return decide_scale(
        current=current, stable=stable, panic=panic, ready=ready, limits=LIMITS
    ).want


@pytest.mark.parametrize(
    ("given", "want"),
    [
        ({}, 0),
        ({"current": 1}, 1),
        ({"current": 200}, 20),
        ({"current": 900}, 20),
        ({"stable": 7}, 2),
        ({"panic": 60, "ready": 2}, 10),
        ({"panic": 13, "ready": 2}, 0),
    ],
)
def test_the_want_is_the_largest_of_its_drivers_within_the_limits(
    given: dict[str, float], want: int
) -> None:
    assert scale(**given) == want  # type: ignore[arg-type] # a table


def test_what_was_before_the_first_sample_counts_as_nothing() -> None:
    window = DemandWindow()
    window.add(100, 6)

    assert window.average(130, 60) == 3
    assert window.average(130, 6) == 6


@given(st.lists(st.integers(0, 100), min_size=1, max_size=50))
def test_an_average_lies_between_nothing_and_the_most(counts: list[int]) -> None:
    window = DemandWindow()
    for second, count in enumerate(counts):
        window.add(float(second), count)

    assert 0 <= window.average(float(len(counts)), 60) <= max(counts)


def test_a_want_is_kept_for_some_seconds() -> None:
    recent = RecentWants()
    recent.add(0, 8)

    assert recent.add(5, 1) == 8
    assert recent.add(7, 1) == 1
