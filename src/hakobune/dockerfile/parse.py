"""Text → Dockerfile: every instruction with its position, every mistake with file, line and a likely fix.

The language is that of BuildKit's stable frontend (Dockerfile reference). One thing is stricter here: the instruction behind
ONBUILD is checked where it is written, not first in the build that uses the image.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from hakobune.dockerfile.errors import DockerfileError, TextError, did_you_mean
from hakobune.dockerfile.flags import FlagKind, read_flags
from hakobune.dockerfile.instructions import (
    Arg,
    Dockerfile,
    Instruction,
    Onbuild,
    Stage,
)
from hakobune.dockerfile.lines import LineReader, LogicalLine
from hakobune.dockerfile.lint import lint
from hakobune.dockerfile.parse_command import (
    read_cmd,
    read_entrypoint,
    read_healthcheck,
    read_run,
    read_shell,
)
from hakobune.dockerfile.parse_config import (
    read_arg,
    read_env,
    read_expose,
    read_label,
    read_maintainer,
    read_stopsignal,
    read_user,
    read_volume,
    read_workdir,
)
from hakobune.dockerfile.parse_transfer import read_add, read_copy
from hakobune.dockerfile.words import split_blanks, split_line

_STAGE_NAME = re.compile(r"[a-z][a-z0-9-_.]*")


def parse(text: str, file: str) -> Dockerfile:
    """Read a whole Dockerfile.

    Args:
        text: its content (see `decode` for bytes).
        file: its name, as messages are to show it.

    Raises:
        DockerfileError: at the first mistake.
    """
    reader = LineReader(text, file)
    meta_args: list[Arg] = []
    stages: list[Stage] = []
    lines: list[LogicalLine] = []
    for line in reader:
        lines.append(line)
        escape = reader.directives.escape
        try:
            if line.split.keyword.upper() == "FROM":
                stages.append(_read_stage(line, len(stages)))
                continue
            instruction = read_instruction(line, escape)
            if stages:
                stages[-1] = _with_instruction(stages[-1], instruction)
            elif isinstance(instruction, Arg):
                meta_args.append(instruction)
            else:
                raise TextError(
                    f"{instruction.keyword} stands before the first FROM",
                    near=line.split.keyword,
                    fix="begin with FROM IMAGE; only ARG may stand in front of it",
                )
        except TextError as error:
            raise reader.locate(error, line.at) from error
    if not stages:
        raise DockerfileError(
            "there is no FROM in it" if lines else "there is no instruction in it",
            file=file,
            fix="begin with FROM IMAGE",
        )
    dockerfile = Dockerfile(
        file=file,
        directives=reader.directives.found,
        escape=reader.directives.escape,
        meta_args=tuple(meta_args),
        stages=tuple(stages),
    )
    line_checks = {
        line.at.line: text.removeprefix("check=").partition(" ")[0]
        for line in lines
        for _, text in line.comments
        if text.startswith("check=")
    }
    dockerfile = replace(dockerfile, line_checks=line_checks)
    return replace(dockerfile, warnings=lint(dockerfile, lines))


def decode(data: bytes, file: str) -> str:
    """A Dockerfile's bytes as text.

    Raises:
        DockerfileError: it is not UTF-8.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise DockerfileError(
            "it is not UTF-8 text",
            file=file,
            line=data.count(b"\n", 0, error.start) + 1,
            fix="save it as UTF-8",
        ) from error


def parse_triggers(expressions: Iterable[str], stage: Stage, image: str) -> tuple[Instruction, ...]:
    """The ONBUILD triggers of a base image as instructions of the stage; they stand where its FROM stands.

    Args:
        expressions: `OnBuild` of the image's configuration, in order.
        image: how messages call the base image.

    Raises:
        DockerfileError: a trigger that is no single instruction, or not allowed as one.
    """
    instructions: list[Instruction] = []
    for expression in expressions:
        try:
            reader = LineReader(expression, stage.at.file)
            lines = list(reader)
            if len(lines) != 1:
                raise TextError("it is not one instruction")
            line = replace(lines[0], at=stage.at)
            _check_trigger(line.split.keyword)
            instructions.append(read_instruction(line, reader.directives.escape))
        except (TextError, DockerfileError) as error:
            raise DockerfileError(
                f"the base image {image} has an ONBUILD trigger that cannot be used: {error.problem}",
                file=stage.at.file,
                line=stage.at.line,
                why=f"its trigger is: {expression}",
                fix="use another base image, or build that one anew",
            ) from error
    return tuple(instructions)


