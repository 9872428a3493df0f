"""The collector runs all the time while images are pushed, pulled and deleted: nothing is missed, everything goes."""

from __future__ import annotations

import pytest

from tests.registry_soak import soak


def test_no_push_fails_and_no_layer_is_missed_while_garbage_is_collected_for_half_a_minute() -> (
    None
):
    done = soak(25)

    assert done.counts["pushes"] > 100
    assert done.counts["deletes"] > 100
    assert done.counts["blobs collected"] > 20
    assert done.counts["late pushes"] < done.counts["pushes"] / 10


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_same_for_ten_minutes() -> None:
    done = soak(600)

    assert done.counts["pushes"] > 2000
    assert done.counts["blobs collected"] > 400
