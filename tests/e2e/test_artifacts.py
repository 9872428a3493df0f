"""`hako artifacts` and Google's client on a running installation: by the socket, and over TCP with tokens."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import google.oauth2.credentials
import pytest
from google.api_core import exceptions
from google.cloud import artifactregistry_v1 as ar

from tests.e2e.installation import HAKO, Installation, new_installation
from tests.registry_client import RegistryHttp, digest_of, image_manifest

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the client's own dependencies
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

PARENT = "projects/hako/locations/local"


@pytest.fixture(scope="module")
def hako() -> Iterator[Installation]:
    with new_installation() as installation:
        installation.hako("serve")
        yield installation


def push(hako: Installation, name: str, tag: str, layer: bytes = b"layer") -> str:
    """Push an image as the owner does, by the registry's socket; gives its digest."""
    with RegistryHttp("http://localhost", unix_socket=hako.home / "run/registry.sock") as registry:
        return registry.push_image(name, tag, layer)


def documents(hako: Installation, *arguments: str) -> list[dict]:
    return json.loads(hako.hako("artifacts", *arguments, "--format", "json").stdout)


def refusal(hako: Installation, *arguments: str) -> tuple[int, str]:
    done = hako.hako("artifacts", *arguments, check=False)
    return done.returncode, done.stderr


def test_the_life_of_a_repository(hako: Installation, tmp_path: Path) -> None:
    host = f"localhost:{hako.port}"
    made = hako.hako(
        "artifacts", "repositories", "create", "life", "--repository-format=docker",
        "--description", "first", "--labels", "team=web",
    )  # fmt: skip
    assert made.stdout == f"{host}/hako/life\n"
    digest = push(hako, "hako/life/dir/app", "v1")
    image = f"{host}/hako/life/dir/app"

    [listed] = documents(hako, "docker", "images", "list", f"{host}/hako/life", "--include-tags")
    assert (listed["package"], listed["version"], listed["tags"]) == (image, digest, ["v1"])
    hako.hako("artifacts", "docker", "tags", "add", f"{image}:v1", f"{image}:prod")
    table = hako.hako("artifacts", "docker", "tags", "list", image).stdout
    assert table.split() == ["TAG", "IMAGE", "DIGEST", "prod", image, digest, "v1", image, digest]
    other = push(hako, "hako/life/dir/app", "v2", b"another layer")
    hako.hako("artifacts", "docker", "tags", "add", f"{image}@{other}", f"{image}:prod")
    described = hako.hako("artifacts", "docker", "images", "describe", f"{image}:prod").stdout
    assert f"digest: {other}" in described
    history = hako.hako("artifacts", "docker", "tags", "history", f"{image}:prod").stdout
    assert [line.split()[2:] for line in history.splitlines()[1:]] == [
        ["prod", other, "owner"],
        ["prod", digest, "owner"],
    ]
    assert refusal(hako, "docker", "images", "delete", f"{image}:v2", "-q") == (
        1,
        f"error: {image}:v2 is not deleted\n  why: it has other tags: prod\n  fix: --delete-tags\n",
    )
    hako.hako("artifacts", "docker", "images", "delete", f"{image}:v2", "--delete-tags", "-q")
    assert [t["tag"].rpartition("/")[2] for t in documents(hako, "docker", "tags", "list", image)] == ["v1"]  # fmt: skip

    assert [p["name"].rpartition("/")[2] for p in documents(hako, "packages", "list", "--repository=life")] == ["dir%2Fapp"]  # fmt: skip
    [version] = documents(hako, "versions", "list", "--repository=life", "--package=dir/app")
    assert version["name"].endswith(f"/packages/dir%2Fapp/versions/{digest}")
    files = documents(hako, "files", "list", "--repository=life", "--package=dir/app")
    assert len(files) == 2  # the layer and the config
    of_package = ("--repository=life", "--package=dir/app")
    assert documents(hako, "files", "list", *of_package, f'--filter=name="{files[1]["name"]}"') == files[1:]  # fmt: skip
    assert documents(hako, "files", "list", *of_package, "--limit=1") == files[:1]
    assert documents(hako, "versions", "list", *of_package, '--filter=name="*:nothing"') == []
    assert len(documents(hako, "tags", "list", *of_package, '--filter=name="*/v*"')) == 1
    assert documents(hako, "packages", "list", "--repository=life", '--filter=name="*/other"') == []
    assert documents(hako, "docker", "images", "list", f"{host}/hako/life", '--filter=name="*/other@*"') == []  # fmt: skip
    for file in files:
        name = file["name"].rpartition("/")[2]
        written = hako.hako("artifacts", "files", "download", name, "--repository=life", f"--destination={tmp_path}").stdout.strip()  # fmt: skip
        assert f"sha256:{sha256(Path(written).read_bytes()).hexdigest()}" == name

    policies = tmp_path / "policies.json"
    policies.write_text(json.dumps([{"name": "old", "action": {"type": "Delete"}, "condition": {"olderThan": "30d"}}]))  # fmt: skip
    set_ = hako.hako("artifacts", "repositories", "set-cleanup-policies", "life", "--policy", str(policies), "--dry-run")  # fmt: skip
    assert set_.stderr == "Dry run is enabled.\n"
    shown = json.loads(hako.hako("artifacts", "repositories", "list-cleanup-policies", "life").stdout)  # fmt: skip
    assert shown[0]["condition"]["olderThan"] == "2592000s"
    hako.hako("artifacts", "repositories", "delete-cleanup-policies", "life", "--policynames=old")
    changed = hako.hako("artifacts", "repositories", "update", "life", "--update-labels=env=prod", "--remove-labels=team", "--no-immutable-tags").stdout  # fmt: skip
    assert "labels:\n  env: prod\n" in changed

    hako.hako("artifacts", "repositories", "delete", "life", "--quiet")
    assert "life" not in hako.hako("artifacts", "repositories", "list").stdout


