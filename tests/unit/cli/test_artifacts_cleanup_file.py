"""Files of cleanup policies, as gcloud's documentation shows them and as people write them."""

from __future__ import annotations

import json

import pytest

from hakobune.cli.artifacts_cleanup_file import duration_s, read_policy_file, write_policies
from hakobune.errors import UsageError

GCLOUD = [
    {
        "name": "delete-prerelease",
        "action": {"type": "Delete"},
        "condition": {"tagState": "tagged", "tagPrefixes": ["alpha", "v0"], "olderThan": "30d"},
    },
    {
        "name": "keep-minimum-versions",
        "action": {"type": "Keep"},
        "mostRecentVersions": {"packageNamePrefixes": ["webapp"], "keepCount": 5},
    },
]
API = {
    "delete-prerelease": {
        "id": "delete-prerelease",
        "action": "DELETE",
        "condition": {"tagState": "TAGGED", "tagPrefixes": ["alpha", "v0"], "olderThan": "2592000s"},
    },
    "keep-minimum-versions": {
        "id": "keep-minimum-versions",
        "action": "KEEP",
        "mostRecentVersions": {"packageNamePrefixes": ["webapp"], "keepCount": 5},
    },
}  # fmt: skip


def read(document):
    return read_policy_file(json.dumps(document), "p.json")


def test_gclouds_form_becomes_the_apis():
    assert read(GCLOUD) == API


def test_the_apis_form_and_what_is_written_are_read_again():
    assert read(API) == API
    assert read(write_policies(API)) == API


def test_the_protos_spelling_is_read():
    policy = {
        "name": "old",
        "action": "delete",
        "condition": {"tag_state": "UNTAGGED", "older_than": "1d", "package_name_prefixes": ["x"]},
    }

    assert read([policy])["old"]["condition"] == {
        "tagState": "UNTAGGED",
        "olderThan": "86400s",
        "packageNamePrefixes": ["x"],
    }


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30d", "2592000s"), ("720h", "2592000s"), ("1h30m", "5400s"), ("2w", "1209600s"), ("1.5s", "1.5s"), ("0s", "0s")],
)  # fmt: skip
def test_times_are_read_as_people_write_them(text, seconds):
    assert duration_s(text, "here") == seconds


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([1], "is no list of policies"),
        ("x", "is no list of policies"),
        ([{}], "a policy has no name"),
        ([{"name": "a"}], "policy 'a' has no action"),
        ([{"name": "a", "action": {"type": "Keep"}, "wings": 1}], "policy 1 has 'wings'"),
        ([{"name": "a", "action": "Keep", "condition": {"age": "1d"}}], "has 'age', which is nothing known"),
        ([{"name": "a", "action": "Keep", "condition": {"olderThan": "1 month"}}], "olderThan: '1 month' is no time"),
        ([{"name": "a", "action": "Keep", "condition": []}], "is no JSON object"),
        ([GCLOUD[0], GCLOUD[0]], "stands twice"),
    ],
)  # fmt: skip
def test_what_is_no_policy_is_refused_with_its_place(document, message):
    with pytest.raises(UsageError) as caught:
        read(document)
    assert message in str(caught.value)


def test_what_is_not_json_is_refused():
    with pytest.raises(UsageError, match=r"p\.json is not JSON"):
        read_policy_file("[", "p.json")


def test_an_action_that_is_none_is_named() -> None:
    with pytest.raises(UsageError, match=r"p.json: policy 'x': 'Delet' is no action") as refused:
        read_policy_file('[{"name": "x", "action": {"type": "Delet"}}]', "p.json")

    assert "Delete" in refused.value.fix
