"""Every field of our Artifact Registry documents is one of the official protos', with its kind and its numbers."""

from __future__ import annotations

import pytest
from google.cloud import artifactregistry_v1 as official
from google.protobuf import json_format

from hakobune.api import artifacts_documents as ours
from hakobune.serving.document import Document, read_document, write_document
from tests.proto_fields import differences

ROOTS = [
    (ours.Repository, official.Repository),
    (ours.DockerImage, official.DockerImage),
    (ours.Package, official.Package),
    (ours.Version, official.Version),
    (ours.Tag, official.Tag),
    (ours.File, official.File),
    (ours.Attachment, official.Attachment),
    (ours.ProjectSettings, official.ProjectSettings),
]
NUMBERS = [
    (ours.Format, official.Repository.Format),
    (ours.Mode, official.Repository.Mode),
    (ours.TagState, official.CleanupPolicyCondition.TagState),
    (ours.Action, official.CleanupPolicy.Action),
    (ours.HashType, official.Hash.HashType),
    (ours.RedirectionState, official.ProjectSettings.RedirectionState),
    (
        ours.PublicRepository,
        official.RemoteRepositoryConfig.DockerRepository.PublicRepository,
    ),
    (
        ours.EnablementConfig,
        official.Repository.VulnerabilityScanningConfig.EnablementConfig,
    ),
    (
        ours.EnablementState,
        official.Repository.VulnerabilityScanningConfig.EnablementState,
    ),
]


@pytest.mark.parametrize(("struct", "message"), ROOTS)
def test_our_documents_have_no_field_that_the_protos_lack(struct, message):
    assert differences(struct, message.pb().DESCRIPTOR, struct.__name__) == []


def test_a_field_that_no_proto_has_would_be_found():
    class Odd(Document, frozen=True):
        wings: int = 0

    assert differences(Odd, official.Repository.pb().DESCRIPTOR, "Odd") == [
        "Odd.wings is in no proto"
    ]


@pytest.mark.parametrize(("mine", "theirs"), NUMBERS)
def test_enums_are_read_by_the_protos_numbers(mine, theirs):
    assert {value.name: mine.from_number(value.value) for value in theirs} == {
        value.name: mine(value.name) for value in theirs
    }
    assert mine.from_number(99) is None


def test_what_the_official_client_sends_is_read_whole():
    sent = official.Repository(
        format_=official.Repository.Format.DOCKER,
        mode=official.Repository.Mode.REMOTE_REPOSITORY,
        labels={"team": "web"},
        remote_repository_config=official.RemoteRepositoryConfig(
            docker_repository=official.RemoteRepositoryConfig.DockerRepository(
                public_repository="DOCKER_HUB"
            ),
        ),
        cleanup_policies={
            "old": official.CleanupPolicy(
                id="old",
                action="DELETE",
                condition=official.CleanupPolicyCondition(
                    tag_state="UNTAGGED", older_than={"seconds": 3600}
                ),
            )
        },
    )
    wire = json_format.MessageToDict(
        official.Repository.pb(sent), use_integers_for_enums=True, preserving_proto_field_name=False
    )

    read = read_document(wire, ours.Repository)

    assert read.mode is ours.Mode.REMOTE_REPOSITORY
    assert read.cleanup_policies["old"].action is ours.Action.DELETE
    condition = read.cleanup_policies["old"].condition
    assert condition is not None
    assert (condition.tag_state, condition.older_than) == (ours.TagState.UNTAGGED, "3600s")
    again = json_format.ParseDict(write_document(read), official.Repository.pb()())
    assert again == official.Repository.pb(sent)


def test_the_protos_own_spelling_is_read_too():
    wire = {"cleanup_policies": {"my_rule": {"most_recent_versions": {"keep_count": 3}}}}

    read = read_document(wire, ours.Repository)

    recent = read.cleanup_policies["my_rule"].most_recent_versions
    assert recent is not None
    assert recent.keep_count == 3
