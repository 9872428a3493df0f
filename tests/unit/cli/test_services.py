import pytest

from hakobune.cli.services import wanted_traffic
from hakobune.errors import UsageError

LATEST = {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 100}


def revision(name, **more):
    return {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION", "revision": name, **more}


def split(current=(), *, to_latest=False, percents=None, tags=None, removed=()):
    return wanted_traffic(
        list(current), to_latest=to_latest, percents=percents or {}, tags=tags, removed_tags=removed
    )


def test_percents_replace_the_split():
    assert split([LATEST], percents={"shop-00001": "90", "LATEST": "10"}) == [
        revision("shop-00001", percent=90),
        {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 10},
    ]


def test_tags_survive_a_new_split():
    current = [LATEST, revision("shop-00001", tag="old")]

    assert split(current, percents={"shop-00002": "100"}) == [
        revision("shop-00002", percent=100),
        revision("shop-00001", tag="old"),
    ]


def test_set_tags_replaces_all_tags_and_leaves_the_split():
    current = [LATEST, revision("shop-00001", tag="old")]

    assert split(current, tags={"new": "shop-00002"}) == [
        LATEST,
        {**revision("shop-00002"), "tag": "new"},
    ]


def test_a_tag_on_a_target_with_traffic_can_be_removed_alone():
    current = [revision("shop-00001", percent=100, tag="old")]

    assert split(current, removed=("old",)) == [revision("shop-00001", percent=100)]


def test_latest_takes_all():
    assert split([revision("shop-00001", percent=100)], to_latest=True) == [LATEST]


def test_contradicting_flags_are_refused():
    with pytest.raises(UsageError, match="contradict"):
        split([LATEST], to_latest=True, percents={"a": "1"})


def test_no_flag_is_refused():
    with pytest.raises(UsageError, match="nothing to change"):
        split([LATEST])


def test_a_percent_over_a_hundred_is_refused():
    with pytest.raises(UsageError, match="whole number"):
        split([LATEST], percents={"a": "101"})
