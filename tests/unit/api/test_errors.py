"""Every error of ours has an answer in Google's words."""

from __future__ import annotations

import asyncio
import json

import pytest
from starlette.requests import Request

from hakobune.api.errors import ANSWERS, WORDS, answer_hako_error, canonical_word, service_domain
from hakobune.errors import HakoError
from hakobune.iam.errors import AccessDeniedError, IamError
from hakobune.registry.errors import STATUSES, RegistryError, ResourceError
from hakobune.serving.errors import NotFoundError, ServingError
from hakobune.state.errors import DatabaseError


def answer(error: HakoError, path: str = "/v1/projects/p/locations/l/repositories") -> dict:
    request = Request({"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""})  # fmt: skip
    response = asyncio.run(answer_hako_error(request, error))
    return {"http": response.status_code, **json.loads(response.body)["error"]}


@pytest.mark.parametrize(
    ("error", "code", "word"),
    [
        (NotFoundError("gone"), 404, "NOT_FOUND"),
        (ResourceError("ABORTED", "changed"), 409, "ABORTED"),
        (AccessDeniedError("no"), 403, "PERMISSION_DENIED"),
        (RegistryError("DENIED", "immutable"), 400, "FAILED_PRECONDITION"),
        (RegistryError("MANIFEST_UNKNOWN", "no such"), 404, "NOT_FOUND"),
        (RegistryError("TAG_INVALID", "bad"), 400, "INVALID_ARGUMENT"),
        (DatabaseError("busy"), 503, "UNAVAILABLE"),
        (HakoError("broken"), 500, "INTERNAL"),
    ],
)
def test_an_error_is_answered_by_its_word(error, code, word):
    body = answer(error)

    assert (body["http"], body["code"], body["status"]) == (code, code, word)


def test_the_three_facts_travel():
    body = answer(NotFoundError("no web", why="nobody made it", fix="make it"))

    assert body["message"] == "no web (nobody made it)"
    assert body["details"] == [
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "NOT_FOUND",
            "domain": "artifactregistry.googleapis.com",
            "metadata": {"why": "nobody made it", "fix": "make it"},
        }
    ]


def every_class(base: type) -> set[type]:
    return {base} | {c for sub in base.__subclasses__() for c in every_class(sub)}


def test_every_word_of_every_room_has_an_answer():
    for kind in every_class(ServingError) | every_class(IamError):
        assert kind.status in ANSWERS, kind
    for code in STATUSES:
        assert canonical_word(RegistryError(code, "x")) in ANSWERS
    assert WORDS.keys() <= STATUSES.keys()


@pytest.mark.parametrize(
    ("path", "domain"),
    [
        ("/v2/projects/p/locations/l/services", "run.googleapis.com"),
        ("/v1/projects/p/locations/l/repositories/r", "artifactregistry.googleapis.com"),
        ("/v1/projects/p/serviceAccounts", "iam.googleapis.com"),
        ("/v1/projects/p:getIamPolicy", "iam.googleapis.com"),
    ],
)
def test_a_path_belongs_to_a_service(path, domain):
    assert service_domain(path) == domain
