"""How long a client may delay a worker: pure decisions, asked once a second for every connection."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Phase(Enum):
    """Who is waited for on a connection."""

    IDLE = auto()  # the client: another request, if it likes
    HEAD = auto()  # the client: the rest of a head
    RECEIVING = auto()  # the client: the rest of a body
    SENDING = auto()  # the client: that it reads its answer
    WORKING = auto()  # this server
    LINGER = auto()  # the client: that it notices the end


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds, bytes and connections."""

    head_s: float = 10.0
    body_idle_s: float = 60.0
    keep_alive_s: float = 75.0
    linger_s: float = 2.0
    rate_after_s: float = 30.0  # a transfer is not judged before
    rate_bytes_per_s: int = 512
    connections: int = 4096
    manifest_bytes: int = 8 * 1024 * 1024


class Watch:
    """One connection's phase, since when, and how far its transfer has come."""

    __slots__ = ("_moved_at", "_seen", "phase", "progress", "since")

    def __init__(self) -> None:
        self.phase = Phase.IDLE
        self.since = 0.0  # monotonic seconds
        self.progress = 0  # bytes of this phase
        self._seen = 0
        self._moved_at = 0.0

    def enter(self, phase: Phase, now: float) -> None:
        self.phase = phase
        self.since = self._moved_at = now
        self.progress = self._seen = 0

    def overdue(self, now: float, limits: Limits) -> str | None:
        """Why this client has had its time; None if it has not. Call it about once a second."""
        waited = now - self.since
        match self.phase:
            case Phase.WORKING:
                return None
            case Phase.IDLE:
                return "idle" if waited > limits.keep_alive_s else None
            case Phase.HEAD:
                return "the request's head did not come in time" if waited > limits.head_s else None
            case Phase.LINGER:
                return "the end was not noticed" if waited > limits.linger_s else None
            case Phase.RECEIVING | Phase.SENDING:
                return self._too_slow(now, waited, limits)

    def _too_slow(self, now: float, waited: float, limits: Limits) -> str | None:
        if self.progress != self._seen:
            self._seen = self.progress
            self._moved_at = now
        if now - self._moved_at > limits.body_idle_s:
            return "the transfer stands still"
        if waited > limits.rate_after_s and self.progress < waited * limits.rate_bytes_per_s:
            return "the transfer is too slow"
        return None