def test_rights_are_granted_and_hold_over_tcp(hako: Installation) -> None:
    hako.hako("artifacts", "repositories", "create", "shared")
    token = hako.hako("auth", "print-access-token", "--account", "ada@example.com").stdout.strip()
    client = ar.ArtifactRegistryClient(
        transport="rest",
        credentials=google.oauth2.credentials.Credentials(token),
        client_options={"api_endpoint": f"http://localhost:{hako.port}"},
    )
    name = f"{PARENT}/repositories/shared"

    with pytest.raises(exceptions.Forbidden, match="denied on resource"):
        client.get_repository(name=name)
    hako.hako(
        "artifacts", "repositories", "add-iam-policy-binding", "shared",
        "--member=user:ada@example.com", "--role=roles/artifactregistry.reader",
    )  # fmt: skip
    assert client.get_repository(name=name).registry_uri == f"localhost:{hako.port}/hako/shared"
    with pytest.raises(exceptions.Forbidden, match="denied on resource"):
        client.delete_repository(name=name)
    hako.hako(
        "artifacts", "repositories", "remove-iam-policy-binding", "shared",
        "--member=user:ada@example.com", "--role=roles/artifactregistry.reader",
    )  # fmt: skip
    with pytest.raises(exceptions.Forbidden):
        client.get_repository(name=name)


def test_googles_client_manages_what_docker_pushed(hako: Installation) -> None:
    token = hako.hako("auth", "print-access-token").stdout.strip()
    client = ar.ArtifactRegistryClient(
        transport="rest",
        credentials=google.oauth2.credentials.Credentials(token),
        client_options={"api_endpoint": f"http://localhost:{hako.port}"},
    )
    client.create_repository(
        parent=PARENT, repository_id="official", repository=ar.Repository(format_="DOCKER")
    ).result(timeout=30)
    digest = push(hako, "hako/official/a/b", "v1")
    package = f"{PARENT}/repositories/official/packages/a%2Fb"

    [image] = client.list_docker_images(parent=f"{PARENT}/repositories/official")
    assert image.uri == f"localhost:{hako.port}/hako/official/a/b@{digest}"
    client.create_tag(parent=package, tag_id="v2", tag=ar.Tag(version=f"{package}/versions/{digest}"))  # fmt: skip
    with RegistryHttp("http://localhost", unix_socket=hako.home / "run/registry.sock") as registry:
        answer = registry.send("HEAD", "/v2/hako/official/a/b/manifests/v2")
    assert answer.header("docker-content-digest") == digest
    client.delete_package(name=package).result(timeout=30)
    with RegistryHttp("http://localhost", unix_socket=hako.home / "run/registry.sock") as registry:
        assert registry.send("GET", "/v2/hako/official/a/b/manifests/v2").status == 404


