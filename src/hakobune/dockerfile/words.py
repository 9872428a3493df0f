"""Splitting an instruction's line: keyword, flags, and the shapes its arguments can have."""

from __future__ import annotations

import json
import re

from msgspec import Struct

from hakobune.dockerfile.errors import TextError

BLANKS = re.compile(r"[\t\v\f\r ]+")


class Split(Struct, frozen=True):
    """`KEYWORD --flag… rest`; flags are without their quotes."""

    keyword: str
    flags: tuple[str, ...]
    rest: str


def split_line(line: str, escape: str) -> Split:
    """Take keyword and leading `--flags` off a line; `--` alone ends the flags."""
    keyword, *arguments = BLANKS.split(line.strip(), maxsplit=1)
    if not arguments:
        return Split(keyword, (), "")
    flags, rest = _take_flags(arguments[0], escape)
    return Split(keyword, flags, rest.strip())


def _take_flags(text: str, escape: str) -> tuple[tuple[str, ...], str]:
    flags: list[str] = []
    at = 0
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if not text.startswith("--", at):
            return tuple(flags), text[at:]
        flag, at = _take_flag(text, at, escape)
        if flag == "--":
            return tuple(flags), text[at:]
        flags.append(flag)


def _take_flag(text: str, at: int, escape: str) -> tuple[str, int]:
    """One word from `at` on, without its quotes and escapes, and where it ends."""
    chars: list[str] = []
    quote = ""
    while at < len(text):
        char = text[at]
        if char == escape:
            chars.append(text[at + 1 : at + 2])
            at += 2
            continue
        if quote:
            if char == quote:
                quote = ""
            else:
                chars.append(char)
        elif char.isspace():
            break
        elif char in "'\"":
            quote = char
        else:
            chars.append(char)
        at += 1
    return "".join(chars), at


def split_words(text: str, escape: str) -> tuple[str, ...]:
    """Words separated by blanks outside quotes; quotes and escapes stay in them (ENV, LABEL, ARG)."""
    words: list[str] = []
    chars: list[str] = []
    quote = ""
    started = False
    at = 0
    while at < len(text):
        char = text[at]
        if char == escape and quote != "'":
            if at + 1 == len(text):
                break  # an escape at the very end stands for nothing
            chars.append(text[at : at + 2])
            started = True
            at += 2
            continue
        if not quote and char.isspace():
            if started:
                words.append("".join(chars))
            chars.clear()
            started = False
        else:
            if quote:
                quote = "" if char == quote else quote
            elif char in "'\"":
                quote = char
            chars.append(char)
            started = True
        at += 1
    if started:
        words.append("".join(chars))
    return tuple(words)


def split_blanks(text: str) -> tuple[str, ...]:
    """Words separated by blanks, with no quoting at all."""
    return tuple(BLANKS.split(text)) if text else ()


def read_json_words(text: str) -> tuple[str, ...] | None:
    """The strings of a JSON array, or None if the text is not one (then it is in shell form).

    Raises:
        TextError: an array with something else than strings in it.
    """
    if not text.lstrip().startswith("["):
        return None
    try:
        values = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, list):
        return None
    for value in values:
        if not isinstance(value, str):
            raise TextError(
                f"{json.dumps(value)} in {text.strip()} is not a string",
                near=text.strip(),
                fix='put every word in double quotes: ["a", "1"]',
            )
    return tuple(_without_lone_surrogates(value) for value in values)


def _refuse(constant: str) -> object:
    raise ValueError(constant)


def _without_lone_surrogates(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
