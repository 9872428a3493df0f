"""Going through all instructions without carrying them out (pure): a wrong value in the last line is told before the first step runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from hakobune.dockerfile.errors import DockerfileError
from hakobune.dockerfile.graph import Plan, PlannedStage, StageSource
from hakobune.dockerfile.instructions import Arg, Dockerfile, Env, LintWarning
from hakobune.dockerfile.lint import Checks
from hakobune.dockerfile.scope import Scope
from hakobune.dockerfile.substitute import substitute


def rehearse(
    plan: Plan,
    environment_of: Callable[[PlannedStage], Iterable[str]],
    args: Mapping[str, str],
    escape: str,
) -> tuple[LintWarning, ...]:
    """Put the variables into every instruction of every needed stage; gives what is said about those without a value.

    Args:
        environment_of: `NAME=value`s that a stage starts with which is made from no other stage.
        args: `--build-arg`.

    Raises:
        DockerfileError: a value that does not fit, anywhere.
    """
    warnings: list[LintWarning] = []
    scopes: dict[int, Scope] = {}
    environments: dict[int, dict[str, str]] = {}
    for planned in plan.stages:
        index = planned.stage.index
        if isinstance(planned.base, StageSource):
            environment = dict(environments[planned.base.index])
            entries = [f"{name}={value}" for name, value in environment.items()]
            scope = Scope.of_base(entries, scopes[planned.base.index])
        else:
            entries = list(environment_of(planned))
            scope = Scope.of_base(entries)
            environment = dict(scope.variables)
        for instruction in planned.stage.instructions:
            if isinstance(instruction, Arg):
                scope = scope.with_args(instruction, args, plan.global_args, escape)
                continue
            found = substitute(instruction, scope.variables, escape, declared=scope.declared)
            warnings += found.warnings
            if isinstance(found.instruction, Env):
                scope = scope.with_env(found.instruction.variables)
                environment |= {pair.key: pair.given for pair in found.instruction.variables}
        scopes[index], environments[index] = scope, environment
    return tuple(warnings)


def all_warnings(
    dockerfile: Dockerfile, plan: Plan, rehearsed: Iterable[LintWarning]
) -> tuple[LintWarning, ...]:
    """Everything worth saying before a build, by line.

    Raises:
        DockerfileError: there is something, and `# check=error=true` wants none.
    """
    checks = Checks.from_directives(dockerfile.directives)
    warnings = checks.wanted([*dockerfile.warnings, *plan.warnings, *rehearsed])
    if checks.error and warnings:
        first = warnings[0]
        raise DockerfileError(
            f"{first.message} ({first.rule})",
            file=dockerfile.file,
            line=first.at.line,
            why=f"# check=error=true: {len(warnings)} warnings are {len(warnings)} too many"
            if len(warnings) > 1
            else "# check=error=true: no warning may be left",
            fix="mend it, or write # check=skip=RULE,…;error=true",
        )
    return warnings
