"""The Build Plan: what buildpacks provide and require, and the first combination that holds (pure).

CNB buildpack.md "Phase #1: Detection". Reading the plan files is the caller's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, Literal

import msgspec

from hakobune.buildpack.document import TomlDocument
from hakobune.errors import HakoError


class Provide(msgspec.Struct, frozen=True, kw_only=True):
    """`[[provides]]`."""

    name: str


class Require(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`[[requires]]`: a dependency by name; the metadata is for the buildpack that provides it."""

    name: str
    metadata: dict[str, Any] = {}


class PlanSection(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One alternative of a buildpack: its top-level tables, or one `[[or]]`."""

    provides: tuple[Provide, ...] = ()
    requires: tuple[Require, ...] = ()


class _PlanFile(PlanSection, frozen=True, kw_only=True, rename={"alternatives": "or"}):
    alternatives: tuple[PlanSection, ...] = ()


class Contribution(msgspec.Struct, frozen=True):
    """What one buildpack adds to the Build Plan in one trial."""

    buildpack: str
    optional: bool = False
    provides: tuple[str, ...] = ()
    requires: tuple[Require, ...] = ()


Trial = tuple[Contribution, ...]


class PlanEntry(msgspec.Struct, frozen=True):
    """One dependency of the plan: who can provide it and everything that is asked of it."""

    name: str
    providers: tuple[str, ...]
    requires: tuple[Require, ...]


BuildPlan = tuple[PlanEntry, ...]


class Unmet(msgspec.Struct, frozen=True):
    """Why a buildpack cannot stay in a trial."""

    contribution: Contribution
    verb: Literal["requires", "provides"]
    name: str

    def __str__(self) -> str:
        if self.verb == "requires":
            return (
                f"{self.contribution.buildpack} requires {self.name!r}, "
                "which nothing up to it provides"
            )
        return (
            f"{self.contribution.buildpack} provides {self.name!r}, "
            "which nothing from it on requires"
        )


class BuildPlanError(HakoError):
    """No trial leaves everything met; holds one reason a trial, in trial order."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__(
            "the buildpacks' provides and requires do not fit together",
            why="; ".join(dict.fromkeys(reasons)),
        )
        self.reasons = tuple(reasons)


def parse_build_plan(data: bytes, *, name: str) -> tuple[PlanSection, ...]:
    """Read the plan that `bin/detect` wrote: its alternatives, preferred first; an empty file is one.

    Raises:
        DocumentError: not TOML.
        InvalidDocumentError: wrong types, or a `version` beside a require's name.
    """
    document = TomlDocument.parse(data, name=name)
    for at, require in _requires(document.values):
        if "version" in require:
            document.complain(
                (*at, "version"), "a require's version belongs into its metadata: metadata.version"
            )
    document.check(_PlanFile, unknown_keys=True)
    plan = document.to(_PlanFile)
    first = PlanSection(provides=plan.provides, requires=plan.requires)
    return (first, *plan.alternatives)


def alternatives(
    buildpack: str, sections: Sequence[PlanSection], *, optional: bool
) -> tuple[Contribution, ...]:
    """A buildpack's alternatives as contributions; it counts as optional in the last one only."""
    last = len(sections) - 1
    return tuple(
        Contribution(
            buildpack,
            optional=optional and index == last,
            provides=tuple(p.name for p in section.provides),
            requires=section.requires,
        )
        for index, section in enumerate(sections)
    )


def resolve_build_plan(group: Sequence[Sequence[Contribution]]) -> Trial:
    """Return the first trial that leaves nothing unmet (CNB buildpack.md "Phase #1: Detection").

    Args:
        group: for each buildpack in order, its alternatives, preferred first.
            The last buildpack's alternatives vary fastest (left to right, depth first).

    Raises:
        BuildPlanError: every trial failed. Holds one reason a trial, in trial order.
    """
    reasons: list[str] = []
    for trial in product(*group):
        match _settle(trial):
            case Unmet() as unmet:
                reasons.append(str(unmet))
            case ():
                reasons.append("every buildpack is optional and none is needed")
            case settled:
                return settled
    raise BuildPlanError(reasons)


def plan_entries(trial: Trial) -> BuildPlan:
    """The plan of a settled trial, one entry a dependency, in the order of their first mention.

    A provider that comes after the last require of its name has consumed nothing and is not listed.
    """
    entries: dict[str, PlanEntry] = {}
    waiting: dict[str, tuple[str, ...]] = {}
    for contribution in trial:
        for name in contribution.provides:
            waiting[name] = (*waiting.get(name, ()), contribution.buildpack)
            entries.setdefault(name, PlanEntry(name, (), ()))
        for require in contribution.requires:
            entry = entries.setdefault(require.name, PlanEntry(require.name, (), ()))
            entries[require.name] = msgspec.structs.replace(
                entry,
                providers=entry.providers + waiting.pop(require.name, ()),
                requires=(*entry.requires, require),
            )
    return tuple(entries.values())


def _settle(trial: Trial) -> Trial | Unmet:
    """Drop optional buildpacks until nothing is unmet, or return what a required one misses."""
    # A drop can only leave more unmet, so the order of the drops does not change the result.
    while unmet := _first_unmet(trial):
        if not unmet.contribution.optional:
            return unmet
        trial = tuple(c for c in trial if c is not unmet.contribution)
    return trial


def _first_unmet(trial: Trial) -> Unmet | None:
    for i, contribution in enumerate(trial):
        provided = {name for c in trial[: i + 1] for name in c.provides}
        required = {require.name for c in trial[i:] for require in c.requires}
        for require in contribution.requires:
            if require.name not in provided:
                return Unmet(contribution, "requires", require.name)
        for name in contribution.provides:
            if name not in required:
                return Unmet(contribution, "provides", name)
    return None


def _requires(values: dict[str, Any]) -> Iterator[tuple[tuple[str | int, ...], dict[str, Any]]]:
    """Each `[[requires]]` table with its place, in whatever a plan file holds."""
    tables: list[tuple[tuple[str | int, ...], Any]] = [((), values)]
    others = values.get("or")
    tables += [(("or", i), t) for i, t in enumerate(others if isinstance(others, list) else ())]
    for at, table in tables:
        requires = table.get("requires") if isinstance(table, dict) else None
        for i, require in enumerate(requires if isinstance(requires, list) else ()):
            if isinstance(require, dict):
                yield (*at, "requires", i), require
