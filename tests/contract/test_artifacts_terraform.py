"""The calls of Terraform's google provider and of gcloud, as their sources send them, replayed against the API."""

from __future__ import annotations

import base64
import copy
import http.client
import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Any
from urllib.parse import quote

import pytest

from hakobune.iam.policy import Binding, make_policy
from hakobune.registry.upstream_password import open_password
from tests.artifacts_world import ArtifactsWorld, artifacts_world

PARENT = "/v1/projects/hako/locations/local"


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[ArtifactsWorld]:
    with artifacts_world(tmp_path_factory.mktemp("tf")) as world:
        yield world


def send(world: ArtifactsWorld, method: str, path: str, body: Any = None, *, caller: str = "owner") -> tuple[int, dict[str, Any]]:  # fmt: skip
    """One call as Terraform's transport makes it: `alt=json`, a body only if there is one."""
    connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=10)
    mark = "&" if "?" in path else "?"
    try:
        connection.request(
            method,
            f"{path}{mark}alt=json",
            body=None if body is None else json.dumps(body),
            headers={
                "Content-Type": "application/json",
                "User-Agent": "Terraform/1.9 terraform-provider-google/dev",
                "Authorization": f"Bearer {caller}",
            },
        )
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def apply(world: ArtifactsWorld, identifier: str, body: Any) -> dict[str, Any]:
    """`resource.Create`: POST, wait for the operation by GET, read."""
    status, operation = send(world, "POST", f"{PARENT}/repositories?repository_id={identifier}", body)  # fmt: skip
    assert status == 200, operation
    status, polled = send(world, "GET", f"/v1/{operation['name']}")
    assert status == 200
    assert polled["done"]
    assert "error" not in polled
    status, read = send(world, "GET", f"{PARENT}/repositories/{identifier}")
    assert status == 200
    return read


def test_google_artifact_registry_repository_is_created_read_updated_and_destroyed(world):
    read = apply(
        world,
        "tf-docker",
        {
            "cleanupPolicies": {
                "delete-untagged": {
                    "action": "DELETE",
                    "condition": {"olderThan": "2592000s", "tagState": "UNTAGGED"},
                },
                "keep-minimum": {
                    "action": "KEEP",
                    "mostRecentVersions": {"keepCount": 5, "packageNamePrefixes": ["webapp"]},
                },
            },
            "description": "example docker repository",
            "dockerConfig": {"immutableTags": True},
            "format": "DOCKER",
            "labels": {"goog-terraform-provisioned": "true"},
        },
    )
    assert read["name"] == "projects/hako/locations/local/repositories/tf-docker"
    assert read["mode"] == "STANDARD_REPOSITORY"  # the schema's default
    assert read["dockerConfig"] == {"immutableTags": True}
    assert read["cleanupPolicies"]["delete-untagged"] == {
        "id": "delete-untagged",
        "action": "DELETE",
        "condition": {"tagState": "UNTAGGED", "olderThan": "2592000s"},
    }
    assert read["registryUri"] == "localhost:8080/hako/tf-docker"
    assert read["createTime"].endswith("Z")

    # A changed description and labels, and one policy less: three fields in the mask, percent-encoded commas.
    status, changed = send(
        world,
        "PATCH",
        f"{PARENT}/repositories/tf-docker?updateMask=description%2CcleanupPolicies%2Clabels",
        {
            "cleanupPolicies": {"keep-minimum": {"action": "KEEP", "mostRecentVersions": {"keepCount": 5}}},
            "description": "changed",
            "labels": {"env": "prod", "goog-terraform-provisioned": "true"},
        },
    )  # fmt: skip
    assert status == 200, changed
    assert changed["description"] == "changed"
    assert list(changed["cleanupPolicies"]) == ["keep-minimum"]
    assert changed["dockerConfig"] == {"immutableTags": True}

    # All policies gone: an empty map is left out of the body and named in the mask.
    status, changed = send(world, "PATCH", f"{PARENT}/repositories/tf-docker?updateMask=cleanupPolicies", {})  # fmt: skip
    assert status == 200
    assert "cleanupPolicies" not in changed

    status, operation = send(world, "DELETE", f"{PARENT}/repositories/tf-docker")
    assert status == 200
    assert operation["done"]
    assert operation["response"] == {"@type": "type.googleapis.com/google.protobuf.Empty"}
    status, gone = send(world, "GET", f"{PARENT}/repositories/tf-docker")
    assert (status, gone["error"]["code"]) == (404, 404)  # HandleNotFoundError: out of the state
    status, _ = send(world, "DELETE", f"{PARENT}/repositories/tf-docker")
    assert status == 404


