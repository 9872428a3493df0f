"""Going through all instructions without carrying them out (pure): a wrong value in the last line is told before the first step runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from hakobune.dockerfile.checks import Checks, wanted
from hakobune.dockerfile.errors import DockerfileError
from hakobune.dockerfile.graph import Plan, PlannedStage, StageSource
from hakobune.dockerfile.instructions import Add, Arg, Copy, Dockerfile, Env, LintWarning
from hakobune.dockerfile.lint_values import (
    about_default_bases,
    about_default_values,
    about_ignored_sources,
)
from hakobune.dockerfile.scope import Scope
from hakobune.dockerfile.substitute import substitute
from hakobune.oci.platform import Platform


def rehearse(
    plan: Plan,
    environment_of: Callable[[PlannedStage], Iterable[str] | None],
    args: Mapping[str, str],
    escape: str,
    *,
    left_out: Callable[[str], str] = lambda path: "",
) -> tuple[LintWarning, ...]:
    """Put the variables into every instruction of every needed stage; gives what is said about those without a value.

    Args:
        environment_of: `NAME=value`s that a stage starts with which is made from no other stage; `None` if nobody knows them.
        args: `--build-arg`.
        left_out: which line of an ignore file leaves a path of the context out; empty if none does.

    Raises:
        DockerfileError: a value that does not fit, anywhere.
    """
    warnings: list[LintWarning] = []
    scopes: dict[int, Scope] = {}
    environments: dict[int, dict[str, str]] = {}
    unknown: set[int] = set()
    for planned in plan.stages:
        index = planned.stage.index
        if isinstance(planned.base, StageSource):
            environment = dict(environments[planned.base.index])
            entries = [f"{name}={value}" for name, value in environment.items()]
            scope = Scope.of_base(entries, scopes[planned.base.index])
            unknown |= {index} if planned.base.index in unknown else set()
        else:
            given = environment_of(planned)
            unknown |= {index} if given is None else set()
            scope = Scope.of_base(given or ())
            environment = dict(scope.variables)
        for instruction in planned.stage.instructions:
            if isinstance(instruction, Arg):
                about = (
                    ()
                    if index in unknown
                    else about_default_values(instruction, scope, args, escape)
                )
                warnings += about
                scope = scope.with_args(instruction, args, plan.global_args, escape)
                continue
            found = substitute(instruction, scope.variables, escape, declared=scope.declared)
            warnings += () if index in unknown else found.warnings
            if isinstance(found.instruction, Copy | Add):
                warnings += about_ignored_sources(found.instruction, left_out)
            if isinstance(found.instruction, Env):
                scope = scope.with_env(found.instruction.variables)
                environment |= {pair.key: pair.given for pair in found.instruction.variables}
        scopes[index], environments[index] = scope, environment
    return tuple(warnings)


def all_warnings(
    dockerfile: Dockerfile,
    plan: Plan,
    rehearsed: Iterable[LintWarning],
    *,
    platform: Platform,
    given: Mapping[str, str] = MappingProxyType({}),
) -> tuple[LintWarning, ...]:
    """Everything worth saying about a build, by line, without what the file's checks skip.

    Args:
        platform: that the build is for.
        given: build arguments that no build of the file goes without.

    Raises:
        DockerfileError: there is something, and `# check=error=true` wants none.
    """
    bases = about_default_bases(
        dockerfile,
        build_platform=Platform.host(),
        target_platform=platform,
        given=given,
    )
    found = [*dockerfile.warnings, *plan.warnings, *rehearsed, *bases]
    warnings = wanted(dockerfile, found)
    if Checks.of(dockerfile.directives).error and warnings:
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
