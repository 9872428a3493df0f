"""Which stages a target needs, in which order, and what each is made from (pure).

The graph of stages can grow: ONBUILD triggers of a base image, known only once that image is here, may copy from other
stages. Call `plan` again with the triggers then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from msgspec import Struct
from msgspec.structs import replace

from hakobune.dockerfile.errors import DockerfileError, TextError, did_you_mean
from hakobune.dockerfile.expand import expansion
from hakobune.dockerfile.instructions import (
    Copy,
    Dockerfile,
    Instruction,
    LintWarning,
    Onbuild,
    Run,
    Stage,
)
from hakobune.dockerfile.scope import global_args, platform_args
from hakobune.oci.platform import Platform, PlatformError
from hakobune.oci.reference import Reference, ReferenceFormatError

SCRATCH = "scratch"


class StageSource(Struct, frozen=True):
    """An earlier stage of the same file."""

    index: int


class ImageSource(Struct, frozen=True):
    """An image, by the name it has in the file (after expansion)."""

    name: str


class ScratchSource(Struct, frozen=True):
    """Nothing at all."""


class ContextSource(Struct, frozen=True):
    """A named context (`--build-context NAME=…`)."""

    name: str


Source = StageSource | ImageSource | ScratchSource | ContextSource


class PlannedStage(Struct, frozen=True, kw_only=True):
    """A stage that is needed.

    Attributes:
        stage: as written; its `instructions` begin with the ONBUILD triggers of its base.
        base: what it starts from.
        platform: what it is for: FROM's `--platform`, the base stage's, or the target platform.
        sources: what its COPY --from and RUN --mount read, by the name in the file.
        needs: stages that must be finished (base included), ascending.
    """

    stage: Stage
    base: Source
    platform: Platform
    sources: Mapping[str, Source]
    needs: tuple[int, ...]


class Plan(Struct, frozen=True, kw_only=True):
    """What is to be built.

    Attributes:
        stages: all that are needed, each after those it needs; what does not need each other may run at the same time.
        target: index of the stage that is the result.
        global_args: what an ARG without a default takes its value from.
        warnings: about FROM lines; those of the file's text are in `Dockerfile.warnings`.
    """

    stages: tuple[PlannedStage, ...]
    target: int
    global_args: Mapping[str, str]
    warnings: tuple[LintWarning, ...] = ()

    def in_image(self) -> frozenset[int]:
        """The stages whose layers the result has: the target, and what it is built on."""
        bases = {one.stage.index: one.base for one in self.stages}
        found = {self.target}
        base = bases[self.target]
        while isinstance(base, StageSource):
            found.add(base.index)
            base = bases[base.index]
        return frozenset(found)


def plan(
    dockerfile: Dockerfile,
    *,
    target: str = "",
    args: Mapping[str, str],
    build_platform: Platform,
    target_platform: Platform,
    named_contexts: Collection[str] = (),
    triggers: Mapping[int, tuple[Instruction, ...]] | None = None,
) -> Plan:
    """Find the stages that the target needs.

    Args:
        target: name or number of a stage; empty for the last one.
        args: `--build-arg`.
        named_contexts: names that stand for something else than an image or a stage.
        triggers: by stage, what `parse_triggers` made of its base image's ONBUILD.

    Raises:
        DockerfileError: no such target, a stage that comes later or needs itself, a base or platform that is empty or invalid.
    """
    index = find_target(dockerfile, target)
    stage_name = target or dockerfile.stages[index].name
    predefined = platform_args(build_platform, target_platform, stage_name)
    values = global_args(dockerfile.meta_args, args, predefined, dockerfile.escape)
    builder = _Planner(
        dockerfile=dockerfile,
        values=values,
        target_platform=target_platform,
        contexts=frozenset(map(context_key, named_contexts)),
        triggers=triggers or {},
    )
    needed = builder.reach(index)
    stages = tuple(builder.planned(one) for one in sorted(needed))
    warnings = tuple(warning for one in sorted(needed) for warning in builder.warnings(one))
    return Plan(stages=stages, target=index, global_args=values, warnings=warnings)


def context_key(name: str) -> str:
    """A name as contexts are found by: an image's is the short one, `alpine` for `docker.io/library/alpine:latest`."""
    try:
        return Reference.parse(name.lower()).short
    except ReferenceFormatError:
        return name.lower()


