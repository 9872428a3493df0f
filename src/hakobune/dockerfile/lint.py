"""What is legal in a Dockerfile and still worth saying, named as BuildKit's build checks are.

Rules that need values (undefined variables, base images, the context) are in `graph.py`, `lint_values.py` and `substitute.py`;
`checks.py` knows which are wanted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from hakobune.dockerfile.instructions import (
    Arg,
    Cmd,
    Dockerfile,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Instruction,
    LintWarning,
    Maintainer,
    Position,
    Shell,
    Stage,
    Workdir,
)
from hakobune.dockerfile.lines import LogicalLine
from hakobune.dockerfile.parse_config import is_legacy_pair
from hakobune.dockerfile.ports import split_host
from hakobune.dockerfile.words import split_blanks, split_words

_SECRET = re.compile(
    r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.I
)
_PUBLIC = re.compile(r"(?:_|^)(?:public|file|version)(?:_|$)", re.I)


def lint(dockerfile: Dockerfile, lines: Sequence[LogicalLine]) -> tuple[LintWarning, ...]:
    """All that the text alone can tell, whether it is wanted or not."""
    found: list[LintWarning] = []
    for line in lines:
        found.extend(_about_line(line, dockerfile.escape))
    found.extend(_about_casing(lines))
    names: set[str] = set()
    settled: dict[str, _Settled] = {}
    for stage in dockerfile.stages:
        base = settled.get(stage.base.lower(), _Settled())
        found.extend(_about_stage_name(stage, names))
        names.add(stage.name)
        found.extend(_about_repetition(stage))
        found.extend(_about_shell_form(stage, has_shell=base.shell))
        for instruction in stage.instructions:
            found.extend(_about_instruction(instruction))
        if not base.workdir:
            found.extend(_about_working_dir(stage))
        if stage.name:
            settled[stage.name] = base.after(stage)
    for arg in dockerfile.meta_args:
        found.extend(_about_instruction(arg))
    return tuple(found)


class _Settled(Struct, frozen=True):
    """What a stage hands on to those made from it."""

    shell: bool = False
    workdir: bool = False

    def after(self, stage: Stage) -> _Settled:
        return _Settled(
            self.shell or any(isinstance(one, Shell) for one in stage.instructions),
            self.workdir or any(isinstance(one, Workdir) for one in stage.instructions),
        )


def _about_line(line: LogicalLine, escape: str) -> Iterator[LintWarning]:
    keyword = line.split.keyword.upper()
    if line.empty_line:
        yield LintWarning(
            rule="NoEmptyContinuation",
            message="an empty line within a continued instruction: builders will refuse it one day",
            at=Position(line.at.file, line.empty_line, line.empty_line),
        )
    if keyword in ("ENV", "LABEL") and is_legacy_pair(line.split.rest, escape):
        yield LintWarning(
            rule="LegacyKeyValueFormat",
            message=f'write "{keyword} key=value", not "{keyword} key value"',
            at=line.at,
        )
    if keyword == "FROM":
        yield from _about_from(line)
    if keyword in ("FROM", "ARG"):
        yield from _about_description(line, keyword, escape)


def _about_from(line: LogicalLine) -> Iterator[LintWarning]:
    words = split_blanks(line.split.rest)
    if len(words) != 3:
        return
    if words[2] != words[2].lower():
        yield LintWarning(
            rule="StageNameCasing",
            message=f"the stage name {words[2]!r} should be in lower case",
            at=line.at,
        )
    keyword = line.split.keyword
    for same_case in (str.lower, str.upper):
        if keyword == same_case(keyword) and words[1] != same_case(words[1]):
            yield LintWarning(
                rule="FromAsCasing",
                message=f"{words[1]!r} and {keyword!r} differ in case",
                at=line.at,
            )


def _about_description(line: LogicalLine, keyword: str, escape: str) -> Iterator[LintWarning]:
    if not line.comments or line.comments[-1][0] != line.at.line - 1:
        return
    if keyword == "ARG":
        names = [word.partition("=")[0] for word in split_words(line.split.rest, escape)]
    else:
        names = [words[2].lower()] if len(words := split_blanks(line.split.rest)) == 3 else []
    text = line.comments[-1][1]
    if names and text and text.partition(" ")[0] not in names:
        yield LintWarning(
            rule="InvalidDefinitionDescription",
            message=f"the comment above describes {keyword} {names[0]} if it begins with that name; "
            "else put an empty line between",
            at=line.at,
        )


def _about_casing(lines: Sequence[LogicalLine]) -> Iterator[LintWarning]:
    keywords = [line.split.keyword for line in lines]
    count = Counter("lower" if word.islower() else "upper" for word in keywords if _one_case(word))
    in_lower = count["lower"] > count["upper"]
    for line, word in zip(lines, keywords, strict=True):
        wanted = word.lower() if in_lower else word.upper()
        if word != wanted:
            yield LintWarning(
                rule="ConsistentInstructionCasing",
                message=f"write {wanted}, as most of the file does, not {word}",
                at=line.at,
            )


def _one_case(word: str) -> bool:
    return word in (word.lower(), word.upper())


def _about_stage_name(stage: Stage, earlier: set[str]) -> Iterator[LintWarning]:
    if stage.name and stage.name in earlier:
        yield LintWarning(
            rule="DuplicateStageName",
            message=f"the stage name {stage.name!r} is used twice",
            at=stage.at,
        )
    if stage.name in ("scratch", "context"):
        yield LintWarning(
            rule="ReservedStageName",
            message=f"the stage name {stage.name!r} has a meaning of its own",
            at=stage.at,
        )


def _about_repetition(stage: Stage) -> Iterator[LintWarning]:
    last: dict[str, Position] = {}
    for instruction in stage.instructions:
        if isinstance(instruction, (Cmd, Entrypoint, Healthcheck)):
            keyword = instruction.keyword
            if keyword in last:
                yield LintWarning(
                    rule="MultipleInstructionsDisallowed",
                    message=f"a later {keyword} of this stage replaces this one",
                    at=last[keyword],
                )
            last[keyword] = instruction.at


def _about_shell_form(stage: Stage, *, has_shell: bool) -> Iterator[LintWarning]:
    for instruction in stage.instructions:
        if isinstance(instruction, Shell):
            has_shell = True
        elif (
            isinstance(instruction, (Cmd, Entrypoint))
            and instruction.command.shell
            and not has_shell
        ):
            yield LintWarning(
                rule="JSONArgsRecommended",
                message=f"{instruction.keyword} in shell form: the program does not get the stop signal; "
                f'write {instruction.keyword} ["program", "argument"]',
                at=instruction.at,
            )


def _about_working_dir(stage: Stage) -> Iterator[LintWarning]:
    first = next((one for one in stage.instructions if isinstance(one, Workdir)), None)
    if first is not None and not first.path.lstrip("'\"").startswith(("/", "$")):
        yield LintWarning(
            rule="WorkdirRelativePath",
            message=f"WORKDIR {first.path} depends on the base image's; write an absolute path first",
            at=first.at,
        )


def _about_instruction(instruction: Instruction) -> Iterator[LintWarning]:
    match instruction:
        case Maintainer():
            yield LintWarning(
                rule="MaintainerDeprecated",
                message="MAINTAINER is deprecated; write LABEL org.opencontainers.image.authors=…",
                at=instruction.at,
            )
        case Arg(variables=variables) | Env(variables=variables):
            for pair in variables:
                if _SECRET.search(pair.key) and not _PUBLIC.search(pair.key):
                    yield LintWarning(
                        rule="SecretsUsedInArgOrEnv",
                        message=f"{instruction.keyword} {pair.key} looks like a secret, and it stays in "
                        "the image; use RUN --mount=type=secret",
                        at=instruction.at,
                    )
        case Expose(ports=ports):
            yield from _about_ports(ports, instruction.at)
        case _:
            pass


def _about_ports(ports: Iterable[str], at: Position) -> Iterator[LintWarning]:
    for word in ports:
        if "$" in word:
            continue
        host, port = split_host(word)
        protocol = port.partition("/")[2]
        if protocol != protocol.lower():
            yield LintWarning(
                rule="ExposeProtoCasing",
                message=f"write the protocol of {word} in lower case",
                at=at,
            )
        if host:
            yield LintWarning(
                rule="ExposeInvalidFormat",
                message=f"EXPOSE {word}: only the container's port counts; write EXPOSE {port}",
                at=at,
            )
