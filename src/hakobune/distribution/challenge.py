"""The `WWW-Authenticate` header as values (RFC 9110 "11.6.1", distribution-spec's token authentication)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

_SCHEME: Final = re.compile(r"\s*,?\s*([A-Za-z][A-Za-z0-9._~+-]*)(?:\s+|$|(?=,))")
_PARAMETER: Final = re.compile(
    r'\s*,?\s*([A-Za-z][A-Za-z0-9_-]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))'
)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to be let in; `scheme` is in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """All challenges of all the headers, in order; what cannot be read is left out."""
    found: list[Challenge] = []
    for header in headers:
        at = 0
        while at < len(header):
            scheme = _SCHEME.match(header, at)
            if scheme is None:
                break
            at = scheme.end()
            parameters: dict[str, str] = {}
            while parameter := _PARAMETER.match(header, at):
                quoted, plain = parameter[2], parameter[3]
                value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
                parameters.setdefault(parameter[1].lower(), value)
                at = parameter.end()
            found.append(Challenge(scheme[1].lower(), parameters))
    return tuple(found)
