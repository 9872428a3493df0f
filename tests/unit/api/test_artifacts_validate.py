"""What a repository may be, and how a wrong one is told."""

from __future__ import annotations

import pytest

from hakobune.api.artifacts_documents import Mode, Repository
from hakobune.api.artifacts_names import (
    RepositoryName,
    check_place,
    check_repository_id,
    escape_id,
    image_of,
    split_image,
)
from hakobune.api.artifacts_validate import check_repository, check_upstream_unchanged
from hakobune.serving.document import read_document
from hakobune.serving.errors import InvalidArgumentError

NAME = RepositoryName("hako", "local", "web")
HUB = {"dockerRepository": {"publicRepository": "DOCKER_HUB"}}
MEMBER = {"id": "a", "repository": "projects/hako/locations/local/repositories/a", "priority": 1}


def check(**fields) -> Repository:
    return check_repository(read_document({"format": "DOCKER", **fields}, Repository), NAME)


def policy(**fields):
    return {"cleanupPolicies": {"old": fields}}


def test_a_repository_without_a_mode_is_a_standard_one():
    made = check(labels={"team": "web"})

    assert (made.name, made.mode) == (str(NAME), Mode.STANDARD_REPOSITORY)


def test_a_cleanup_policy_gets_its_id():
    made = check(
        **policy(action="DELETE", condition={"tagState": "UNTAGGED", "olderThan": "86400s"})
    )

    assert made.cleanup_policies["old"].id == "old"


def test_a_remote_and_a_virtual_repository_are_taken():
    assert check(mode="REMOTE_REPOSITORY", remoteRepositoryConfig=HUB).remote_repository_config
    assert check(mode=2, virtualRepositoryConfig={"upstreamPolicies": [MEMBER]}).mode is Mode.VIRTUAL_REPOSITORY  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": "NPM"}, "format: repositories of format NPM are not kept here"),
        ({"format": 0}, "format: a repository needs a format"),
        ({"format": 7}, "format: 7 is no value of Format"),
        ({"wings": 1}, "wings"),
        ({"name": "projects/x/locations/l/repositories/r"}, "name: it is"),
        ({"kmsKeyName": "projects/k"}, "kmsKeyName: content cannot be encrypted"),
        ({"disallowUnspecifiedMode": True}, "mode: the mode is not said"),
        ({"description": "x" * 1025}, "description: it is too long"),
        ({"labels": {"Team": "x"}}, "labels.Team: Team=x is no label"),
        ({"labels": {f"k{i}": "" for i in range(65)}}, "labels: 65 labels are too many"),
        ({"remoteRepositoryConfig": HUB}, "remoteRepositoryConfig: a repository of mode STANDARD_REPOSITORY has none"),
        ({"virtualRepositoryConfig": {}}, "virtualRepositoryConfig: a repository of mode STANDARD_REPOSITORY has none"),
        ({"mode": 3}, "remoteRepositoryConfig: a remote repository needs one"),
        (
            {"mode": 3, "remoteRepositoryConfig": {**HUB, "upstreamCredentials": {"usernamePasswordCredentials": {"username": "u"}}}},
            "credentials are a user name and a password",
        ),
        ({"mode": 3, "remoteRepositoryConfig": HUB, "dockerConfig": {"immutableTags": True}}, "dockerConfig.immutableTags: tags of a"),
        ({"mode": 2, "virtualRepositoryConfig": {"upstreamPolicies": [MEMBER, MEMBER]}}, "'a' stands twice"),
        ({"mode": 2, "virtualRepositoryConfig": {"upstreamPolicies": [{**MEMBER, "priority": -1}]}}, "priority: it is negative"),
        ({"mode": 2, "virtualRepositoryConfig": {"upstreamPolicies": [{"id": "a"}]}}, "'' is no repository's name"),
        ({"mode": 2, **policy(action="KEEP", mostRecentVersions={"keepCount": 1})}, "a virtual repository keeps nothing"),
        ({"cleanupPolicies": {f"p{i}": {} for i in range(11)}}, "cleanupPolicies: 11 policies are too many"),
        ({"cleanupPolicies": {"Old": {}}}, "'Old' is no policy's id"),
        (policy(id="new"), "cleanupPolicies.old: its id is 'new'"),
        (policy(), "cleanupPolicies.old.action: it has no action"),
        (policy(action="DELETE"), "cleanupPolicies.old: it has no condition"),
        (policy(action="KEEP", condition={"tagState": "ANY"}, mostRecentVersions={"keepCount": 1}), "cleanupPolicies.old: it has two conditions"),
        (policy(action="DELETE", mostRecentVersions={"keepCount": 1}), "can be kept, not deleted"),
        (policy(action="KEEP", mostRecentVersions={}), "keepCount: it is not positive"),
        (policy(action="KEEP", condition={}), "cleanupPolicies.old.condition: it is empty"),
        (policy(action="KEEP", condition={"tagPrefixes": ["v"]}), "tagPrefixes: prefixes of tags need tagged versions"),
        (policy(action="KEEP", condition={"olderThan": "30d"}), "olderThan: '30d' is no duration"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_its_field(fields, message):
    with pytest.raises(InvalidArgumentError) as caught:
        check(**fields)
    assert message in str(caught.value)


def test_the_upstream_of_a_remote_repository_stays():
    old = check(mode=3, remoteRepositoryConfig=HUB).remote_repository_config
    same = check(
        mode=3, remoteRepositoryConfig={**HUB, "description": "x"}
    ).remote_repository_config
    other = check(mode=3, remoteRepositoryConfig={"commonRepository": {"uri": "https://quay.io"}})

    check_upstream_unchanged(old, same)
    with pytest.raises(InvalidArgumentError, match="cannot be changed"):
        check_upstream_unchanged(old, other.remote_repository_config)


@pytest.mark.parametrize("identifier", ["", "Web", "web-", "1web", "w" * 64, "we_b", "a/b"])
def test_a_repositorys_id_follows_googles_rules(identifier):
    with pytest.raises(InvalidArgumentError):
        check_repository_id(identifier)


@pytest.mark.parametrize(("project", "location"), [("projects", "l"), ("P", "l"), ("p", "L"), ("p", "-"), ("", "l")])  # fmt: skip
def test_a_place_has_names_that_an_images_name_can_hold(project, location):
    with pytest.raises(InvalidArgumentError):
        check_place(project, location)


def test_ids_are_read_however_often_a_client_escapes_them():
    assert escape_id("dir/app") == "dir%2Fapp"
    assert image_of("dir%2Fapp") == image_of("dir/app") == "dir/app"
    assert split_image("dir%2Fapp@sha256:ab", field="name") == ("dir/app", "sha256:ab")
    with pytest.raises(InvalidArgumentError, match="names no image by its digest"):
        split_image("app:v1", field="name")
