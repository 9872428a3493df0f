from argparse import Namespace

import pytest

from hakobune.cli.service_place import Place
from hakobune.errors import UsageError


def test_the_default_place_needs_no_options():
    place = Place.of(Namespace(project="hako", region="local"))

    assert place.service("shop") == "projects/hako/locations/local/services/shop"
    assert (place.flags, place.app_image("shop")) == ("", "hako/apps/shop")


def test_another_place_says_how_it_is_reached_and_keeps_its_own_images():
    place = Place.of_name("projects/team-a/locations/europe-west1/services/shop/revisions/x")

    assert place.parent == "projects/team-a/locations/europe-west1"
    assert place.flags == " --project team-a --region europe-west1"
    assert place.app_image("shop") == "team-a/apps-europe-west1/shop"
    assert Place("team-a").app_image("shop") == "team-a/apps/shop"


def test_a_full_name_is_taken_as_it_is():
    assert Place("team-a").service("projects/b/locations/c/services/d") == "projects/b/locations/c/services/d"  # fmt: skip


@pytest.mark.parametrize("text", ["Team", "a b", "", "-a", "a-", "a/b", "1a", "ä"])
def test_what_is_no_name_is_refused(text):
    with pytest.raises(UsageError, match="--project"):
        Place.of(Namespace(project=text, region="local"))
    with pytest.raises(UsageError, match="--region"):
        Place.of(Namespace(project="hako", region=text))
