"""Update masks on Artifact Registry's documents."""

from __future__ import annotations

import pytest

from hakobune.api.artifacts_documents import Repository
from hakobune.api.artifacts_mask import apply_mask
from hakobune.serving.document import read_document
from hakobune.serving.errors import InvalidArgumentError

SETTABLE = ("description", "labels", "dockerConfig", "remoteRepositoryConfig", "cleanupPolicies")
FIXED = ("format", "mode", "name")
CURRENT = Repository(name="r", format="DOCKER", description="old", labels={"a": "b"}, size_bytes="3")  # fmt: skip


def change(sent, mask, current=CURRENT):
    return apply_mask(
        current, read_document(sent, Repository), mask, settable=SETTABLE, fixed=FIXED
    )


def test_only_what_the_mask_names_is_changed():
    changed = change({"description": "new", "labels": {"c": "d"}}, "description")

    assert (changed.description, changed.labels, changed.size_bytes) == ("new", {"a": "b"}, "3")


def test_what_is_named_and_not_sent_is_cleared():
    assert change({}, "description,labels") == Repository(name="r", format="DOCKER", size_bytes="3")


def test_without_a_mask_what_is_sent_is_changed():
    changed = change({"description": "new", "format": 1, "sizeBytes": "9"}, "")

    assert (changed.description, changed.labels, changed.size_bytes) == ("new", {"a": "b"}, "3")


def test_a_star_replaces_all_that_can_be_set():
    changed = change({"labels": {"c": "d"}}, "*")

    assert (changed.description, changed.labels, changed.format) == ("", {"c": "d"}, "DOCKER")


@pytest.mark.parametrize("mask", ["docker_config", "dockerConfig.immutableTags", "docker_config.immutable_tags"])  # fmt: skip
def test_paths_are_read_in_both_spellings_and_into_messages(mask):
    changed = change({"docker_config": {"immutable_tags": True}}, mask)

    assert changed.docker_config is not None
    assert changed.docker_config.immutable_tags


def test_a_maps_keys_stay_as_they_are():
    sent = {"cleanupPolicies": {"my_rule": {"action": "DELETE"}}}

    assert list(change(sent, "cleanup_policies").cleanup_policies) == ["my_rule"]
    assert list(change(sent, "cleanupPolicies.my_rule").cleanup_policies) == ["my_rule"]


@pytest.mark.parametrize(
    ("sent", "mask", "message"),
    [
        ({}, "wings", "wings is no field of a Repository"),
        ({}, "dockerConfig.wings", "dockerConfig.wings is no field of a Repository"),
        ({}, "createTime", "createTime cannot be set"),
        ({"format": "NPM"}, "", "format: it is DOCKER and cannot become NPM"),
        ({"mode": "REMOTE_REPOSITORY"}, "mode", "mode: it is unset and cannot become REMOTE_REPOSITORY"),
        ({"description": "x"}, "description.text", "description has no fields of its own"),
    ],
)  # fmt: skip
def test_what_cannot_be_changed_is_refused(sent, mask, message):
    with pytest.raises(InvalidArgumentError, match=message):
        change(sent, mask)
