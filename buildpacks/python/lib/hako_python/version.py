"""Which Python: constraints as people write them (PEP 440), and the one that all of them allow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from hako_python.report import BuildpackError

Release = tuple[int, ...]
CLAUSE = re.compile(r"^(===|==|~=|!=|<=|>=|<|>)?\s*v?(\d+(?:\.\d+)*)(\.\*)?$")


class Wish(NamedTuple):
    """One place that says which Python it wants."""

    text: str
    place: str

    def allows(self, release: Release) -> bool:
        """Whether *release* satisfies every clause.

        Raises:
            BuildpackError: the text is no version constraint.
        """
        return all(_clause_allows(clause, release, self) for clause in self._clauses())

    def _clauses(self) -> Sequence[str]:
        text = re.sub(r"^(cpython|python|py)[-@ ]?", "", self.text.strip().lower())
        return [clause.strip() for clause in text.split(",") if clause.strip()]


def choose_python(
    wishes: Sequence[Wish], available: Sequence[Release], *, nearest: bool
) -> Release:
    """The newest *available* release that every wish allows.

    Args:
        wishes: first the one that was said most directly; it is named first in the message.
        nearest: where nothing fits exactly, take the same minor version (`HAKO_VERSION_POLICY`).

    Raises:
        BuildpackError: two wishes exclude each other, or nothing here fits.
    """
    fitting = [r for r in available if all(w.allows(r) for w in wishes)]
    if fitting:
        return max(fitting)
    have = ", ".join(map(format_release, sorted(available)))
    if conflict := _conflict(wishes):
        first, second = conflict
        raise BuildpackError(
            f"{first.place} wants Python {first.text}, {second.place} wants {second.text}",
            seen=f"no Python version fits both; this builder has {have}",
            fix=f"make {first.place} and {second.place} agree",
        )
    unmet = next(w for w in wishes if not any(w.allows(r) for r in available))
    near = _nearest(unmet, available)
    if near is not None and nearest:
        return near
    advice = f"ask for {have} in {unmet.place}"
    if near is not None:
        advice += f", or set HAKO_VERSION_POLICY=nearest to take {format_release(near)}"
    raise BuildpackError(
        f"Python {unmet.text} ({unmet.place}) is not in this builder",
        seen=f"this builder has {have}",
        fix=advice,
    )


def format_release(release: Release) -> str:
    return ".".join(map(str, release))


def _conflict(wishes: Sequence[Wish]) -> tuple[Wish, Wish] | None:
    """Two wishes that no Python there is would satisfy together."""
    known = [(3, minor, patch) for minor in range(6, 31) for patch in range(41)]
    for i, first in enumerate(wishes):
        for second in wishes[i + 1 :]:
            possible = any(map(first.allows, known)) and any(map(second.allows, known))
            if possible and not any(first.allows(r) and second.allows(r) for r in known):
                return first, second
    return None


def _nearest(wish: Wish, available: Sequence[Release]) -> Release | None:
    match = re.search(r"(\d+)\.(\d+)", wish.text)
    if match is None:
        return None
    same = [r for r in available if r[:2] == (int(match[1]), int(match[2]))]
    return max(same, default=None)


def _clause_allows(clause: str, release: Release, wish: Wish) -> bool:
    match = CLAUSE.match(clause)
    if match is None:
        raise BuildpackError(
            f"{wish.place} does not say a Python version",
            seen=wish.text,
            fix=f"write it like 3.13, 3.13.* or >=3.11 in {wish.place}",
        )
    operator, number, wildcard = match[1] or "", match[2], bool(match[3])
    wanted = tuple(map(int, number.split(".")))
    match operator:
        case "" | "==" | "===":
            # "3.13" alone means the minor version, in every file and variable; `==3.13.5` is exact.
            return release[: len(wanted)] == wanted
        case "!=":
            return release[: len(wanted)] != wanted if wildcard else release != _padded(wanted)
        case "~=":
            return release >= wanted and release[: len(wanted) - 1] == wanted[:-1]
        case "<":
            return release < _padded(wanted)
        case "<=":
            return release <= _padded(wanted)
        case ">":
            return release > _padded(wanted)
        case _:
            return release >= wanted


def _padded(release: Release) -> Release:
    return (*release, 0, 0)[: max(3, len(release))]
