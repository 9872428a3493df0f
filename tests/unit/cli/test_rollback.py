import pytest

from hakobune.cli.rollback import most_served, rollback_target
from hakobune.errors import HakoError


def a_revision(number, state="CONDITION_SUCCEEDED"):
    return {
        "name": f"projects/p/locations/l/services/shop/revisions/shop-{number:05}",
        "conditions": [{"type": "Ready", "state": state}],
    }


def name_of(revision):
    return revision["name"].rpartition("/")[2]


def test_the_ready_revision_before_the_serving_one_is_gone_back_to():
    revisions = [a_revision(4), a_revision(3), a_revision(2, "CONDITION_FAILED"), a_revision(1)]

    assert name_of(rollback_target("shop", revisions, serving="shop-00004")) == "shop-00003"
    assert name_of(rollback_target("shop", revisions, serving="shop-00003")) == "shop-00001"


def test_a_newest_revision_that_failed_is_none_to_go_back_to():
    revisions = [a_revision(3, "CONDITION_FAILED"), a_revision(2), a_revision(1)]

    assert name_of(rollback_target("shop", revisions, serving="shop-00002")) == "shop-00001"


def test_a_named_revision_may_be_a_newer_one():
    revisions = [a_revision(2), a_revision(1)]

    found = rollback_target("shop", revisions, serving="shop-00001", to="shop-00002")

    assert name_of(found) == "shop-00002"


@pytest.mark.parametrize(
    ("serving", "to", "what", "why"),
    [
        ("shop-00001", "", "shop has no earlier revision to go back to", "none before shop-00001 is ready"),
        ("", "shop-00007", "shop has no revision shop-00007", ""),
        ("shop-00001", "shop-00001", "shop-00001 serves shop already", ""),
        ("shop-00001", "shop-00002", "shop cannot go back to shop-00002", "that revision is failed"),
    ],
)  # fmt: skip
def test_what_cannot_be_gone_back_to_is_refused(serving, to, what, why):
    revisions = [a_revision(2, "CONDITION_FAILED"), a_revision(1)]

    with pytest.raises(HakoError) as raised:
        rollback_target("shop", revisions, serving=serving, to=to)

    assert (raised.value.what, raised.value.why) == (what, why)
    assert "hako revisions list shop" in raised.value.fix


def test_the_largest_share_of_the_traffic_tells_which_revision_serves():
    service = {
        "trafficStatuses": [
            {"revision": "shop-00001", "percent": 10},
            {"revision": "shop-00002", "percent": 90},
            {"revision": "shop-00003", "tag": "try"},
        ]
    }

    assert most_served(service) == "shop-00002"
    assert most_served({"trafficStatuses": []}) == ""
