"""When a remote repository asks its upstream about a tag or a list, and what it makes of the answer (pure).

Content by digest is never asked for again; all of this is about names, which move.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

DEFAULT_TTL_S: Final = 3600.0  # Artifact Registry's, for docker's tags
NEGATIVE_TTL_S: Final = 60.0
DOWN_S: Final = 10.0  # an upstream that failed is not asked again before, where something is cached
_LONGEST_LIMITED_S: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a remote repository keeps up with its upstream.

    Attributes:
        ttl_s: for how long a name needs no question; 0 asks each time.
        stale_if_error_s: how old a name may be that is served while the upstream fails; `None` for any age.
        serve_deleted: serve what the upstream no longer has.
    """

    ttl_s: float = DEFAULT_TTL_S
    negative_ttl_s: float = NEGATIVE_TTL_S
    stale_if_error_s: float | None = None
    serve_deleted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What was last heard about a name.

    Attributes:
        digest: what it named, if that is here; empty if it never was.
        checked_at: when the upstream last said so, in seconds of the epoch.
        negative_until: the upstream did not have it, and is not asked before.
    """

    digest: str = ""
    checked_at: float = 0.0
    negative_until: float = 0.0


class Step(StrEnum):
    """What to do before the upstream is asked."""

    SERVE = "serve"
    ASK = "ask"
    STALE = "stale"  # serve with a warning: the upstream is known to fail
    DELETED = "deleted"  # serve with the warning that the upstream no longer has it
    MISSING = "missing"


def before_asking(known: Known, policy: Policy, *, now: float, down_until: float = 0.0) -> Step:
    """Whether the upstream must be asked.

    Args:
        down_until: the upstream has failed, and needs no question before.
    """
    # A clock that was set back makes ages negative: then nothing is known about the age.
    fresh = 0.0 <= now - known.checked_at < policy.ttl_s
    missing = now < known.negative_until <= now + policy.negative_ttl_s
    if missing:
        return Step.DELETED if known.digest and policy.serve_deleted else Step.MISSING
    if known.digest and fresh:
        return Step.SERVE
    if known.digest and now < down_until and _servable(known, policy, now):
        return Step.STALE
    return Step.ASK


class Trouble(StrEnum):
    """How an upstream can fail to answer; each has its answer to the client in `upstream_errors`."""

    UNREACHABLE = "unreachable"  # no connection, cut, too slow
    BROKEN = "broken"  # 5xx, or an answer that makes no sense
    LIMITED = "limited"  # 429
    REFUSED = "refused"  # 401 or 403
    WRONG = "wrong"  # bytes that are not what their digest says


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """The upstream says what the name names; empty if it does not say the digest before it is asked for the content."""

    digest: str


@dataclass(frozen=True, slots=True)
class Absent:
    """The upstream does not have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The upstream did not answer the question."""

    trouble: Trouble
    retry_after_s: float | None = None


Heard = Named | Absent | Failed


class Then(StrEnum):
    """What to do after the upstream was asked."""

    SERVE = "serve"  # as known, and note the time
    FETCH = "fetch"  # what the name names now
    STALE = "stale"  # as known, with a warning
    DELETED = "deleted"  # as known, with the warning that the upstream no longer has it
    MISSING = "missing"  # there is none, and note that
    FAIL = "fail"


def after_asking(known: Known, heard: Heard, policy: Policy, *, now: float) -> Then:
    """What the answer means for the client who asked."""
    match heard:
        case Named(digest=digest):
            return Then.SERVE if known.digest and known.digest == digest else Then.FETCH
        case Absent():
            return Then.DELETED if known.digest and policy.serve_deleted else Then.MISSING
        case Failed():
            return Then.STALE if known.digest and _servable(known, policy, now) else Then.FAIL


def not_before(failed: Failed, *, now: float) -> float:
    """When an upstream that failed is asked again about what is cached. Refusals and wrong bytes say nothing about the next question."""
    match failed.trouble:
        case Trouble.LIMITED:
            return now + min(failed.retry_after_s or NEGATIVE_TTL_S, _LONGEST_LIMITED_S)
        case Trouble.UNREACHABLE | Trouble.BROKEN:
            return now + DOWN_S
        case Trouble.REFUSED | Trouble.WRONG:
            return 0.0


def stale_note(known: Known, why: str, *, now: float) -> str:
    """What a client is told in a `Warning` (distribution-spec "Warnings")."""
    age = f", last checked {_age(now - known.checked_at)} ago" if known.checked_at else ""
    return f"stale: served from the cache{age}: {why}"


def _servable(known: Known, policy: Policy, now: float) -> bool:
    return policy.stale_if_error_s is None or now - known.checked_at <= policy.stale_if_error_s


def _age(seconds: float) -> str:
    seconds = max(seconds, 0.0)
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172800 else f"{seconds / 86400:.0f} d"
