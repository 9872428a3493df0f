"""Request heads read as RFC 9112 has them; what is unusual is refused, never interpreted.

Pure: bytes in, a `Head` out, or a `HeadError` with the status to answer before the connection is closed. There
is one reader for a connection's whole life, so two parsers can never disagree about where a request ends.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

HEAD_LIMIT: Final = 64 * 1024

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET: Final = re.compile(r"[!#-\[\]^-~]+")  # printable ASCII without space, quote and backslash
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_NOT_A_FIELD: Final = "a header line is not NAME: VALUE (folded lines are refused)"
_REMEMBERED: Final = 1024
_LONG_NAME: Final = 64
_names: dict[str, str] = {}  # as they were spelled, each with its lower case
_SINGLE: Final = frozenset(
    (
        "authorization",
        "content-length",
        "content-range",
        "content-type",
        "expect",
        "hako-link",
        "host",
        "if-none-match",
        "range",
        "transfer-encoding",
    )
)


class HeadError(Exception):
    """A request that cannot be read safely: the connection ends with *status*."""

    def __init__(self, reason: str, *, status: int = 400) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


# Not frozen, though nobody changes them: one of each is made for every request, and frozen ones take three times as long.
@dataclass(slots=True, eq=False)
class Fields:
    """The header fields of a request and what they say about its framing."""

    values: dict[str, str]  # by lower-case name; repeated ones are joined by ", "
    content_length: int | None  # bytes; None if the request does not say
    chunked: bool
    close: bool
    keep_alive: bool
    expects_continue: bool


@dataclass(slots=True, eq=False)
class Head:
    """One request's head; *target* and *query* are as they came, *path* is percent-decoded."""

    method: str
    target: str
    path: str
    query: str
    http_1_1: bool
    fields: Fields

    @property
    def keeps_connection(self) -> bool:
        """Whether the client wants to send another request after this one."""
        if self.http_1_1:
            return not self.fields.close
        return self.fields.keep_alive

    @property
    def has_body(self) -> bool:
        return self.fields.chunked or bool(self.fields.content_length)

    def get(self, name: str) -> str | None:
        """A field by its lower-case name."""
        return self.fields.values.get(name)


def parse_head(block: bytes) -> Head:
    """Read a head without its final empty line.

    Raises:
        HeadError: it is not a request that may be answered.
    """
    line, _, rest = block.partition(b"\r\n")
    return join_head(line, parse_fields(rest))


def join_head(line: bytes, fields: Fields) -> Head:
    """A request line and the fields that came after it, checked against each other.

    Raises:
        HeadError: the line is malformed, or the fields do not fit the version.
    """
    parts = line.decode("latin-1").split(" ")
    if len(parts) != 3:
        raise HeadError("the request line is not METHOD TARGET VERSION")
    method, target, version = parts
    if version == "HTTP/1.1":
        http_1_1 = True
        if "host" not in fields.values:
            raise HeadError("an HTTP/1.1 request needs a Host")
    elif version == "HTTP/1.0":
        http_1_1 = False
        if fields.chunked:
            raise HeadError("HTTP/1.0 has no transfer codings")
    elif version.startswith("HTTP/"):
        raise HeadError("this is an HTTP/1.1 server", status=505)
    else:
        raise HeadError("the request line does not end with a version")
    if not method.isalpha() or not method.isascii():
        raise HeadError("the method is not a word")
    if not _TARGET.fullmatch(target):
        raise HeadError("the target holds characters that a URL cannot have")
    path, query = _split_target(target)
    return Head(method, target, path, query, http_1_1, fields)


def parse_fields(block: bytes) -> Fields:
    """Read the header fields of a request (its head without the request line).

    Raises:
        HeadError: a line is folded or malformed, a field that stands once stands twice, or the length is ambiguous.
    """
    text = block.decode("latin-1")
    values: dict[str, str] = {}
    if text:
        if _CONTROL.search(text):
            raise HeadError("a header field holds a control character")
        lines = text.split("\r\n")
        if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1:
            raise HeadError("lines end with CR LF")
        for line in lines:
            spelled, colon, value = line.partition(":")
            if not colon:
                raise HeadError(_NOT_A_FIELD)
            name = _names.get(spelled) or _learn_name(spelled)
            value = value.strip(" \t")
            if name in values:
                if name in _SINGLE:
                    raise HeadError(f"{name} stands twice")
                value = f"{values[name]}, {value}"
            values[name] = value
    return _framing(values)


def _learn_name(spelled: str) -> str:
    """A field's name in lower case; those that come again and again are remembered."""
    if not _TOKEN.fullmatch(spelled):
        raise HeadError(_NOT_A_FIELD)
    name = spelled.lower()
    if len(_names) < _REMEMBERED and len(spelled) < _LONG_NAME:
        _names[spelled] = name
    return name


def _framing(values: dict[str, str]) -> Fields:
    length = values.get("content-length")
    coding = values.get("transfer-encoding")
    if length is not None:
        if coding is not None:
            raise HeadError("a request has a Content-Length or a Transfer-Encoding, not both")
        if not _LENGTH.fullmatch(length):
            raise HeadError("Content-Length is not a number")
    if coding is not None and coding.lower() != "chunked":
        raise HeadError("the only transfer coding is chunked", status=501)
    expect = values.get("expect")
    if expect is not None and expect.lower() != "100-continue":
        raise HeadError("the only expectation is 100-continue", status=417)
    connection = values.get("connection", "").lower()
    return Fields(
        values=values,
        content_length=None if length is None else int(length),
        chunked=coding is not None,
        close="close" in connection,
        keep_alive="keep-alive" in connection,
        expects_continue=expect is not None,
    )


def _split_target(target: str) -> tuple[str, str]:
    if not target.startswith("/"):
        scheme, separator, rest = target.partition("://")
        if not separator or scheme.lower() not in ("http", "https"):
            raise HeadError("the target is not a path")
        slash = rest.find("/")
        target = rest[slash:] if slash >= 0 else "/"
    path, _, query = target.partition("?")
    if "#" in target:
        raise HeadError("a target has no fragment")
    if "%" in path:
        path = unquote(path, encoding="latin-1")
    return path, query