def test_remote_and_virtual_repositories_are_made_from_the_command_line(
    hako: Installation, tmp_path: Path
) -> None:
    secret = tmp_path / "password"
    secret.write_text("s3cret\n")
    hako.hako("artifacts", "repositories", "create", "own")
    hako.hako(
        "artifacts", "repositories", "create", "hub", "--mode=remote-repository",
        "--remote-docker-repo=https://registry.invalid/team", "--disable-remote-validation",
        "--remote-username=ci", f"--remote-password-file={secret}", "--tag-ttl=60",
    )  # fmt: skip
    policies = tmp_path / "upstreams.json"
    policies.write_text(
        json.dumps(
            [
                {"id": "own", "repository": f"{PARENT}/repositories/own", "priority": 20},
                {"id": "hub", "repository": f"{PARENT}/repositories/hub", "priority": 10},
            ]
        )
    )
    hako.hako("artifacts", "repositories", "create", "all", "--mode=virtual-repository", f"--upstream-policy-file={policies}")  # fmt: skip
    digest = push(hako, "hako/own/web", "v1")

    described = hako.hako("artifacts", "repositories", "describe", "hub").stdout
    assert "uri: https://registry.invalid/team\n" in described.replace('"', "")
    assert "passwordSecretVersion: projects/hako/secrets/artifacts-hub/versions/1\n" in described
    assert "s3cret" not in described
    assert hako.hako("secrets", "versions", "access", "latest", "--secret=artifacts-hub").stdout == "s3cret"  # fmt: skip
    with RegistryHttp("http://localhost", unix_socket=hako.home / "run/registry.sock") as registry:
        answer = registry.send("GET", "/v2/hako/all/web/manifests/v1")
    assert answer.header("docker-content-digest") == digest
    listed = hako.hako("artifacts", "docker", "images", "list", f"localhost:{hako.port}/hako/all")
    assert "its upstreams: own, hub\n" in listed.stderr