def test_remote_and_virtual_repositories_keep_what_was_planned(world):
    remote = {
        "description": "docker hub",
        "dockerRepository": {"publicRepository": "DOCKER_HUB"},
    }
    custom = {"commonRepository": {"uri": "https://registry.example.com/team"}}
    read = apply(world, "tf-hub", {"format": "DOCKER", "mode": "REMOTE_REPOSITORY", "remoteRepositoryConfig": remote})  # fmt: skip
    assert read["remoteRepositoryConfig"] == remote
    read = apply(world, "tf-custom", {"format": "DOCKER", "mode": "REMOTE_REPOSITORY", "remoteRepositoryConfig": custom})  # fmt: skip
    assert read["remoteRepositoryConfig"] == custom

    policies = [
        {"id": "hub", "priority": 20, "repository": "projects/hako/locations/local/repositories/tf-hub"},
        {"id": "custom", "priority": 10, "repository": "projects/hako/locations/local/repositories/tf-custom"},
    ]  # fmt: skip
    read = apply(
        world,
        "tf-virtual",
        {
            "format": "DOCKER",
            "mode": "VIRTUAL_REPOSITORY",
            "virtualRepositoryConfig": {"upstreamPolicies": policies},
        },
    )
    assert read["virtualRepositoryConfig"]["upstreamPolicies"] == policies

    status, refused = send(world, "DELETE", f"{PARENT}/repositories/tf-hub")
    assert status == 400
    assert "is an upstream of" in refused["error"]["message"]
    for name in ("tf-virtual", "tf-hub", "tf-custom"):  # the order of the plan's references
        assert send(world, "DELETE", f"{PARENT}/repositories/{name}")[0] == 200


def test_upstream_credentials_are_changed_by_their_own_masks(world):
    secret = "/v1/projects/hako/secrets/upstream"
    status, _ = send(world, "POST", "/v1/projects/hako/secrets?secretId=upstream", {"replication": {"automatic": {}}})  # fmt: skip
    assert status == 200
    status, version = send(world, "POST", f"{secret}:addVersion", {"payload": {"data": "c2VjcmV0"}})
    assert status == 200
    assert version["name"] == "projects/hako/secrets/upstream/versions/1"
    credentials = {
        "usernamePasswordCredentials": {
            "username": "ci",
            "passwordSecretVersion": version["name"],
        }
    }
    config = {
        "commonRepository": {"uri": "https://registry.example.com"},
        "upstreamCredentials": credentials,
    }
    body = {"format": "DOCKER", "mode": "REMOTE_REPOSITORY", "remoteRepositoryConfig": config}
    assert apply(world, "tf-private", body)["remoteRepositoryConfig"] == config

    send(world, "POST", f"{secret}:addVersion", {"payload": {"data": "bmV3"}})
    changed = copy.deepcopy(config)
    creds: Any = changed["upstreamCredentials"]
    creds["usernamePasswordCredentials"]["username"] = "bot"
    creds["usernamePasswordCredentials"]["passwordSecretVersion"] = version["name"][:-1] + "2"
    prefix = "remoteRepositoryConfig.upstreamCredentials.usernamePasswordCredentials"
    status, read = send(
        world,
        "PATCH",
        f"{PARENT}/repositories/tf-private?updateMask={prefix}.username%2C{prefix}.passwordSecretVersion",
        {"remoteRepositoryConfig": changed},
    )
    assert status == 200, read
    assert read["remoteRepositoryConfig"] == changed

    async def sealed(registry) -> str:
        stored = await registry.metadata.find_repository("hako", "tf-private")
        assert "new" not in stored.remote.password
        return open_password(registry.box, stored.resource, stored.remote.password)

    assert world.ask(sealed) == "new"
    status, refused = send(
        world,
        "PATCH",
        f"{PARENT}/repositories/tf-private?updateMask={prefix}.passwordSecretVersion",
        {"remoteRepositoryConfig": {"upstreamCredentials": {"usernamePasswordCredentials": {"passwordSecretVersion": "projects/hako/secrets/none/versions/1"}}}},
    )  # fmt: skip
    assert status == 404
    assert "there is no projects/hako/secrets/none/versions/1" in refused["error"]["message"]


