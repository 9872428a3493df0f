"""RUN in a stage for another CPU: only where something emulates it, which is known before anything is built."""

from __future__ import annotations

from hakobune.dockerfile.errors import DockerfileError
from hakobune.dockerfile.graph import Plan, PlannedStage
from hakobune.dockerfile.instructions import Run
from hakobune.oci.platform import Platform


def check_emulation(plan: Plan) -> None:
    """Refuse a plan whose RUNs cannot run here. Stages that only copy may be for any CPU.

    Raises:
        DockerfileError: names the first such RUN and both platforms.
    """
    host = Platform.host()
    for planned in plan.stages:
        if not planned.platform.matches(host):
            _check_stage(planned)


def _check_stage(planned: PlannedStage) -> None:
    first = next((i for i in planned.stage.instructions if isinstance(i, Run)), None)
    if first is None:
        return
    from hakobune.runtime.emulation import ForeignPlatformError, check_can_run

    try:
        check_can_run(planned.platform, name="the stage of this RUN")
    except ForeignPlatformError as error:
        fix = f"{error.fix}, or copy from a stage that runs FROM --platform=$BUILDPLATFORM"
        raise DockerfileError(
            error.what, file=first.at.file, line=first.at.line, why=error.why, fix=fix
        ) from error
