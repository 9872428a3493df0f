"""The gRPC front's table is what Google's client knows of the same methods."""

from __future__ import annotations

import re

import pytest
from google.cloud import artifactregistry_v1 as ar
from google.cloud.artifactregistry_v1.services.artifact_registry.transports import rest_base

from hakobune.api.grpc_methods import ARTIFACT_REGISTRY, METHODS
from hakobune.api.grpc_transcode import find_method, to_grpc, to_http

PREFIX = f"/{ARTIFACT_REGISTRY}.ArtifactRegistry/"
BASE = rest_base._BaseArtifactRegistryRestTransport
OFFICIAL = {
    name.removeprefix("_Base"): getattr(BASE, name)
    for name in vars(BASE)
    if name.startswith("_Base") and hasattr(getattr(BASE, name), "_get_http_options")
}


@pytest.mark.parametrize("name", sorted(OFFICIAL))
def test_every_method_has_googles_binding(name):
    service = {
        "ListLocations": "/google.cloud.location.Locations/",
        "GetLocation": "/google.cloud.location.Locations/",
        "GetOperation": "/google.longrunning.Operations/",
    }.get(name, PREFIX)
    ours = METHODS[service + name]
    [binding] = OFFICIAL[name]._get_http_options()

    assert ours.verb == binding["method"].upper()
    assert ours.path == re.sub(r"=[^}]*\}", "}", binding["uri"])
    assert ours.body == binding.get("body", "")


def test_every_method_of_the_table_has_messages():
    for method in METHODS.values():
        answer = to_grpc(method, 200, b"{}")
        assert (answer.status, answer.message) == (0, b""), method


def test_a_request_becomes_a_call():
    method = find_method(PREFIX + "ListVersions")
    request = ar.ListVersionsRequest(parent="projects/p/locations/l/repositories/r/packages/a%2Fb", view="FULL", page_size=5)  # fmt: skip

    call = to_http(method, ar.ListVersionsRequest.serialize(request))

    assert call.verb == "GET"
    assert call.target == "/v1/projects/p/locations/l/repositories/r/packages/a%252Fb/versions?pageSize=5&view=FULL"  # fmt: skip
    assert call.body is None


def test_a_nested_name_goes_into_the_path_and_a_mask_into_the_query():
    method = find_method(PREFIX + "UpdateRepository")
    request = ar.UpdateRepositoryRequest(
        repository=ar.Repository(name="projects/p/locations/l/repositories/r", description="x"),
        update_mask={"paths": ["description", "docker_config.immutable_tags"]},
    )

    call = to_http(method, ar.UpdateRepositoryRequest.serialize(request))

    assert call.target == (
        "/v1/projects/p/locations/l/repositories/r"
        "?updateMask=description%2CdockerConfig.immutableTags"
    )
    assert call.body == b'{"description": "x"}'


@pytest.mark.parametrize(
    ("data", "message"), [(b"\xff", "the request is no"), (b"", "name: it is missing")]
)
def test_what_is_no_request_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        to_http(find_method(PREFIX + "GetRepository"), data)


def test_a_refusal_keeps_its_code_its_words_and_its_details():
    body = b'{"error": {"code": 409, "status": "ALREADY_EXISTS", "message": "taken", "details": [{"reason": "R", "domain": "d", "metadata": {"fix": "f"}}]}}'

    answer = to_grpc(find_method(PREFIX + "CreateTag"), 409, body)

    assert (answer.status, answer.text) == (6, "taken")
    assert b"fix" in answer.details


def test_what_no_api_answers_is_internal():
    answer = to_grpc(find_method(PREFIX + "GetTag"), 502, b"<html>")

    assert answer.status == 13