def find_target(dockerfile: Dockerfile, target: str) -> int:
    """The stage that `--target` means: the last one of that name, or the one of that number.

    Raises:
        DockerfileError: there is none.
    """
    stages = dockerfile.stages
    if not target:
        return len(stages) - 1
    named = [stage.index for stage in stages if stage.name == target.lower()]
    if named:
        return named[-1]
    if target.isascii() and target.isdecimal() and len(target) < 6 and int(target) < len(stages):
        return int(target)
    names = [stage.name for stage in stages if stage.name]
    raise DockerfileError(
        f"there is no stage {target!r}",
        file=dockerfile.file,
        fix=did_you_mean(target, names)
        or (f"stages are {', '.join(names)}" if names else "write FROM IMAGE AS NAME"),
    )


class _Planner(Struct, kw_only=True):
    """Answers questions about single stages; each is answered only if somebody asks."""

    dockerfile: Dockerfile
    values: Mapping[str, str]
    target_platform: Platform
    contexts: frozenset[str]
    triggers: Mapping[int, tuple[Instruction, ...]]

    def reach(self, target: int) -> set[int]:
        """The target and all stages below it.

        Raises:
            DockerfileError: a stage needs itself, directly or by others, or one that comes later.
        """
        done: set[int] = set()
        path: list[int] = []

        def visit(index: int) -> None:
            if index in done:
                return
            if index in path:
                raise self._cycle(path[path.index(index) :])
            path.append(index)
            for needed in self.needs(index):
                visit(needed)
            path.pop()
            done.add(index)

        visit(target)
        for index in sorted(done):
            self._check_order(index)
        return done

    def planned(self, index: int) -> PlannedStage:
        stage = self.dockerfile.stages[index]
        return PlannedStage(
            stage=replace(stage, instructions=self.instructions(index)),
            base=self.base(index),
            platform=self.platform(index),
            sources={name: source for name, source, _ in self.sources(index)},
            needs=self.needs(index),
        )

    def instructions(self, index: int) -> tuple[Instruction, ...]:
        """Triggers of the base first; none if a context stands in the stage's place."""
        if self._is_replaced(index):
            return ()
        own = self.dockerfile.stages[index].instructions
        base = self.base(index)
        if isinstance(base, StageSource):
            inherited = tuple(
                one.trigger
                for one in self.dockerfile.stages[base.index].instructions
                if isinstance(one, Onbuild)
            )
            return (*inherited, *own)
        return (*self.triggers.get(index, ()), *own)

    def needs(self, index: int) -> tuple[int, ...]:
        base = self.base(index)
        if isinstance(base, ContextSource) and self._is_replaced(index):
            return ()
        found = {base} | {source for _, source, _ in self.sources(index)}
        return tuple(sorted(one.index for one in found if isinstance(one, StageSource)))

    def _is_replaced(self, index: int) -> bool:
        name = self.dockerfile.stages[index].name
        return bool(name) and context_key(name) in self.contexts

    def base(self, index: int) -> Source:
        stage = self.dockerfile.stages[index]
        if self._is_replaced(index):
            return ContextSource(context_key(stage.name))
        name = self._expand(stage.base, stage)
        if not name:
            raise DockerfileError(
                f"the base image {stage.base} is empty",
                file=stage.at.file,
                line=stage.at.line,
                why="the variable in it has no value",
                fix="give the ARG before FROM a default, or pass it with --build-arg",
            )
        for earlier in reversed(self.dockerfile.stages[:index]):
            if earlier.name and earlier.name == name.lower():
                return StageSource(earlier.index)
        if name == SCRATCH:
            return ScratchSource()
        key = context_key(name)
        return ContextSource(key) if key in self.contexts else ImageSource(name)

    def platform(self, index: int) -> Platform:
        stage = self.dockerfile.stages[index]
        base = self.base(index)
        if isinstance(base, StageSource):
            return self.platform(base.index)  # what is in it cannot change its kind
        if not stage.platform:
            return self.target_platform
        text = self._expand(stage.platform, stage)
        try:
            return Platform.parse(text) if "/" in text else self._short_platform(text)
        except PlatformError as error:
            raise DockerfileError(
                f"--platform={stage.platform} is {text!r}, which is not a platform"
                if text != stage.platform
                else f"{text!r} is not a platform",
                file=stage.at.file,
                line=stage.at.line,
                fix="write linux/amd64, for example",
            ) from error

    def _short_platform(self, text: str) -> Platform:
        """`linux` or `arm64` alone: the other half is the target's."""
        if text.lower() in ("linux", "windows", "darwin", "freebsd"):
            return replace_os(self.target_platform, text.lower())
        return Platform.parse(f"{self.target_platform.os}/{text}")

    def sources(self, index: int) -> Iterator[tuple[str, Source, Instruction]]:
        """What COPY --from and mounts name, what it is, and who says so."""
        for instruction in self.instructions(index):
            if isinstance(instruction, Copy) and instruction.from_:
                yield (
                    instruction.from_,
                    self._copy_source(instruction.from_, instruction),
                    instruction,
                )
            elif isinstance(instruction, Run):
                for flag in instruction.mount_flags:
                    if flag.from_:
                        yield flag.from_, self._named(flag.from_), instruction

    def _copy_source(self, name: str, instruction: Instruction) -> Source:
        """A number means a stage, and nothing else."""
        if not (name.isascii() and name.lstrip("+-").isdecimal()):
            return self._named(name)
        count = len(self.dockerfile.stages)
        if len(name) > 9 or not 0 <= int(name) < count:
            raise DockerfileError(
                f"there is no stage {name}",
                file=instruction.at.file,
                line=instruction.at.line,
                fix=f"stages are numbered from 0 to {count - 1}; or use a stage's name",
            )
        return StageSource(int(name))

    def _named(self, name: str) -> Source:
        if (key := context_key(name)) in self.contexts:
            return ContextSource(key)
        for stage in reversed(self.dockerfile.stages):
            if stage.name and stage.name == name.lower():
                return StageSource(stage.index)
        return ScratchSource() if name == SCRATCH else ImageSource(name)

    def _check_order(self, index: int) -> None:
        for name, source, instruction in self.sources(index):
            if isinstance(source, StageSource) and source.index > index:
                label = self.dockerfile.stages[source.index].label
                raise DockerfileError(
                    f"the stage {label!r} comes later than line {instruction.at.line}, which reads from it",
                    file=instruction.at.file,
                    line=instruction.at.line,
                    fix=f"move the stage {name} up, in front of this one",
                )

    def _cycle(self, indexes: list[int]) -> DockerfileError:
        labels = [self.dockerfile.stages[one].label for one in indexes]
        stage = self.dockerfile.stages[indexes[0]]
        following = indexes[1 % len(indexes)]
        line = next(
            (
                instruction.at.line
                for _, source, instruction in self.sources(indexes[0])
                if source == StageSource(following)
            ),
            stage.at.line,
        )
        if len(labels) == 1:
            what = f"the stage {labels[0]!r} reads from itself"
        else:
            what = "these stages need each other: " + " → ".join([*labels, labels[0]])
        return DockerfileError(
            what,
            file=stage.at.file,
            line=line,
            fix="a stage can only read from stages before it",
        )

    def _expand(self, text: str, stage: Stage) -> str:
        try:
            return expansion(text, self.values, self.dockerfile.escape).text
        except TextError as error:
            raise DockerfileError(
                error.problem, file=stage.at.file, line=stage.at.line, fix=error.fix
            ) from error

    def warnings(self, index: int) -> Iterator[LintWarning]:
        """About a stage's FROM line."""
        stage = self.dockerfile.stages[index]
        declared = {one.key for arg in self.dockerfile.meta_args for one in arg.variables}
        for text in filter(None, (stage.base, stage.platform)):
            missing = expansion(text, self.values, self.dockerfile.escape).missing
            for name in sorted(missing - declared):
                hint = did_you_mean(name, self.values)
                yield LintWarning(
                    rule="UndefinedArgInFrom",
                    message=f"FROM uses ${name}, which no ARG before the first FROM declares"
                    + (f"; {hint}" if hint else ""),
                    at=stage.at,
                )
        yield from self._platform_warnings(stage)

    def _platform_warnings(self, stage: Stage) -> Iterator[LintWarning]:
        if not stage.platform:
            return
        found = expansion(stage.platform, self.values, self.dockerfile.escape)
        if found.used == {"TARGETPLATFORM"} and found.text == self.values["TARGETPLATFORM"]:
            yield LintWarning(
                rule="RedundantTargetPlatform",
                message=f"--platform={stage.platform} is what FROM does anyway",
                at=stage.at,
            )
        parts = found.text.split("/")
        if (
            not found.used
            and not found.missing
            and not any(part in stage.name for part in parts[:2])
        ):
            yield LintWarning(
                rule="FromPlatformFlagConstDisallowed",
                message=f"--platform={found.text} ties the stage to one platform",
                at=stage.at,
            )


def replace_os(platform: Platform, os: str) -> Platform:
    """The same CPU under another operating system."""
    return Platform(os, platform.architecture, platform.variant)


def levels(stages: Iterable[PlannedStage]) -> tuple[tuple[PlannedStage, ...], ...]:
    """The stages in groups; each group needs only groups before it, and its members can be built at the same time."""
    depth: dict[int, int] = {}
    groups: list[list[PlannedStage]] = []
    for planned in stages:
        level = max((depth[needed] + 1 for needed in planned.needs), default=0)
        depth[planned.stage.index] = level
        if level == len(groups):
            groups.append([])
        groups[level].append(planned)
    return tuple(tuple(group) for group in groups)
