"""What came of asking a buildpack whether it takes part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from hakobune.buildpack.descriptor import GroupElement
from hakobune.buildpack.plan import PlanSection


class Outcome(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A buildpack's answer, with its reason in its own words (the last line that it printed).

    `code` is the exit code of `bin/detect`; -1 if it was not run or its answer cannot be read.
    """

    buildpack: GroupElement
    outcome: Outcome
    reason: str = ""
    code: int = 0
    output: str = ""
    sections: Sequence[PlanSection] = ()
