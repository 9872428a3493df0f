"""The collector runs all the time while images are pushed, pulled and deleted: nothing is missed, everything goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.postgresql_cluster import running_cluster
from tests.registry_soak import soak
from tests.seaweed import seaweed


def test_no_push_fails_and_no_layer_is_missed_while_garbage_is_collected_for_half_a_minute() -> (
    None
):
    done = soak(25)

    assert done.counts["pushes"] > 100
    assert done.counts["deletes"] > 100
    assert done.counts["blobs collected"] > 20
    assert done.counts["late pushes"] < done.counts["pushes"] / 10


@pytest.mark.slow
def test_the_same_on_postgresql_and_s3(tmp_path: Path) -> None:
    with seaweed(tmp_path / "weed") as weed, running_cluster() as cluster:
        environment = {
            **weed.environment,
            "HAKO_REGISTRY_STORAGE": weed.url("soak"),
            "HAKO_REGISTRY_DATABASE": cluster.new_database(),
        }
        done = soak(30, grace_s=3, environment=environment)

    assert done.counts["pushes"] > 100
    assert done.counts["blobs collected"] > 20


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_same_for_ten_minutes() -> None:
    done = soak(600)

    assert done.counts["pushes"] > 2000
    assert done.counts["blobs collected"] > 400
