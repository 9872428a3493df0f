"""What is remembered of a revision while it is used: its demand, how long its starts take, how its instances broke."""

from __future__ import annotations

from dataclasses import dataclass, field

from hakobune.serving.autoscale import DemandWindow, RecentWants

LONGEST_BACK_OFF_S = 60.0
LIVED_S = 60.0  # an instance that lived this long breaks anew, not again


@dataclass(slots=True)
class RevisionRecord:
    """One revision's; times are on the monotonic clock."""

    window: DemandWindow = field(default_factory=DemandWindow)
    wants: RecentWants = field(default_factory=RecentWants)
    crashes: int = 0
    not_before: float = 0.0
    boot_s: float = 0.0  # average time from start to ready
    last_death: str = ""  # how the last instance that broke ended
    out_of_memory: bool = False
    waiting_in_ingress: int = 0

    def count_boot(self, seconds: float) -> None:
        self.boot_s = (self.boot_s + seconds) / 2 if self.boot_s else seconds

    def count_crash(self, now: float, *, alive_s: float = 0.0) -> None:
        """Back off: at once, then 1, 2, 4 … 60 seconds, unless the last one lived for a while."""
        self.crashes = 0 if alive_s > LIVED_S else self.crashes + 1
        if self.crashes > 1:
            self.not_before = now + min(2.0 ** (self.crashes - 2), LONGEST_BACK_OFF_S)

    def forgive(self) -> None:
        """Start the next instance at once."""
        self.crashes, self.not_before = 0, 0.0
