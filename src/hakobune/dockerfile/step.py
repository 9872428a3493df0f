"""A step that gives a layer: found in the cache, or made now."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from hakobune.dockerfile.cache import Inputs, StepRecord, step_key
from hakobune.dockerfile.image_config import with_history
from hakobune.dockerfile.instructions import Position
from hakobune.dockerfile.report import StepReport
from hakobune.dockerfile.stage_state import StageState
from hakobune.dockerfile.step_layers import StepLayer, Top
from hakobune.dockerfile.workshop import CancelledError, Workshop
from hakobune.oci.descriptor import Descriptor
from hakobune.oci.digest import Digest


class Step(Struct, frozen=True, kw_only=True, eq=False):
    """An instruction that gives a layer.

    Attributes:
        inputs: all that its result depends on besides the layers below; several ways to say the same: the cheap one first.
        created_by: for the history.
        banner: for people.
        settled: what it reads cannot change any more, so inputs that find nothing now may be asked later.
        alone: it does not depend on the layers below (`--link`).
        make: fills a top, given the layers below.
    """

    at: Position
    inputs: Sequence[Callable[[], Inputs | None]]
    created_by: str
    banner: str
    alone: bool = False
    settled: bool = False
    make: Callable[[Top, Sequence[StepLayer], StepReport], None]


def take(workshop: Workshop, stage: StageState, step: Step) -> None:
    """Add the step's layer to the stage.

    Raises:
        HakoError: it failed; nothing of it is left.
    """
    workshop.check_cancelled()
    below = () if step.alone else stage.diff_ids()
    known: list[Inputs] = []
    record = None
    may_find = below is not None and not workshop.request.no_cache
    for ask in step.inputs if may_find or not step.settled else ():
        inputs = ask()
        if inputs is None:
            continue
        known.append(_with_epoch(workshop, inputs))
        if may_find and below is not None:
            record = workshop.cache.find(step_key(below, known[-1]))
            if record is not None:
                break
    report = workshop.report.begin(step.banner)  # not before what it reads is there
    keys = [] if below is None else [step_key(below, inputs) for inputs in known]

    def carry_out() -> StepLayer:
        if record is None:
            return _make(workshop, stage, step, known, report)
        for key in keys[:-1]:
            workshop.cache.put(key, record)
        report.note("CACHED")
        return _take_over(workshop, stage, step, record, keys)

    layer = _share(workshop, stage, step, known[0], report, carry_out) if known else carry_out()
    stage.layers.append(layer)
    stage.config = with_history(stage.config, step.created_by, layer=True)


def _share(
    workshop: Workshop,
    stage: StageState,
    step: Step,
    inputs: Inputs,
    report: StepReport,
    carry_out: Callable[[], StepLayer],
) -> StepLayer:
    """Carry the step out, or take the layer of another stage's step that is the same.

    Raises:
        CancelledError: the other stage's step has failed, and the build with it.
    """
    under = () if step.alone else stage.layers
    claim, is_mine = workshop.shared.claim(under, step_key((), inputs), has_blob=stage.in_image)
    if is_mine:
        try:
            claim.give(layer := carry_out())
        finally:
            if claim.layer is None:
                claim.fail()
        return layer
    shared = claim.wait()
    if shared is None:
        raise CancelledError
    report.note("CACHED")
    if claim.has_blob or not stage.in_image:
        return shared
    diff_id = shared.wait()
    record = StepRecord(layer=shared.blob, diff_id=diff_id, created=shared.created)
    known = [] if (below := stage.diff_ids()) is None else [step_key(below, inputs)]
    layer = _take_over(workshop, stage, step, replace(record, what=step.banner), known)
    workshop.shared.note_same(layer, shared)
    return layer


def _take_over(
    workshop: Workshop, stage: StageState, step: Step, record: StepRecord, keys: Sequence[str]
) -> StepLayer:
    def completed(blob: Descriptor | None, diff_id: Digest) -> None:
        for key in keys:
            workshop.cache.put(key, replace(record, layer=blob))

    return workshop.layers.of_record(
        record.layer,
        record.diff_id,
        created=record.created,
        at=step.at,
        completed=completed if stage.in_image else None,
    )


def _make(
    workshop: Workshop, stage: StageState, step: Step, known: Sequence[Inputs], report: StepReport
) -> StepLayer:
    begun = time.monotonic()
    workshop.rooms.prepare(stage.label)
    under = () if step.alone else tuple(stage.layers)
    top = workshop.layers.new_top()
    try:
        step.make(top, under, report)
    except BaseException:
        workshop.layers.discard(top)
        raise
    created = workshop.now()

    def written(blob: Descriptor | None, diff_id: Digest) -> None:
        below = [layer.wait() for layer in under]
        record = StepRecord(layer=blob, diff_id=diff_id, created=created, what=step.banner)
        later = (ask() for ask in (() if known else step.inputs))
        asked = (_with_epoch(workshop, inputs) for inputs in later if inputs is not None)
        for inputs in (*known, *asked):
            workshop.cache.put(step_key(below, inputs), record)

    workshop.made += 1
    made = workshop.layers.keep(
        top, created=created, at=step.at, in_image=stage.in_image, written=written
    )
    report.note(f"DONE {time.monotonic() - begun:.1f}s")
    return made


def _with_epoch(workshop: Workshop, inputs: Inputs) -> Inputs:
    """A layer whose times are bounded is another one."""
    epoch = workshop.request.epoch
    return inputs if epoch is None else {**inputs, "epoch": epoch}


def image_variables(variables: Mapping[str, str]) -> list[str]:
    """As a list of `NAME=value`, for cache keys."""
    return [f"{name}={value}" for name, value in variables.items()]
