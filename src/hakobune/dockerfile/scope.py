"""Which variables exist where: ARGs before FROM, in a stage, predefined and platform ones (Dockerfile reference "Scope", "ARG")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from hakobune.dockerfile.errors import DockerfileError, TextError
from hakobune.dockerfile.expand import expand
from hakobune.dockerfile.instructions import Arg, KeyValue
from hakobune.oci.platform import Platform

PROXY_ARGS = frozenset(
    name
    for upper in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (upper, upper.lower())
)


def platform_args(build: Platform, target: Platform, target_stage: str) -> dict[str, str]:
    """The platform ARGs of the global scope (Dockerfile reference "Automatic platform ARGs in the global scope").

    Args:
        target_stage: name of the stage that is asked for; `default` if none is named.
    """
    return {
        "BUILDPLATFORM": str(build),
        "BUILDOS": build.os,
        "BUILDOSVERSION": "",
        "BUILDARCH": build.architecture,
        "BUILDVARIANT": build.variant,
        "TARGETPLATFORM": str(target),
        "TARGETOS": target.os,
        "TARGETOSVERSION": "",
        "TARGETARCH": target.architecture,
        "TARGETVARIANT": target.variant,
        "TARGETSTAGE": target_stage or "default",
    }


def global_args(
    meta_args: Iterable[Arg],
    given: Mapping[str, str],
    predefined: Mapping[str, str],
    escape: str = "\\",
) -> dict[str, str]:
    """The global scope: what FROM lines see, and what an ARG without a default takes its value from.

    Args:
        meta_args: ARGs before the first FROM.
        given: `--build-arg`, which wins over defaults and platform ARGs.
        predefined: of `platform_args`.

    Raises:
        DockerfileError: a default that cannot be expanded.
    """
    values = {name: given.get(name, value) for name, value in predefined.items()}
    for arg in meta_args:
        for variable in arg.variables:
            if variable.key in given:
                values[variable.key] = given[variable.key]
            elif variable.value is not None:
                values[variable.key] = _expand_default(variable.value, values, escape, arg)
    return values


def proxy_environment(given: Mapping[str, str]) -> dict[str, str]:
    """Proxies among the build args: RUN sees them as they are and in the other case, no image, history or cache key does."""
    environment: dict[str, str] = {}
    for name in sorted(PROXY_ARGS & given.keys()):
        environment[name.upper()] = environment[name.lower()] = given[name]
    return environment


class Scope(Struct, frozen=True):
    """The variables at one point of a stage.

    Attributes:
        variables: what `$x` gives and what RUN's environment holds: ENV and ARG, the later one wins.
        args: ARGs declared so far, with the value they got (None: no value), in order; a stage made FROM this one has them, too.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    args: tuple[KeyValue, ...] = ()

    @classmethod
    def of_base(cls, environment: Iterable[str], base: Scope | None = None) -> Scope:
        """At the start of a stage: the base's `NAME=value`s (ENV), over all that a base stage had at its end."""
        variables = dict(base.variables) if base else {}
        for entry in environment:
            name, _, value = entry.partition("=")
            variables[name] = value
        return cls(variables, base.args if base else ())

    @property
    def declared(self) -> frozenset[str]:
        """Names of all ARGs, with a value or without."""
        return frozenset(arg.key for arg in self.args)

    @property
    def arg_values(self) -> dict[str, str]:
        """What each declared ARG stands for now (an ENV may have changed it); no value: empty. For history and cache keys."""
        return {arg.key: self.variables.get(arg.key, arg.given) for arg in self.args}

    def with_env(self, pairs: Iterable[KeyValue]) -> Scope:
        """After ENV, with its values substituted."""
        return replace(self, variables={**self.variables, **{p.key: p.given for p in pairs}})

    def with_args(
        self,
        arg: Arg,
        given: Mapping[str, str],
        global_values: Mapping[str, str],
        escape: str = "\\",
    ) -> Scope:
        """After ARG: a build arg wins over the default, the default over the global scope.

        Raises:
            DockerfileError: a default that cannot be expanded.
        """
        scope = self
        for variable in arg.variables:
            value: str | None
            if variable.key in given:
                value = given[variable.key]
            elif variable.value is not None:
                value = _expand_default(variable.value, scope.variables, escape, arg)
            else:
                value = global_values.get(variable.key)
            variables = scope.variables
            if value is not None:
                variables = {**variables, variable.key: value}
            scope = Scope(variables, (*scope.args, KeyValue(variable.key, value)))
        return scope


def _expand_default(text: str, variables: Mapping[str, str], escape: str, arg: Arg) -> str:
    try:
        return expand(text, variables, escape)
    except TextError as error:
        raise DockerfileError(
            error.problem, file=arg.at.file, line=arg.at.line, fix=error.fix
        ) from error
