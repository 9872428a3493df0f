"""Durations as Go writes them: `1h30m`, `1.5s`, `100ms`."""

from __future__ import annotations

import re

from hakobune.dockerfile.errors import TextError

_UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_LONGEST_TEXT = 200
_LONGEST_NS = 2**63 - 1


def read_duration_ns(text: str) -> int:
    """Nanoseconds.

    Raises:
        TextError: it is no duration, or longer than 292 years.
    """
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    total = 0
    at = 0
    while len(rest) < _LONGEST_TEXT and (match := _PART.match(rest, at)):
        whole, _, part = match[1].partition(".")
        total += int(whole + part or "0") * _UNITS_NS[match[2]] // 10 ** len(part)
        at = match.end()
    if not rest or at != len(rest) or total > _LONGEST_NS:
        raise TextError(f"{text!r} is not a duration", near=text, fix="write 30s, 1m30s or 500ms")
    return sign * total