def test_who_may_not_read_secrets_cannot_put_one_into_a_repository(world):
    send(world, "POST", "/v1/projects/hako/secrets/guarded:addVersion", {"payload": {"data": "c2VjcmV0"}})  # fmt: skip
    grant_project(world, "roles/artifactregistry.admin", "user:eve@example.com")

    status, refused = send(
        world,
        "POST",
        f"{PARENT}/repositories?repository_id=tf-leak",
        {
            "format": "DOCKER",
            "mode": "REMOTE_REPOSITORY",
            "remoteRepositoryConfig": {
                "commonRepository": {"uri": "https://evil.example"},
                "upstreamCredentials": {
                    "usernamePasswordCredentials": {
                        "username": "x",
                        "passwordSecretVersion": "projects/hako/secrets/guarded/versions/1",
                    }
                },
            },
        },
        caller="user:eve@example.com",
    )

    assert (status, refused["error"]["status"]) == (403, "PERMISSION_DENIED")
    assert send(world, "GET", "/v1/projects/hako/secrets/guarded", caller="user:eve@example.com")[0] == 403  # fmt: skip


def grant_project(world: ArtifactsWorld, role: str, member: str) -> None:
    async def work(registry) -> None:
        current = await registry.iam.policies.get("projects/hako")
        policy = make_policy([*current.bindings, Binding(role, (member,))])
        await registry.iam.policies.set("projects/hako", policy, etag="", actor="owner")

    world.ask(work)


def test_google_artifact_registry_repository_iam_member_is_a_read_modify_write(world):
    apply(world, "tf-iam", {"format": "DOCKER"})
    url = f"{PARENT}/repositories/tf-iam"
    binding = {"role": "roles/artifactregistry.reader", "members": ["user:jane@example.com"]}

    status, policy = send(world, "GET", f"{url}:getIamPolicy")
    assert status == 200
    assert "bindings" not in policy
    stale = dict(policy)
    policy["bindings"] = [binding]
    status, _ = send(world, "POST", f"{url}:setIamPolicy", {"policy": policy})
    assert status == 200
    for _ in range(3):  # the provider reads until it has seen its change three times
        status, read = send(world, "GET", f"{url}:getIamPolicy")
        assert read["bindings"] == [binding]

    # Somebody else's apply with the policy from before: 409, which the provider retries.
    stale["bindings"] = [{"role": "roles/artifactregistry.writer", "members": ["user:joe@example.com"]}]  # fmt: skip
    status, conflict = send(world, "POST", f"{url}:setIamPolicy", {"policy": stale})
    assert (status, conflict["error"]["status"]) == (409, "ABORTED")

    read["bindings"] = []
    assert send(world, "POST", f"{url}:setIamPolicy", {"policy": read})[0] == 200
    assert "bindings" not in send(world, "GET", f"{url}:getIamPolicy")[1]

    status, gone = send(world, "GET", f"{PARENT}/repositories/tf-nobody:getIamPolicy")
    assert (status, gone["error"]["status"]) == (404, "NOT_FOUND")
    status, denied = send(world, "GET", f"{url}:getIamPolicy", caller="user:jane@example.com")
    assert (status, denied["error"]["status"]) == (403, "PERMISSION_DENIED")


