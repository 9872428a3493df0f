"""Where each instruction replaces variables, and what is checked once they have values (Dockerfile reference "Environment replacement").

ADD, COPY (not `--from`), ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR and the options of `RUN --mount` do; CMD, ENTRYPOINT,
RUN, SHELL, HEALTHCHECK and MAINTAINER do not; ARG does when it is declared (`scope.py`), ONBUILD in the build that uses the image.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from hakobune.dockerfile.errors import DockerfileError, TextError, did_you_mean
from hakobune.dockerfile.expand import expansion
from hakobune.dockerfile.file_mode import FileMode
from hakobune.dockerfile.git_source import is_git, read_git_source, with_flags
from hakobune.dockerfile.instructions import (
    Add,
    Copy,
    Env,
    Expose,
    Heredoc,
    Instruction,
    KeyValue,
    Label,
    LintWarning,
    Position,
    Run,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from hakobune.dockerfile.mount import read_mount
from hakobune.dockerfile.ports import read_ports
from hakobune.dockerfile.stop_signal import signal_number

_DIGEST = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[0-9a-fA-F]{32,}")
_COMMIT = re.compile(r"[0-9a-fA-F]{40}(?:[0-9a-fA-F]{24})?")


class Substituted(Struct, frozen=True):
    """An instruction with its values.

    Attributes:
        instruction: of the same class; variables, quotes and escapes are gone.
        used: names of variables whose values went in.
        warnings: variables that have no value.
    """

    instruction: Instruction
    used: frozenset[str]
    warnings: tuple[LintWarning, ...]


def substitute(
    instruction: Instruction,
    variables: Mapping[str, str],
    escape: str = "\\",
    *,
    declared: frozenset[str] = frozenset(),
) -> Substituted:
    """Replace variables wherever this instruction does.

    Args:
        variables: what is set at this point (`Scope.variables`).
        escape: the file's escape character.
        declared: names of ARGs without a value, which are not worth a warning.

    Raises:
        DockerfileError: a value that does not fit: an open quote, a port that is none, a mode, a signal …
    """
    words = _Words(variables, escape)
    try:
        result = _substitute(instruction, words)
    except TextError as error:
        raise DockerfileError(
            error.problem, file=instruction.at.file, line=instruction.at.line, fix=error.fix
        ) from error
    missing = sorted(words.missing - declared)
    warnings = tuple(undefined(name, variables, instruction.at) for name in missing)
    return Substituted(result, frozenset(words.used), warnings)


def undefined(name: str, variables: Iterable[str], at: Position) -> LintWarning:
    """That *name* is used at that place and has no value."""
    parts = (f"${name} is not set;", did_you_mean(name, variables))
    return LintWarning(
        rule="UndefinedVar", message=" ".join(filter(None, parts)).rstrip(";"), at=at
    )


class _Words(Struct):
    """Expands words and remembers which variables they asked for."""

    variables: Mapping[str, str]
    escape: str
    used: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)

    def one(self, text: str) -> str:
        found = expansion(text, self.variables, self.escape)
        self.used |= found.used
        self.missing |= found.missing
        return found.text

    def many(self, text: str) -> tuple[str, ...]:
        found = expansion(text, self.variables, self.escape)
        self.used |= found.used
        self.missing |= found.missing
        return found.words

    def body(self, heredoc: Heredoc) -> Heredoc:
        """A file's text: quotes mean nothing in it, and the escape is always a backslash."""
        if not heredoc.expand:
            return replace(heredoc, content=heredoc.text, strip_tabs=False)
        found = expansion(heredoc.text, self.variables, quotes_are_text=True)
        self.used |= found.used
        self.missing |= found.missing
        return replace(heredoc, content=found.text, strip_tabs=False)


def _substitute(instruction: Instruction, words: _Words) -> Instruction:
    one = words.one
    match instruction:
        case Copy() | Add():
            return _substitute_transfer(instruction, words)
        case Run():
            return replace(
                instruction, mounts=tuple(read_mount(flag, one) for flag in instruction.mount_flags)
            )
        case Env():
            return replace(instruction, variables=_pairs(instruction.variables, one))
        case Label():
            return replace(instruction, labels=_pairs(instruction.labels, one))
        case Workdir():
            return replace(instruction, path=one(instruction.path))
        case User():
            return replace(instruction, user=one(instruction.user))
        case Volume():
            return _substitute_volume(instruction, one)
        case Expose():
            ports = [port for word in instruction.ports for port in words.many(word)]
            return replace(instruction, ports=read_ports(ports))
        case Stopsignal():
            signal = one(instruction.signal)
            signal_number(signal)
            return replace(instruction, signal=signal)
        case _:
            return instruction


def _pairs(pairs: tuple[KeyValue, ...], one: Callable[[str], str]) -> tuple[KeyValue, ...]:
    return tuple(KeyValue(one(pair.key), one(pair.given)) for pair in pairs)


def _substitute_volume(instruction: Volume, one: Callable[[str], str]) -> Volume:
    paths = tuple(one(path) for path in instruction.paths)
    if not all(paths):
        raise TextError("VOLUME has an empty path", fix="give the variable a value")
    return replace(instruction, paths=paths)


def _substitute_transfer(instruction: Copy | Add, words: _Words) -> Copy | Add:
    one = words.one
    changed = replace(
        instruction,
        chown=one(instruction.chown),
        chmod=one(instruction.chmod),
        sources=tuple(one(source) for source in instruction.sources),
        destination=one(instruction.destination),
        files=tuple(words.body(heredoc) for heredoc in instruction.files),
    )
    if changed.chmod:
        FileMode.parse(changed.chmod)
    if isinstance(changed, Copy):
        _check_copy(changed)
        return changed
    changed = replace(changed, checksum=one(changed.checksum))
    _check_checksum(changed)
    for source in filter(is_git, changed.sources):
        with_flags(read_git_source(source), changed.checksum, changed.keep_git_dir)
    return changed


def is_url(source: str) -> bool:
    """Whether ADD downloads it."""
    return source.startswith(("http://", "https://")) and not is_git(source)


def _check_copy(instruction: Copy) -> None:
    for source in instruction.sources:
        if source.startswith(("http://", "https://")) or is_git(source):
            raise TextError(
                f"COPY cannot fetch {source}",
                near=source,
                fix=f"write ADD {source} {instruction.destination}",
            )


def _check_checksum(instruction: Add) -> None:
    if not instruction.checksum:
        return
    if len(instruction.sources) != 1 or instruction.files:
        raise TextError("ADD --checksum is for one source", fix="write an ADD for each")
    source = instruction.sources[0]
    if is_git(source):
        if not _COMMIT.fullmatch(instruction.checksum):
            raise TextError(
                f"{instruction.checksum!r} is not a commit", fix="write the commit's full hash"
            )
    elif not is_url(source):
        raise TextError(
            "ADD --checksum is for URLs and git repositories",
            fix="leave it out: local files are part of the cache key anyway",
        )
    elif not _DIGEST.fullmatch(instruction.checksum):
        raise TextError(
            f"{instruction.checksum!r} is not a checksum", fix="write --checksum=sha256:HEX"
        )