def _with_instruction(stage: Stage, instruction: Instruction) -> Stage:
    return replace(stage, instructions=(*stage.instructions, instruction))


def _read_stage(line: LogicalLine, index: int) -> Stage:
    words = split_blanks(line.split.rest)
    name = ""
    if len(words) == 3 and words[1].upper() == "AS":
        name = words[2].lower()
        if not _STAGE_NAME.fullmatch(name):
            raise TextError(
                f"{words[2]!r} cannot name a stage",
                near=words[2],
                fix="begin with a letter; go on with letters, digits, - _ and .",
            )
    elif len(words) != 1:
        raise TextError(
            "FROM needs an image, and may give the stage a name",
            near=line.split.rest,
            fix=f"write FROM {words[0]} AS {words[1]}"
            if len(words) == 2 and words[1] != "as" and _STAGE_NAME.fullmatch(words[1])
            else "write FROM IMAGE or FROM IMAGE AS NAME",
        )
    flags = read_flags(line.split.flags, {"platform": FlagKind.TEXT}, "FROM")
    return Stage(
        index=index,
        name=name,
        base=words[0],
        platform=flags.text("platform"),
        at=line.at,
        text=line.text,
        instructions=(),
    )


def read_instruction(line: LogicalLine, escape: str) -> Instruction:
    """One instruction that is not FROM.

    Raises:
        TextError: unknown, or not as it should be.
    """
    keyword = line.split.keyword
    read = _READERS.get(keyword.upper())
    if read is None:
        raise TextError(
            f"{keyword or 'an empty line'}: unknown instruction",
            near=keyword,
            fix=did_you_mean(keyword, [*_READERS, "FROM"])
            or "instructions are " + ", ".join(sorted([*_READERS, "FROM"])),
        )
    return read(line, escape)


def _read_onbuild(line: LogicalLine, escape: str) -> Onbuild:
    read_flags(line.split.flags, {}, "ONBUILD")
    if not line.split.rest:
        raise TextError("ONBUILD needs an instruction", fix="write ONBUILD RUN command")
    inner = split_line(line.split.rest, escape)
    _check_trigger(inner.keyword)
    expression = "".join(
        [line.split.rest, *(f"\n{heredoc.content}{heredoc.name}" for heredoc in line.heredocs)]
    )
    trigger = read_instruction(replace(line, text=line.split.rest, split=inner), escape)
    return Onbuild(at=line.at, text=line.text, expression=expression, trigger=trigger)


def _check_trigger(keyword: str) -> None:
    if keyword.upper() in ("ONBUILD", "FROM", "MAINTAINER"):
        raise TextError(
            f"{keyword.upper()} cannot stand behind ONBUILD",
            near=keyword,
            fix="any other instruction can",
        )


_Reader = Callable[[LogicalLine, str], Instruction]
_READERS: dict[str, _Reader] = {
    "ADD": read_add,
    "ARG": read_arg,
    "CMD": read_cmd,
    "COPY": read_copy,
    "ENTRYPOINT": read_entrypoint,
    "ENV": read_env,
    "EXPOSE": read_expose,
    "HEALTHCHECK": read_healthcheck,
    "LABEL": read_label,
    "MAINTAINER": read_maintainer,
    "ONBUILD": _read_onbuild,
    "RUN": read_run,
    "SHELL": read_shell,
    "STOPSIGNAL": read_stopsignal,
    "USER": read_user,
    "VOLUME": read_volume,
    "WORKDIR": read_workdir,
}
