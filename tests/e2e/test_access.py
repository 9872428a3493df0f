"""Access to the registry by roles, as real clients meet it: docker, podman and skopeo through the credential helper, Google's libraries."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import google.auth.exceptions
import google.oauth2.credentials
import pytest
import requests
from google.api_core.exceptions import Conflict, Forbidden
from google.auth import impersonated_credentials
from google.auth.transport.requests import AuthorizedSession
from google.cloud import artifactregistry_v1
from google.iam.v1 import iam_policy_pb2, policy_pb2
from google.oauth2 import service_account

from hakobune.oci.store import Store
from tests.e2e.docker_daemon import docker_daemon
from tests.e2e.installation import HAKO, Installation, new_installation
from tests.image_maker import an_image

pytestmark = pytest.mark.needs_root

READER = "roles/artifactregistry.reader"
WRITER = "roles/artifactregistry.writer"
PROJECT = "shop"
BUILDER = f"builder@{PROJECT}.iam.gserviceaccount.com"
VIEWER = f"viewer1@{PROJECT}.iam.gserviceaccount.com"
REPOSITORY = f"projects/{PROJECT}/locations/local/repositories/apps"


@dataclass(slots=True)
class Person:
    """Somebody at this machine with a home of his own."""

    home: Path
    env: Mapping[str, str] = field(default_factory=dict)

    def run(
        self, *command: str, given: str = "", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, env=self.env, input=given, capture_output=True, text=True, timeout=120
        )
        if check:
            assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}{done.stdout}"
        return done


@dataclass(slots=True)
class World:
    """A running installation whose owner has pushed `shop/apps/web:1`; an account that may push there, one that may not."""

    installation: Installation
    folder: Path
    layout: str
    builder_key: Path
    viewer_key: Path

    @property
    def host(self) -> str:
        return f"localhost:{self.installation.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def person(self, name: str) -> Person:
        """A new one, who has no credentials."""
        home = self.folder / name
        for part in (".local/bin", "run", "storage"):
            (home / part).mkdir(parents=True, exist_ok=True)
        (home / "storage.conf").write_text(
            f'[storage]\ndriver = "vfs"\nrunroot = "{home}/run"\ngraphroot = "{home}/storage"\n'
        )
        env = {
            **self.installation.env,
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(home / "run"),
            "CONTAINERS_STORAGE_CONF": str(home / "storage.conf"),
            "PATH": f"{home}/.local/bin:{os.environ['PATH']}",
        }
        for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_CONFIG_HOME"):
            env.pop(name, None)
        return Person(home, env)

    def push(self, person: Person, name: str) -> subprocess.CompletedProcess[str]:
        return person.run(
            "skopeo", "copy", "--dest-tls-verify=false", self.layout, f"docker://{self.host}/{name}",
            check=False,
        )  # fmt: skip

    def pull(self, person: Person, name: str) -> subprocess.CompletedProcess[str]:
        return person.run(
            "skopeo", "inspect", "--tls-verify=false", f"docker://{self.host}/{name}", check=False
        )

    def policy(self, verb: str, role: str, member: str) -> None:
        self.installation.hako(
            "projects", f"{verb}-iam-policy-binding", PROJECT, f"--member={member}", f"--role={role}"
        )  # fmt: skip


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    folder = Path(tempfile.mkdtemp(prefix="hk-", dir="/var/tmp"))
    try:
        with new_installation() as installation, Store(folder / "store") as store:
            installation.hako("serve")
            an_image(store, "web:1")
            keys = []
            for name, email in (("builder", BUILDER), ("viewer1", VIEWER)):
                accounts = ("iam", "service-accounts")
                installation.hako(*accounts, "create", name, f"--project={PROJECT}")
                keys.append(folder / f"{name}.json")
                installation.hako(
                    *accounts, "keys", "create", str(keys[-1]), f"--iam-account={email}"
                )
            world = World(
                installation, folder, f"oci:{store.layout}:docker.io/library/web:1", *keys
            )
            owner = world.person("owner-of-all")
            owner.run(HAKO, "auth", "configure-docker")
            pushed = world.push(owner, f"{PROJECT}/apps/web:1")
            assert pushed.returncode == 0, pushed.stderr
            world.policy("add", WRITER, f"serviceAccount:{BUILDER}")
            world.policy("add", READER, f"serviceAccount:{VIEWER}")
            yield world
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_key_file_is_readable_by_who_made_it_alone(world: World) -> None:
    assert world.builder_key.stat().st_mode & 0o777 == 0o600


def test_the_owner_pushes_and_pulls_with_docker_podman_and_skopeo_without_logging_in(
    world: World,
) -> None:
    owner = world.person("owner")
    printed = owner.run(HAKO, "auth", "configure-docker", "us-docker.pkg.dev")
    name = f"{world.host}/{PROJECT}/apps"

    owner.run("podman", "pull", "--tls-verify=false", f"{name}/web:1")
    owner.run("podman", "push", "--tls-verify=false", f"{name}/web:1", f"{name}/podman:1")
    owner.run("skopeo", "inspect", "--tls-verify=false", f"docker://{name}/podman:1")
    with docker_daemon() as daemon:
        path = f"{owner.home}/.local/bin:{daemon.env['PATH']}"
        docker = Person(owner.home, {**owner.env, **daemon.env, "HOME": str(owner.home), "PATH": path})  # fmt: skip
        docker.run("docker", "pull", f"{name}/podman:1")
        docker.run("docker", "tag", f"{name}/podman:1", f"{name}/docker:1")
        docker.run("docker", "push", f"{name}/docker:1")

    config = json.loads((owner.home / ".docker/config.json").read_text())
    assert world.host in printed.stdout.split()
    assert config["credHelpers"].keys() >= {world.host, "us-docker.pkg.dev"}
    assert "auths" not in config  # nothing secret is written down
    helper = owner.home / ".local/bin" / f"docker-credential-{config['credHelpers'][world.host]}"
    assert "eyJ" not in helper.read_text()


def test_docker_stores_logins_in_the_helper_and_takes_them_out_again(world: World) -> None:
    person = world.person("helped")
    person.run(HAKO, "auth", "configure-docker")
    helper = next((person.home / ".local/bin").iterdir())
    login = {"ServerURL": world.host, "Username": "_json_key", "Secret": "s3cret"}

    def ask(verb: str, given: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return person.run(str(helper), verb, given=given, check=check)

    before = json.loads(ask("get", world.host).stdout)
    ask("store", json.dumps(login))
    stored = json.loads(ask("get", f"http://{world.host}").stdout)
    listed = json.loads(ask("list", "").stdout)
    ask("erase", world.host)
    after = json.loads(ask("get", world.host).stdout)
    foreign = ask("get", "https://index.docker.io/v1/", check=False)
    [kept] = (person.home / ".config/hakobune").iterdir()

    assert before["Username"] == after["Username"] == "oauth2accesstoken"
    assert (stored["Username"], stored["Secret"]) == ("_json_key", "s3cret")
    assert listed[world.host] == "_json_key"
    assert (foreign.returncode, foreign.stdout) == (1, "credentials not found in native keychain\n")
    assert kept.stat().st_mode & 0o777 == 0o600


def test_a_writer_pushes_and_a_reader_does_not(world: World) -> None:
    builder, viewer = world.person("builder"), world.person("viewer")
    for person, key in ((builder, world.builder_key), (viewer, world.viewer_key)):
        person.run(
            "skopeo", "login", "--tls-verify=false", "-u", "_json_key", "--password-stdin", world.host,
            given=key.read_text(),
        )  # fmt: skip

    pushed = world.push(builder, f"{PROJECT}/apps/builder:1")
    refused = world.push(viewer, f"{PROJECT}/apps/viewer:1")
    elsewhere = world.push(builder, "other/apps/builder:1")
    nowhere = world.push(builder, f"{PROJECT}/unknown/builder:1")

    assert pushed.returncode == 0, pushed.stderr
    assert world.pull(viewer, f"{PROJECT}/apps/builder:1").returncode == 0
    for failed in (refused, elsewhere, nowhere):
        assert failed.returncode
        assert "denied" in failed.stderr or "403 (Forbidden)" in failed.stderr


def test_containerd_gets_its_tokens_by_forms(world: World) -> None:
    name = f"{world.host}/{PROJECT}/apps/web:1"
    secrets = {"_json_key": world.viewer_key.read_text(), "nobody": ""}
    with docker_daemon() as daemon:
        folder = daemon.env["DOCKER_HOST"].removeprefix("unix://").removesuffix("/docker.sock")
        ctr = (
            "ctr",
            "-a",
            f"{folder}/exec/containerd/containerd.sock",
            "-n",
            "hako-test",
            "images",
        )
        answers = {}
        for user, secret in secrets.items():
            who = ["--user", f"{user}:{secret}"] if secret else []
            answers[user] = subprocess.run(
                [*ctr, "pull", "--plain-http", *who, name],
                capture_output=True,
                text=True,
                timeout=60,
            )
            subprocess.run([*ctr, "rm", "--sync", name], capture_output=True, timeout=60)

    assert answers["_json_key"].returncode == 0, answers["_json_key"].stderr
    assert "authorization failed" in answers["nobody"].stderr


def test_docker_logs_in_with_a_key_and_keeps_a_refresh_token_instead_of_it(world: World) -> None:
    person = world.person("docker-user")
    with docker_daemon() as daemon:
        docker = Person(person.home, {**person.env, **daemon.env, "HOME": str(person.home)})
        docker.run(
            "docker", "login", "-u", "_json_key", "--password-stdin", world.host,
            given=world.builder_key.read_text(),
        )  # fmt: skip
        docker.run("docker", "pull", f"{world.host}/{PROJECT}/apps/web:1")
        docker.run("docker", "tag", f"{world.host}/{PROJECT}/apps/web:1", f"{world.host}/{PROJECT}/apps/login:1")  # fmt: skip
        docker.run("docker", "push", f"{world.host}/{PROJECT}/apps/login:1")
    entry = json.loads((person.home / ".docker/config.json").read_text())["auths"][world.host]

    assert entry["identitytoken"].startswith("hkr-")
    assert "PRIVATE" not in json.dumps(entry)


def test_everybody_pulls_what_is_public_and_nobody_learns_what_is_private(world: World) -> None:
    stranger = world.person("stranger")
    name = f"{PROJECT}/apps/web:1"

    private = world.pull(stranger, name)
    missing = world.pull(stranger, f"{PROJECT}/nothing/web:1")
    world.policy("add", READER, "allUsers")
    public = world.pull(stranger, name)
    pushed = world.push(stranger, name)
    world.policy("remove", READER, "allUsers")
    again = world.pull(stranger, name)

    assert private.returncode
    assert private.stderr.split("level=")[1].replace("apps", "X") == missing.stderr.split("level=")[1].replace("nothing", "X")  # fmt: skip
    assert public.returncode == 0, public.stderr
    assert pushed.returncode
    assert again.returncode


def test_tokens_of_users_and_groups_count_at_once(world: World) -> None:
    hako = world.installation.hako
    token = hako("auth", "print-access-token", "--account=alice@example.com").stdout.strip()
    alice = world.person("alice")
    login = ("skopeo", "login", "--tls-verify=false", "-u", "oauth2accesstoken", "--password-stdin", world.host)  # fmt: skip
    alice.run(*login, given=token)
    name = f"{PROJECT}/apps/web:1"

    before = world.pull(alice, name)
    hako("identity", "groups", "create", "team@example.com")
    world.policy("add", READER, "group:team@example.com")
    hako("identity", "groups", "memberships", "add", "--group-email=team@example.com", "--member-email=alice@example.com")  # fmt: skip
    inside = world.pull(alice, name)
    hako("identity", "groups", "delete", "team@example.com")
    after = world.pull(alice, name)

    assert "downloadArtifacts" in before.stderr
    assert inside.returncode == 0, inside.stderr
    assert after.returncode


def test_a_repository_before_another_projects_shows_what_its_agent_may_read(world: World) -> None:
    hako = world.installation.hako
    policy = world.folder / "upstreams.json"
    policy.write_text(json.dumps([{"id": "one", "repository": REPOSITORY, "priority": 1}]))
    create = ("artifacts", "repositories", "create")
    other = ("--project=elsewhere", "--repository-format=docker")
    hako(*create, "all", *other, "--mode=virtual-repository", f"--upstream-policy-file={policy}")
    hako(*create, "near", *other, "--mode=remote-repository", f"--remote-docker-repo={REPOSITORY}")
    [line] = [x for x in hako("projects", "describe", "elsewhere").stdout.splitlines() if "registry" in x]  # fmt: skip
    grant = ("artifacts", "repositories", "{}-iam-policy-binding", "apps", f"--project={PROJECT}",
             f"--member=serviceAccount:{line.split()[-1]}", f"--role={READER}")  # fmt: skip
    owner = world.person("owner-of-virtual")
    owner.run(HAKO, "auth", "configure-docker")

    def pulls() -> list[bool]:
        answers = [world.pull(owner, f"elsewhere/{name}/web:1") for name in ("all", "near")]
        assert all(a.returncode == 0 or "gcp-sa-artifactregistry" in a.stderr for a in answers)
        return [answer.returncode == 0 for answer in answers]

    before = pulls()
    hako(*(part.format("add") for part in grant))
    granted = pulls()
    hako(*(part.format("remove") for part in grant))

    assert (before, granted) == ([False, False], [True, True])
    assert pulls()[0] is False


def test_googles_library_gets_tokens_with_the_key_file_as_it_is(world: World) -> None:
    credentials = service_account.Credentials.from_service_account_file(
        str(world.builder_key), scopes=["https://www.googleapis.com/auth/cloud-platform"]
    )
    path = f"{world.url}/v1/projects/{PROJECT}"

    with AuthorizedSession(credentials) as session:
        listed = session.get(f"{path}/locations/local/repositories")
        refused = session.get(f"{path}/serviceAccounts")

    assert listed.status_code == 200, listed.text
    assert REPOSITORY in [repository["name"] for repository in listed.json()["repositories"]]
    assert (refused.status_code, refused.json()["error"]["status"]) == (403, "PERMISSION_DENIED")


def test_googles_library_impersonates_an_account_that_may_be_impersonated(world: World) -> None:
    hako = world.installation.hako
    source = service_account.Credentials.from_service_account_file(
        str(world.viewer_key), scopes=["https://www.googleapis.com/auth/iam"]
    )
    credentials = impersonated_credentials.Credentials(
        source_credentials=source,
        target_principal=BUILDER,
        target_scopes=["https://www.googleapis.com/auth/cloud-platform"],
        lifetime=600,
        iam_endpoint_override=f"{world.url}/v1/projects/-/serviceAccounts/{BUILDER}:generateAccessToken",
    )
    grant = (BUILDER, f"--member=serviceAccount:{VIEWER}", "--role=roles/iam.serviceAccountTokenCreator")  # fmt: skip

    with AuthorizedSession(credentials) as session:
        with pytest.raises(google.auth.exceptions.RefreshError, match="getAccessToken"):
            credentials.refresh(session._auth_request)
        hako("iam", "service-accounts", "add-iam-policy-binding", *grant)
        tested = session.post(
            f"{world.url}/v1/projects/{PROJECT}:testIamPermissions",
            json={"permissions": ["artifactregistry.repositories.uploadArtifacts"]},
        )

    assert tested.json() == {"permissions": ["artifactregistry.repositories.uploadArtifacts"]}


def test_googles_client_signs_its_own_tokens_and_sets_policies_under_their_etag(
    world: World,
) -> None:
    hako = world.installation.hako
    options = {"api_endpoint": world.url}
    builder = artifactregistry_v1.ArtifactRegistryClient.from_service_account_file(
        str(world.builder_key), client_options=options, transport="rest"
    )
    owner = artifactregistry_v1.ArtifactRegistryClient(
        transport="rest", client_options=options,
        credentials=google.oauth2.credentials.Credentials(hako("auth", "print-access-token").stdout.strip()),
    )  # fmt: skip
    get = iam_policy_pb2.GetIamPolicyRequest(resource=REPOSITORY)

    images = list(builder.list_docker_images(parent=REPOSITORY))
    with pytest.raises(Forbidden):
        builder.get_iam_policy(request=get)
    policy = owner.get_iam_policy(request=get)
    binding = policy_pb2.Binding(role=READER, members=[f"serviceAccount:{VIEWER}"])
    wanted = policy_pb2.Policy(bindings=[binding], etag=policy.etag)
    change = iam_policy_pb2.SetIamPolicyRequest(resource=REPOSITORY, policy=wanted)
    kept = owner.set_iam_policy(request=change)
    with pytest.raises(Conflict, match="concurrent policy changes"):
        owner.set_iam_policy(request=change)

    assert images
    assert [(b.role, list(b.members)) for b in kept.bindings] == [(READER, list(binding.members))]
    builder.transport.close()
    owner.transport.close()


def test_a_deleted_key_gets_no_tokens_and_old_ones_live_out_their_hour(world: World) -> None:
    hako = world.installation.hako
    account = f"--iam-account={BUILDER}"
    file = world.folder / "short-lived.json"
    keys = ("iam", "service-accounts", "keys")
    hako(*keys, "create", str(file), account)
    credentials = service_account.Credentials.from_service_account_file(str(file), scopes=["x"])
    key_id = json.loads(file.read_text())["private_key_id"]
    url = f"{world.url}/v1/projects/{PROJECT}/locations/local/repositories"

    with AuthorizedSession(credentials) as session:
        assert session.get(url).status_code == 200
        hako(*keys, "delete", key_id, account, "--quiet")
        old = session.get(url).status_code
        with pytest.raises(google.auth.exceptions.RefreshError, match="invalid_grant"):
            credentials.refresh(session._auth_request)

    assert old == 200
    assert key_id not in hako(*keys, "list", account).stdout


def test_signing_keys_rotate_while_clients_work(world: World) -> None:
    hako = world.installation.hako
    token = hako("auth", "print-access-token", "--account=bob@example.com").stdout.strip()
    url = f"{world.url}/v1/roles"

    statuses = [_status(url, token)]
    for how in ([], ["--revoke-tokens"]):
        hako("iam", "signing-keys", "rotate", *how)
        statuses.append(_status(url, token))

    assert statuses == [200, 200, 401]
    owner = world.person("owner-again")
    owner.run(HAKO, "auth", "configure-docker")
    assert world.pull(owner, f"{PROJECT}/apps/web:1").returncode == 0


def _status(url: str, token: str) -> int:
    return requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=30).status_code


def test_no_secret_is_in_a_log_of_the_installation(world: World) -> None:
    secrets = [json.loads(world.builder_key.read_text())["private_key"][60:120], "hkr-"]
    files = [p for p in world.installation.home.rglob("*") if p.is_file() and p.suffix in (".log", "")]  # fmt: skip
    logs = [p for p in files if "log" in p.name]

    assert logs
    for log in logs:
        text = log.read_text(errors="replace")
        assert not any(secret in text for secret in secrets), log
