from __future__ import annotations

import itertools

import pytest

from hakobune.runtime.slot import (
    EPHEMERAL_RANGES,
    FIRST_BASE,
    RANGE_SIZE,
    RANGES,
    IdRange,
    NoIdRangeError,
    candidate_ranges,
    hold_range,
    take_range,
)


@pytest.mark.parametrize(("ephemeral", "count"), [(True, 1024), (False, RANGES - 1024)])
def test_candidates_are_all_ranges_of_their_kind_once(ephemeral, count):
    bases = [ids.base for ids in candidate_ranges("hako", ephemeral=ephemeral)]

    assert len(bases) == len(set(bases)) == count
    assert all((base - FIRST_BASE) % RANGE_SIZE == 0 for base in bases)


def test_ranges_of_builds_and_of_containers_never_meet():
    builds = {ids.base for ids in candidate_ranges("hako", ephemeral=True)}
    containers = {ids.base for ids in candidate_ranges("hako", ephemeral=False)}

    assert not builds & containers
    assert max(builds) < FIRST_BASE + EPHEMERAL_RANGES * RANGE_SIZE <= min(containers)


def test_every_id_stays_below_two_to_the_31():
    highest = max(ids.base + ids.size for ids in candidate_ranges("hako", ephemeral=False))

    assert highest <= 1 << 31


def test_installations_start_at_places_of_their_own_and_always_the_same():
    first = {
        name: next(candidate_ranges(name, ephemeral=False)).base
        for name in ("hako", "hako1a2b3c", "hakoffffff")
    }

    assert len(set(first.values())) == 3
    assert next(candidate_ranges("hako", ephemeral=False)).base == first["hako"]


def test_a_held_range_is_nobody_elses_until_it_is_released():
    held = take_range("test-slot", ephemeral=True)
    try:
        assert hold_range(held.ids) is None
        other = take_range("test-slot", ephemeral=True)
        other.release()
        assert other.ids != held.ids
    finally:
        held.release()
    held.release()

    again = hold_range(held.ids)
    assert again is not None
    again.release()


def test_ranges_to_avoid_are_passed_over():
    first, second = itertools.islice(candidate_ranges("test-avoid", ephemeral=False), 2)

    held = take_range("test-avoid", avoid={first.base})
    held.release()

    assert held.ids == second


def test_when_all_are_taken_the_error_says_what_to_do():
    everything = {ids.base for ids in candidate_ranges("full", ephemeral=True)}

    with pytest.raises(NoIdRangeError, match="stop containers"):
        take_range("full", ephemeral=True, avoid=everything)


def test_an_id_range_is_65536_ids():
    assert IdRange(FIRST_BASE).size == 65536
