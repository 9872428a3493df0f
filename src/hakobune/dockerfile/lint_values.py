"""Warnings about what comes of variables: base images by their defaults, defaults that use what is not set, ignored sources. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from posixpath import normpath

from hakobune.dockerfile.errors import DockerfileError, TextError
from hakobune.dockerfile.expand import expansion
from hakobune.dockerfile.git_source import is_git
from hakobune.dockerfile.instructions import Add, Arg, Copy, Dockerfile, LintWarning
from hakobune.dockerfile.scope import Scope, global_args, platform_args
from hakobune.dockerfile.substitute import undefined
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference, ReferenceFormatError


def about_default_bases(
    dockerfile: Dockerfile,
    *,
    build_platform: Platform,
    target_platform: Platform,
    given: Mapping[str, str],
) -> Iterator[LintWarning]:
    """Stages whose base image has a name only if somebody passes `--build-arg`, but for what is always *given*."""
    platforms = platform_args(build_platform, target_platform, "")
    try:
        defaults = global_args(dockerfile.meta_args, given, platforms, dockerfile.escape)
    except DockerfileError:
        return  # told where it is
    for stage in dockerfile.stages:
        try:
            name = expansion(stage.base, defaults, dockerfile.escape).text
        except TextError:
            continue
        try:
            Reference.parse(name.lower())
        except ReferenceFormatError:
            yield LintWarning(
                rule="InvalidDefaultArgInFrom",
                message=f"without --build-arg, {stage.base} is {name!r}, which is no image; give its ARG a default",
                at=stage.at,
            )


def about_default_values(
    instruction: Arg, scope: Scope, given: Mapping[str, str], escape: str
) -> Iterator[LintWarning]:
    """Variables in an ARG's defaults that are not set; *scope* is that before it."""
    variables = dict(scope.variables)
    declared = set(scope.declared)
    for one in instruction.variables:
        if one.value is not None and one.key not in given:
            try:
                missing = expansion(one.value, variables, escape).missing
            except TextError:
                return  # told where the value is needed
            for name in sorted(missing - declared):
                yield undefined(name, variables, instruction.at)
        variables.setdefault(one.key, given.get(one.key, one.given))
        declared.add(one.key)


def about_ignored_sources(
    instruction: Copy | Add, reason: Callable[[str], str]
) -> Iterator[LintWarning]:
    """Sources that the ignore file leaves out, so that the step will not find them.

    Args:
        reason: which line leaves a path out; empty if none does.
    """
    if isinstance(instruction, Copy) and instruction.from_:
        return
    for source in instruction.sources:
        if is_git(source) or source.startswith(("http://", "https://")):
            continue
        path = normpath(source.replace("/./", "/")).strip("/")
        if path != "." and (why := reason(path)):
            yield LintWarning(
                rule="CopyIgnoredFile",
                message=f"{instruction.keyword} {source}: {why} leaves it out",
                at=instruction.at,
            )
