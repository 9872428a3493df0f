"""The plan of a build with the ONBUILD triggers of its base images in it. Pure, but for the question what a base image's are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from hakobune.dockerfile.graph import ContextSource, ImageSource, Plan, PlannedStage, plan
from hakobune.dockerfile.instructions import Dockerfile, Instruction
from hakobune.dockerfile.parse import parse_triggers
from hakobune.dockerfile.request import DockerfileRequest
from hakobune.oci.platform import Platform


def plan_with_triggers(
    dockerfile: Dockerfile,
    request: DockerfileRequest,
    context_names: Collection[str],
    on_build: Callable[[PlannedStage, ImageSource | ContextSource], Sequence[str]],
) -> Plan:
    """The stages that the request's target needs; a trigger may bring in further ones.

    Args:
        context_names: of `--build-context`.
        on_build: the triggers of a stage's base image.

    Raises:
        DockerfileError: see `plan` and `parse_triggers`.
    """
    triggers: dict[int, tuple[Instruction, ...]] = {}
    while True:
        planned = plan(
            dockerfile,
            target=request.target,
            args=request.args,
            build_platform=Platform.host().normal(),
            target_platform=request.platform.normal(),
            named_contexts=context_names,
            triggers=triggers,
        )
        found = False
        for one in planned.stages:
            if one.stage.index in triggers:
                continue
            triggers[one.stage.index] = ()
            if isinstance(one.base, ImageSource | ContextSource):
                expressions = on_build(one, one.base)
                triggers[one.stage.index] = parse_triggers(expressions, one.stage, one.base.name)
                found = found or bool(expressions)
        if not found:
            return planned
