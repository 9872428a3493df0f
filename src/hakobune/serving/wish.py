"""What a revision needs now, from its demand and its instances: the input of `plan.py`."""

from __future__ import annotations

from collections.abc import Sequence

from hakobune.serving.autoscale import (
    PANIC_S,
    STABLE_S,
    ScaleDecision,
    ScaleLimits,
    decide_scale,
)
from hakobune.serving.instance import Instance, InstanceState
from hakobune.serving.plan import RevisionWish
from hakobune.serving.revision import Revision
from hakobune.serving.revision_record import RevisionRecord


def make_wish(
    revision: Revision,
    record: RevisionRecord,
    own: Sequence[Instance],
    *,
    now: float,
    serves: bool,
    minimum: int,
    waiting: int,
) -> RevisionWish:
    """The wish of *revision* with its *own* instances; the demand of *now* is added to its *record*."""
    resources = revision.containers[0].resources
    scale = _scale(revision, record, own, now, minimum, waiting)
    return RevisionWish(
        revision=revision.name,
        serves=serves,
        scale=scale,
        keep=record.wants.add(now, scale.want),
        minimum=minimum,
        may_freeze=resources is None or resources.cpu_idle,
        waiting=waiting,
        queued=record.waiting_in_ingress,
        not_before=record.not_before,
    )


def _scale(
    revision: Revision,
    record: RevisionRecord,
    own: Sequence[Instance],
    now: float,
    minimum: int,
    waiting: int,
) -> ScaleDecision:
    current = sum(i.running for i in own) + waiting + record.waiting_in_ingress
    record.window.add(now, current)
    assert revision.scaling is not None, "a validated revision has scaling"
    return decide_scale(
        current=current,
        stable=record.window.average(now, STABLE_S),
        panic=record.window.average(now, PANIC_S),
        ready=sum(i.state is InstanceState.READY for i in own),
        limits=ScaleLimits(
            minimum,
            max(revision.scaling.max_instance_count, minimum),
            revision.max_instance_request_concurrency,
        ),
    )