def test_what_is_attached_to_an_image_is_listed_downloaded_and_deleted(
    hako: Installation, tmp_path: Path
) -> None:
    host = f"localhost:{hako.port}"
    digest = push(hako, "hako/attached/dir/app", "v1")
    push(hako, "hako/attached/dir/app", "v2", b"another")
    with RegistryHttp("http://localhost", unix_socket=hako.home / "run/registry.sock") as registry:
        sbom = (registry.push_blob("hako/attached/dir/app", b"what is in it"), 13)
        subject = (digest, len(registry.send("GET", f"/v2/hako/attached/dir/app/manifests/{digest}").body))  # fmt: skip
        body = image_manifest([sbom], subject=subject, artifact_type="application/spdx+json")
        registry.push_manifest("hako/attached/dir/app", digest_of(body), body)
    named = f"dir/app@{digest_of(body)}"

    of_image = documents(hako, "attachments", "list", "--target", f"{host}/hako/attached/dir/app:v1")  # fmt: skip
    of_other = documents(hako, "attachments", "list", "--target", f"{host}/hako/attached/dir/app:v2")  # fmt: skip
    table = hako.hako("artifacts", "attachments", "list", "--repository=attached").stdout
    described = documents(hako, "attachments", "describe", named, "--repository=attached")
    written = hako.hako("artifacts", "attachments", "download", named, "--repository=attached", f"--destination={tmp_path}").stdout.split()  # fmt: skip
    asked = refusal(hako, "attachments", "delete", named, "--repository=attached")
    hako.hako("artifacts", "attachments", "delete", named, "--repository=attached", "-q")

    assert [a["type"] for a in of_image] == ["application/spdx+json"]
    assert of_other == []
    assert [line.split()[:3] for line in table.splitlines()[1:]] == [
        [named, "application/spdx+json", f"dir/app@{digest}"]
    ]
    assert described == of_image[0]
    assert [Path(name).read_bytes() for name in written] == [b"what is in it"]
    assert asked[0] == 2
    assert documents(hako, "attachments", "list", "--repository=attached") == []
    assert refusal(hako, "attachments", "list")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["repositories", "create", "npm", "--repository-format=npm"], 1, "repositories of format NPM are not kept here"),
        (["repositories", "create", "Bad"], 1, "'Bad' is no repository's id"),
        (["repositories", "create", "x", "--mode=remote-repository"], 2, "a remote repository needs an upstream"),
        (["repositories", "create", "x", "--remote-docker-repo=docker-hub"], 2, "--mode=remote-repository"),
        (["repositories", "create", "x", "--mode=remote-repository", "--remote-docker-repo=https://127.0.0.1:1"], 1, "does not answer as a registry"),
        (["repositories", "create", "x", "--labels=team"], 2, "is no list of KEY=VALUE"),
        (["repositories", "describe", "nobody"], 1, "hako artifacts repositories create nobody"),
        (["repositories", "delete", "nobody"], 2, "--quiet"),
        (["repositories", "updat", "nobody"], 2, "update"),
        (["docker", "images", "list", "docker.io/library/nginx"], 2, "'docker.io' is another host"),
        (["docker", "images", "list", "europe-docker.pkg.dev/hako"], 2, "is not complete"),
        (["docker", "images", "list", "europe-docker.pkg.dev/hako/nobody", "--show-occurrences"], 2, "no scanner"),
        (["docker", "images", "describe", "europe-docker.pkg.dev/hako/nobody/web"], 1, "there is no repository"),
        (["docker", "tags", "delete", "europe-docker.pkg.dev/hako/r/web", "-q"], 2, "names no tag"),
        (["docker", "tags", "add", "x-docker.pkg.dev/hako/r/a:v1", "x-docker.pkg.dev/hako/r/b:v1"], 2, "another image"),
        (["repositories", "set-cleanup-policies", "nobody", "--policy=/no/such/file"], 2, "cannot read /no/such/file"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_words(hako: Installation, arguments: list[str], code: int, message: str) -> None:  # fmt: skip
    got, text = refusal(hako, *arguments)

    assert message in text
    assert got == code
    assert text.startswith("error: ")


def test_a_quota_is_set_listed_held_and_cleared(hako: Installation) -> None:
    hako.hako("artifacts", "repositories", "create", "small")
    hako.hako("artifacts", "quotas", "set", "small", "--limit=1KB")
    hako.hako("artifacts", "quotas", "set", "--limit", "10GiB")
    push(hako, "hako/small/web", "v1", b"x" * 500)

    quotas = {q["name"]: q for q in documents(hako, "quotas", "list")}
    small = quotas[f"{PARENT}/repositories/small/storageQuota"]
    assert (small["limitBytes"], small["usedBytes"]) == ("1000", "502")
    assert quotas["projects/hako/storageQuota"]["limitBytes"] == str(10 * 2**30)
    with pytest.raises(AssertionError, match="the quota of projects/hako/locations/local"):
        push(hako, "hako/small/web", "v2", b"y" * 500)
    hako.hako("artifacts", "quotas", "clear", "small")
    hako.hako("artifacts", "quotas", "clear")
    push(hako, "hako/small/web", "v2", b"y" * 500)
    assert documents(hako, "quotas", "list") == []


def test_deleting_asks_who_can_be_asked(hako: Installation) -> None:
    hako.hako("artifacts", "repositories", "create", "kept")
    command = [HAKO, "artifacts", "repositories", "delete", "kept"]
    master, slave = pty.openpty()
    try:
        with subprocess.Popen(
            command, env=hako.env, stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as asked:  # fmt: skip
            os.write(master, b"n\n")
            _, text = asked.communicate(timeout=30)
    finally:
        os.close(master)
        os.close(slave)

    assert asked.returncode == 1
    assert "This will delete projects/hako/locations/local/repositories/kept" in text
    assert "kept" in hako.hako("artifacts", "repositories", "list").stdout
