"""How long to wait before a request is sent again (pure): exponential back-off with jitter, and what the server asks for."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Final

ATTEMPTS: Final = 5
MIRROR_ATTEMPTS: Final = 2  # then the registry itself is asked
LONGEST_ASKED_S: Final = 90.0
_FIRST_S: Final = 0.3
_LONGEST_S: Final = 8.0
# 408 and 425: the server's own words for "again"; 5xx: a worker died, a proxy lost it, it is too busy.
WORTH_ANOTHER_TRY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


def wait_s(
    attempt: int, *, asked_s: float | None, random: float, attempts: int = ATTEMPTS
) -> float | None:
    """Seconds before the next try; `None` if it is time to give up.

    Args:
        attempt: how many tries there have been.
        asked_s: what `Retry-After` says.
        random: from 0 to 1; spreads those who failed together.
        attempts: how many there may be.
    """
    if attempt >= attempts or (asked_s is not None and asked_s > LONGEST_ASKED_S):
        return None
    backed_off = min(_LONGEST_S, _FIRST_S * 2 ** (attempt - 1)) * (0.5 + random / 2)
    return backed_off if asked_s is None else max(asked_s, 0.0) + random * 0.2


def parse_retry_after(value: str | None, *, now: float) -> float | None:
    """Seconds of a `Retry-After` header, given as seconds or as a date (RFC 9110 "10.2.3"); `None` if it says nothing."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None
