"""What came of asking a buildpack whether it takes part."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from hakobune.buildpack.descriptor import GroupElement
from hakobune.buildpack.plan import PlanSection


class Outcome(StrEnum):
    """What its exit code says (CNB buildpack.md "Phase #1: Detection"): 0, 100, or any other."""

    PASS = "pass"
    FAIL = "fail"
    ERROR = "error"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A buildpack's answer, with its reason in its own words (the last line that it printed).

    `code` is the exit code of `bin/detect`; -1 if it was not run or its answer cannot be read.
    """

    buildpack: GroupElement
    outcome: Outcome
    reason: str = ""
    code: int = 0
    output: str = ""
    sections: Sequence[PlanSection] = ()