def test_data_sources_read_with_their_own_escaping(world):
    apply(world, "tf-data", {"format": "DOCKER"})
    digest = world.push("hako", "tf-data", "dir/app", "v1")
    url = f"{PARENT}/repositories/tf-data"

    _, image = send(world, "GET", f"{url}/dockerImages/{quote('dir/app', safe='')}@{digest}")
    assert image["name"].endswith(f"/dockerImages/dir%2Fapp@{digest}")
    _, images = send(world, "GET", f"{url}/dockerImages?orderBy=update_time+desc&pageSize=1000")
    assert [i["tags"] for i in images["dockerImages"]] == [["v1"]]
    assert isinstance(images["dockerImages"][0]["imageSizeBytes"], str)
    _, files = send(world, "GET", f"{url}/files")
    file_id = files["files"][0]["name"].rpartition("/")[2]
    _, file = send(world, "GET", f"{url}/files/{file_id.replace(':', '%3A')}")
    assert file == files["files"][0]
    connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=10)
    connection.request("GET", f"{url}/files/{file_id.replace(':', '%3A')}:download?alt=media")
    response = connection.getresponse()
    content = response.read()
    connection.close()
    assert (response.status, len(content)) == (200, int(file["sizeBytes"]))
    assert base64.b64encode(sha256(content).digest()).decode() == file["hashes"][0]["value"]
    assert send(world, "GET", f"{url}/files/sha256%3A{'0' * 64}:download?alt=media")[0] == 404
    _, tags = send(world, "GET", f"{url}/packages/dir%2Fapp/tags")
    assert [t["name"].rpartition("/")[2] for t in tags["tags"]] == ["v1"]
    _, repositories = send(world, "GET", f"{PARENT}/repositories?filter=name%3D%22{quote('*/tf-data')}%22")  # fmt: skip
    assert [r["format"] for r in repositories["repositories"]] == ["DOCKER"]
    _, locations = send(world, "GET", "/v1/projects/hako/locations")
    assert "local" in [location["locationId"] for location in locations["locations"]]


def test_gcloud_sends_whole_repositories_without_a_mask_and_masks_in_snake_case(world):
    apply(world, "gc-clean", {"format": "DOCKER", "description": "kept"})
    url = f"{PARENT}/repositories/gc-clean"
    _, whole = send(world, "GET", url)
    whole["cleanupPolicies"] = {"old": {"id": "old", "action": "DELETE", "condition": {"tagState": "ANY"}}}  # fmt: skip
    whole["cleanupPolicyDryRun"] = True

    status, changed = send(world, "PATCH", url, whole)
    assert status == 200, changed
    assert changed["description"] == "kept"
    assert changed["cleanupPolicyDryRun"] is True
    status, changed = send(world, "PATCH", f"{url}?updateMask=cleanup_policies", {})
    assert status == 200
    assert "cleanupPolicies" not in changed
    assert changed["cleanupPolicyDryRun"] is True


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("POST", "/repositories?repositoryId=x", {"format": "DOCKER", "noCache": True}, 400, "noCache"),
        ("POST", "/repositories", {"format": "DOCKER"}, 400, "a repository needs an id"),
        ("POST", "/repositories?repositoryId=x", [], 400, "not a JSON object"),
        ("PATCH", "/repositories/none?updateMask=description", {}, 404, "there is no repository"),
        ("GET", "/repositories?pageSize=-1", None, 400, "no page size"),
        ("GET", "/repositories?filter=size%3D1", None, 400, "cannot be filtered by"),
        ("GET", "/repositories/a%2Fb", None, 400, "'a/b' is no id"),
        ("GET", "/repositories/a%00b", None, 400, "is no id"),
        ("GET", f"/repositories?pageSize={'9' * 5000}", None, 400, "no page size"),
        ("POST", "/repositories?repositoryId=x", {"format": "DOCKER", "description": "\0"}, 400, "NUL character"),
        ("POST", "/repositories?repositoryId=x", {"format": "DOCKER", "description": "\ud800"}, 400, "not JSON"),
        ("POST", "/repositories?repositoryId=x", {"description": "x" * (5 << 20)}, 400, "more than"),
        ("GET", "/operations/nothing", None, 404, "there is no operation"),
        ("GET", "/nothing", None, 404, "there is no GET"),
        ("PUT", "/repositories/x", {}, 404, "there is no PUT"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_answered_in_words(world, method, path, body, status, message):
    got, answer = send(world, method, PARENT + path, body)

    assert got == status
    assert message in answer["error"]["message"]
    assert answer["error"]["code"] == status
