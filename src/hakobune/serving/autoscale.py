"""How many instances a revision wants for its requests (pure): Cloud Run's documented rules.

Enough for what is there now (on demand), for the last minute's average at 60 % of the concurrency, and in a
burst for the last six seconds' average (Knative's panic window).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

UTILIZATION = 0.6
STABLE_S = 60.0
PANIC_S = 6.0
PANIC_FACTOR = 2.0


@dataclass(frozen=True, slots=True)
class ScaleLimits:
    """Instances at least and at most, and the requests that each takes at a time."""

    minimum: int
    maximum: int
    concurrency: int


@dataclass(frozen=True, slots=True)
class ScaleDecision:
    """How many instances shall take requests, and why."""

    want: int
    reason: str


@dataclass(slots=True)
class DemandWindow:
    """Requests of one revision that ran or waited, over the last minute. A sample holds until the next."""

    samples: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self, now: float, requests: int) -> None:
        """Samples come in the order of time."""
        self.samples.append((now, requests))
        while len(self.samples) > 1 and self.samples[1][0] <= now - STABLE_S:
            self.samples.popleft()

    def average(self, now: float, window_s: float) -> float:
        """The mean over the last *window_s*; what was before the first sample counts as nothing."""
        begin = now - window_s
        total, until = 0.0, now
        for time, requests in reversed(self.samples):
            total += requests * max(until - max(time, begin), 0.0)
            until = max(time, begin)
            if time <= begin:
                break
        return total / window_s


@dataclass(slots=True)
class RecentWants:
    """What was wanted in the last seconds: instances are given up only when none of it needs them."""

    wants: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self, now: float, want: int) -> int:
        """Note what is wanted now; returns the most that was wanted in the last `PANIC_S`."""
        self.wants.append((now, want))
        while self.wants[0][0] < now - PANIC_S:
            self.wants.popleft()
        return max(want for _, want in self.wants)


def decide_scale(
    *, current: int, stable: float, panic: float, ready: int, limits: ScaleLimits
) -> ScaleDecision:
    """How many instances shall take requests.

    Args:
        current: requests that run or wait now.
        stable: their average over the last minute. panic: over the last six seconds.
        ready: instances that take requests now.
    """
    target = limits.concurrency * UTILIZATION
    candidates = [
        (limits.minimum, "the minimum"),
        (math.ceil(current / limits.concurrency), f"{current} requests now"),
        (_ceil(stable / target), f"{stable:.1f} requests on average in the last minute"),
    ]
    in_burst = _ceil(panic / target)
    if in_burst >= PANIC_FACTOR * max(ready, 1):
        candidates.append((in_burst, f"{panic:.1f} requests on average in the last six seconds"))
    want, reason = max(candidates, key=lambda candidate: candidate[0])
    if want > limits.maximum:
        return ScaleDecision(limits.maximum, f"the maximum ({reason})")
    return ScaleDecision(want, reason)


def _ceil(value: float) -> int:
    """Rounded up, but for what a minute's window keeps of a request long past."""
    return math.ceil(value - 0.005)
