"""RUN, CMD, ENTRYPOINT, SHELL and HEALTHCHECK: instructions with a command in shell or exec form."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

from hakobune.dockerfile.duration import read_duration_ns
from hakobune.dockerfile.errors import TextError, did_you_mean
from hakobune.dockerfile.flags import FlagKind, Flags, read_flags
from hakobune.dockerfile.instructions import (
    Cmd,
    CommandLine,
    Entrypoint,
    Healthcheck,
    Network,
    Run,
    Security,
    Shell,
)
from hakobune.dockerfile.lines import LogicalLine
from hakobune.dockerfile.mount import read_mount_flag
from hakobune.dockerfile.words import read_json_words

_RUN_FLAGS = {
    "mount": FlagKind.TEXTS,
    "network": FlagKind.TEXT,
    "security": FlagKind.TEXT,
    "device": FlagKind.TEXTS,
}
_HEALTH_FLAGS = {
    "interval": FlagKind.TEXT,
    "timeout": FlagKind.TEXT,
    "start-period": FlagKind.TEXT,
    "start-interval": FlagKind.TEXT,
    "retries": FlagKind.TEXT,
}
_MILLISECOND_NS = 1_000_000

_Choice = TypeVar("_Choice", bound=StrEnum)


def read_command(line: LogicalLine) -> CommandLine:
    """The exec form if the rest is a JSON array of strings, else the shell form."""
    words = read_json_words(line.split.rest)
    if words is not None:
        return CommandLine(words=words, shell=False)
    rest = line.split.rest
    return CommandLine(words=(rest,) if rest else (), shell=True, heredocs=line.heredocs)


def read_run(line: LogicalLine, escape: str) -> Run:
    flags = read_flags(line.split.flags, _RUN_FLAGS, "RUN")
    return Run(
        at=line.at,
        text=line.text,
        command=read_command(line),
        mount_flags=tuple(read_mount_flag(text) for text in flags.texts("mount")),
        network=_read_choice(flags, "network", Network) if flags.given("network") else None,
        security=_read_choice(flags, "security", Security) if flags.given("security") else None,
        devices=flags.texts("device"),
    )


def _read_choice(flags: Flags, name: str, kind: type[_Choice]) -> _Choice:
    value = flags.text(name)
    try:
        return kind(value)
    except ValueError:
        raise TextError(
            f"unknown {name} {value!r}",
            near=value,
            fix=did_you_mean(value, kind) or "it is one of " + ", ".join(kind),
        ) from None


def read_cmd(line: LogicalLine, escape: str) -> Cmd:
    read_flags(line.split.flags, {}, "CMD")
    return Cmd(at=line.at, text=line.text, command=read_command(line))


def read_entrypoint(line: LogicalLine, escape: str) -> Entrypoint:
    read_flags(line.split.flags, {}, "ENTRYPOINT")
    return Entrypoint(at=line.at, text=line.text, command=read_command(line))


def read_shell(line: LogicalLine, escape: str) -> Shell:
    read_flags(line.split.flags, {}, "SHELL")
    words = read_json_words(line.split.rest)
    if not words:
        raise TextError(
            "SHELL needs a JSON array of strings",
            near=line.split.rest,
            fix='write SHELL ["/bin/bash", "-c"]',
        )
    return Shell(at=line.at, text=line.text, words=words)


def read_healthcheck(line: LogicalLine, escape: str) -> Healthcheck:
    kind, _, rest = _first_word(line.split.rest)
    match kind.upper():
        case "NONE":
            if rest:
                raise TextError(
                    "HEALTHCHECK NONE takes nothing else", near=rest, fix="delete the rest"
                )
            return Healthcheck(at=line.at, text=line.text, test=("NONE",))
        case "CMD":
            flags = read_flags(line.split.flags, _HEALTH_FLAGS, "HEALTHCHECK")
            return _read_health_command(line, rest, flags)
        case "":
            raise TextError("HEALTHCHECK needs CMD or NONE", fix="write HEALTHCHECK CMD command")
        case _:
            raise TextError(
                f"HEALTHCHECK needs CMD or NONE, not {kind}",
                near=kind,
                fix=f"write HEALTHCHECK CMD {line.split.rest}",
            )


def _first_word(text: str) -> tuple[str, str, str]:
    word = text.split(maxsplit=1)[0] if text.strip() else ""
    return word, " ", text[len(word) :].strip()


def _read_health_command(line: LogicalLine, rest: str, flags: Flags) -> Healthcheck:
    words = read_json_words(rest)
    test = ("CMD-SHELL", rest) if words is None else ("CMD", *words)
    if not rest or words == ():
        raise TextError("HEALTHCHECK CMD has no command", fix="write HEALTHCHECK CMD command")
    return Healthcheck(
        at=line.at,
        text=line.text,
        test=test,
        interval_ns=_read_interval(flags, "interval"),
        timeout_ns=_read_interval(flags, "timeout"),
        start_period_ns=_read_interval(flags, "start-period"),
        start_interval_ns=_read_interval(flags, "start-interval"),
        retries=_read_retries(flags.text("retries")),
    )


def _read_interval(flags: Flags, name: str) -> int:
    text = flags.text(name)
    if not text:
        return 0
    duration = read_duration_ns(text)
    if duration and duration < _MILLISECOND_NS:
        raise TextError(
            f"--{name} is at least 1ms, not {text}", near=f"--{name}", fix=f"write --{name}=30s"
        )
    return duration


def _read_retries(text: str) -> int:
    if not text:
        return 0
    digits = text.removeprefix("+")
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > 20 or int(digits) >= 2**31:
        raise TextError(
            f"--retries is a number from 0 up, not {text}", near=text, fix="write --retries=3"
        )
    return int(digits)
