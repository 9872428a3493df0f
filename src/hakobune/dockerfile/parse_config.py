"""Instructions that only say something about the image: ENV, LABEL, ARG, USER, WORKDIR, EXPOSE, VOLUME, STOPSIGNAL, MAINTAINER."""

from __future__ import annotations

from hakobune.dockerfile.errors import TextError
from hakobune.dockerfile.flags import read_flags
from hakobune.dockerfile.instructions import (
    Arg,
    Env,
    Expose,
    KeyValue,
    Label,
    Maintainer,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from hakobune.dockerfile.lines import LogicalLine
from hakobune.dockerfile.words import BLANKS, read_json_words, split_blanks, split_words


def read_env(line: LogicalLine, escape: str) -> Env:
    return Env(at=line.at, text=line.text, variables=_read_pairs(line, escape, "ENV"))


def read_label(line: LogicalLine, escape: str) -> Label:
    return Label(at=line.at, text=line.text, labels=_read_pairs(line, escape, "LABEL"))


def is_legacy_pair(text: str, escape: str) -> bool:
    """Whether ENV's or LABEL's arguments are `key value` instead of `key=value`."""
    words = split_words(text, escape)
    return bool(words) and "=" not in words[0]


def _read_pairs(line: LogicalLine, escape: str, keyword: str) -> tuple[KeyValue, ...]:
    read_flags(line.split.flags, {}, keyword)
    rest = line.split.rest
    words = split_words(rest, escape)
    if not words:
        raise TextError(f"{keyword} needs a key and a value", fix=f"write {keyword} KEY=value")
    if is_legacy_pair(rest, escape):
        key, *value = BLANKS.split(rest, maxsplit=1)
        if not value:
            raise TextError(
                f"{keyword} {key} has no value", near=key, fix=f"write {keyword} {key}=value"
            )
        return (_pair(key, value[0], keyword),)
    pairs: list[KeyValue] = []
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise TextError(
                f"{keyword} expects KEY=value, not {word}",
                near=word,
                fix="put a value with blanks in double quotes",
            )
        pairs.append(_pair(key, text, keyword))
    return tuple(pairs)


def _pair(key: str, value: str, keyword: str) -> KeyValue:
    if not key:
        raise TextError(
            f"{keyword} ={value} has no name", near=f"={value}", fix=f"write {keyword} KEY={value}"
        )
    return KeyValue(key, value)


def read_arg(line: LogicalLine, escape: str) -> Arg:
    words = split_words(line.split.rest, escape)
    if not words:
        raise TextError("ARG needs a name", fix="write ARG NAME or ARG NAME=default")
    variables: list[KeyValue] = []
    for word in words:
        key, equals, value = word.partition("=")
        variables.append(_pair(key, value, "ARG") if equals else KeyValue(key, None))
    return Arg(at=line.at, text=line.text, variables=tuple(variables))


def _one_argument(line: LogicalLine, keyword: str, example: str) -> str:
    if not line.split.rest:
        raise TextError(f"{keyword} needs a value", fix=f"write {keyword} {example}")
    return line.split.rest


def read_user(line: LogicalLine, escape: str) -> User:
    read_flags(line.split.flags, {}, "USER")
    return User(at=line.at, text=line.text, user=_one_argument(line, "USER", "name"))


def read_workdir(line: LogicalLine, escape: str) -> Workdir:
    read_flags(line.split.flags, {}, "WORKDIR")
    return Workdir(at=line.at, text=line.text, path=_one_argument(line, "WORKDIR", "/app"))


def read_maintainer(line: LogicalLine, escape: str) -> Maintainer:
    read_flags(line.split.flags, {}, "MAINTAINER")
    return Maintainer(at=line.at, text=line.text, name=_one_argument(line, "MAINTAINER", "name"))


def read_stopsignal(line: LogicalLine, escape: str) -> Stopsignal:
    return Stopsignal(
        at=line.at, text=line.text, signal=_one_argument(line, "STOPSIGNAL", "SIGTERM")
    )


def read_expose(line: LogicalLine, escape: str) -> Expose:
    read_flags(line.split.flags, {}, "EXPOSE")
    ports = split_blanks(line.split.rest)
    if not ports:
        raise TextError("EXPOSE needs a port", fix="write EXPOSE 8080")
    return Expose(at=line.at, text=line.text, ports=tuple(sorted(ports)))


def read_volume(line: LogicalLine, escape: str) -> Volume:
    read_flags(line.split.flags, {}, "VOLUME")
    json_words = read_json_words(line.split.rest)
    words = split_blanks(line.split.rest) if json_words is None else json_words
    paths = tuple(word.strip() for word in words)
    if not all(paths) or not paths:
        raise TextError("VOLUME needs a path", near=line.split.rest, fix="write VOLUME /data")
    return Volume(at=line.at, text=line.text, paths=paths)
