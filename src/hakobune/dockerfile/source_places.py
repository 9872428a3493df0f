"""Where a Dockerfile names what it reads, for messages about it."""

from __future__ import annotations

from collections.abc import Iterator

from hakobune.dockerfile.graph import Plan
from hakobune.dockerfile.instructions import Copy, Instruction, Position, Run


def source_places(plan: Plan) -> dict[str, Position]:
    """The first COPY or RUN that reads each name of a `from`."""
    found: dict[str, Position] = {}
    for planned in plan.stages:
        for instruction in planned.stage.instructions:
            for name in _names(instruction):
                found.setdefault(name, instruction.at)
    return found


def _names(instruction: Instruction) -> Iterator[str]:
    if isinstance(instruction, Copy) and instruction.from_:
        yield instruction.from_
    elif isinstance(instruction, Run):
        yield from (flag.from_ for flag in instruction.mount_flags if flag.from_)
