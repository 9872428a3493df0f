"""What to do next with the instances of every revision (pure): from what is wanted and what is there, with reasons."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from hakobune.serving.autoscale import ScaleDecision
from hakobune.serving.instance import Instance, InstanceState


class Verb(StrEnum):
    """What can be done with an instance."""

    START = "start"  # target is a revision; the others' target is an instance
    THAW = "thaw"
    PARK = "park"
    FREEZE = "freeze"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do now, and why, for the log."""

    verb: Verb
    target: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleRules:
    """How long an instance without a request stays as it is."""

    freeze_after_s: float = 10.0
    stop_after_s: float = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionWish:
    """What one revision needs now.

    Args:
        serves: it has traffic, a tag, or is being rolled out; else its instances go.
        queued: requests that wait in the ingress for one of its instances to have done another.
        keep: as many ready instances are not too many, though fewer are wanted now.
        may_freeze: its CPU is given only while requests run.
        not_before: it crashed: no start before this time.
    """

    revision: str
    serves: bool
    scale: ScaleDecision
    minimum: int
    may_freeze: bool
    keep: int = 0
    waiting: int = 0
    queued: int = 0
    not_before: float = 0.0


def plan(
    wishes: Iterable[RevisionWish],
    instances: Sequence[Instance],
    *,
    now: float,
    rules: IdleRules,
    boots: int,
) -> tuple[Action, ...]:
    """The actions that can be begun now, most urgent first.

    Args:
        boots: how many instances may start at the same time (more than cores make all of them late).
    """
    free = boots - sum(i.state is InstanceState.STARTING for i in instances)
    actions: list[Action] = []
    known = set()
    for wish in sorted(wishes, key=lambda w: (-w.waiting, w.revision)):
        known.add(wish.revision)
        own = [i for i in instances if i.revision == wish.revision]
        if not wish.serves and not wish.waiting:
            actions += _retire(own, wish.queued)
            continue
        starts = _grow(wish, own, now, max(free, 0))
        free -= sum(action.verb is Verb.START for action in starts)
        actions += starts or _shrink(wish, own, now, rules)
    actions += [
        Action(Verb.STOP, i.id, "its revision is gone")
        for i in instances
        if i.revision not in known and i.state in _STOPPABLE
    ]
    return tuple(actions)


def next_due(
    instances: Iterable[Instance], wishes: Iterable[RevisionWish], *, rules: IdleRules
) -> float | None:
    """When time alone makes something due; `None`: never."""
    times = [w.not_before for w in wishes if w.not_before]
    for instance in instances:
        if instance.state in (InstanceState.READY, InstanceState.PARKED) and not instance.running:
            times.append(instance.idle_since + rules.freeze_after_s)
        if instance.state is InstanceState.FROZEN:
            times.append(instance.idle_since + rules.stop_after_s)
    return min(times, default=None)


_STOPPABLE = (
    InstanceState.STARTING,
    InstanceState.READY,
    InstanceState.PARKED,
    InstanceState.FROZEN,
)


def _grow(wish: RevisionWish, own: Sequence[Instance], now: float, free: int) -> list[Action]:
    """Wake first what is parked, then what is frozen; start the rest."""
    want = max(wish.scale.want, 1 if wish.waiting else 0)
    coming = (InstanceState.READY, InstanceState.STARTING, InstanceState.THAWING)
    missing = want - sum(i.state in coming for i in own)
    if not wish.waiting and not any(i.state is InstanceState.READY for i in own):
        # Nobody asks: what is frozen need not wake for an average or a minimum.
        missing = min(
            missing, wish.minimum - sum(i.state is not InstanceState.STOPPING for i in own)
        )
    if missing <= 0:
        return []
    asleep = [i for i in own if i.state is InstanceState.PARKED]
    asleep += [i for i in own if i.state is InstanceState.FROZEN]
    actions = [Action(Verb.THAW, i.id, wish.scale.reason) for i in asleep[:missing]]
    settling = sum(i.state is InstanceState.FREEZING for i in own)
    cold = min(missing - len(actions) - settling, free)
    if cold > 0 and now >= wish.not_before:
        actions += [Action(Verb.START, wish.revision, wish.scale.reason)] * cold
    return actions


def _shrink(
    wish: RevisionWish, own: Sequence[Instance], now: float, rules: IdleRules
) -> list[Action]:
    """Park what is too much, freeze what is idle, stop what has been idle for long; never below the minimum."""
    actions: list[Action] = []
    ready = sorted(
        (i for i in own if i.state is InstanceState.READY), key=lambda i: (i.running, -i.since)
    )
    spare = len(ready) - max(wish.scale.want, wish.keep, 1)
    actions += [
        Action(Verb.PARK, i.id, f"{wish.scale.want} are enough: {wish.scale.reason}")
        for i in ready[: max(spare, 0)]
    ]
    parked = {action.target for action in actions}
    alive = sum(i.state is not InstanceState.STOPPING for i in own)
    for instance in own:
        idle_s = now - instance.idle_since
        if instance.state not in _STOPPABLE or instance.state is InstanceState.STARTING:
            continue
        if instance.running or wish.waiting or instance.id in parked:
            continue
        if idle_s >= rules.stop_after_s and alive > wish.minimum:
            alive -= 1
            actions.append(Action(Verb.STOP, instance.id, f"idle for {idle_s:.0f} s"))
        elif instance.state is InstanceState.FROZEN or not wish.may_freeze:
            continue
        elif idle_s >= rules.freeze_after_s or instance.state is InstanceState.PARKED:
            actions.append(Action(Verb.FREEZE, instance.id, f"idle for {idle_s:.0f} s"))
    return actions


def _retire(own: Sequence[Instance], queued: int) -> list[Action]:
    """No new requests, then, without any, the end. What still waits in a queue is taken first."""
    actions = []
    for instance in own:
        match instance.state:
            case InstanceState.READY if queued:
                pass
            case InstanceState.PARKED if queued:
                actions.append(Action(Verb.THAW, instance.id, f"{queued} requests wait for it"))
            case InstanceState.READY:
                actions.append(Action(Verb.PARK, instance.id, "its revision has no traffic"))
            case InstanceState.PARKED if not instance.running:
                actions.append(Action(Verb.STOP, instance.id, "its revision has no traffic"))
            case InstanceState.FROZEN | InstanceState.STARTING:
                actions.append(Action(Verb.STOP, instance.id, "its revision has no traffic"))
            case _:
                pass
    return actions
