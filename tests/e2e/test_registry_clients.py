"""docker, podman, buildah, skopeo, crane and oras, unchanged, against our registry: what each does for a living."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hakobune.oci.store import Store
from tests.e2e.docker_daemon import docker_daemon
from tests.image_maker import a_layer, an_image
from tests.real_registry import go_tool
from tests.registry_client import Answer, RegistryHttp
from tests.registry_rights import READER, WRITER, access_token, set_policy
from tests.registry_server import HakoRegistry, hako_registry

pytestmark = pytest.mark.needs_root

USER = "oauth2accesstoken"


@dataclass(frozen=True, slots=True)
class World:
    """Our registry, who may use it, and an image `shop/apps/base:1` that skopeo has pushed."""

    registry: HakoRegistry
    folder: Path
    env: Mapping[str, str]
    digest: str
    layers: tuple[str, ...]

    @property
    def host(self) -> str:
        return self.registry.host

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=120)
        if check:
            assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}{done.stdout}"
        return done

    def layers_of(self, http: RegistryHttp, name: str, reference: str) -> tuple[str, ...]:
        answer = http.send("GET", f"/v2/{name}/manifests/{reference}")
        assert answer.status == 200, answer.body
        return tuple(layer["digest"] for layer in answer.document["layers"])


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    folder = Path(tempfile.mkdtemp(prefix="hk-", dir="/var/tmp"))
    env = {
        **os.environ,
        "HOME": str(folder / "home"),
        "DOCKER_CONFIG": str(folder / "docker"),
        "REGISTRY_AUTH_FILE": str(folder / "docker/config.json"),
        "XDG_RUNTIME_DIR": str(folder / "xdg"),
    }
    for name in ("home", "docker", "xdg"):
        (folder / name).mkdir(parents=True)
    try:
        with hako_registry() as registry, Store(folder / "store") as store:
            layers = [a_layer(store, os.urandom(size)) for size in (2_000_000, 300, 50_000)]
            image = an_image(store, "base:1", layers=layers)
            world = World(
                registry, folder, env, str(image.digest), tuple(str(x.blob.digest) for x in layers)
            )
            login = ["login", "--tls-verify=false", "-u", USER, "-p", registry.owner_token]
            world.run("skopeo", *login, registry.host)
            world.run(
                "skopeo", "copy", "--dest-tls-verify=false",
                f"oci:{store.layout}:docker.io/library/base:1",
                f"docker://{registry.host}/shop/apps/base:1",
            )  # fmt: skip
            yield world
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def http(world: World) -> Iterator[RegistryHttp]:
    with world.registry.as_owner() as http:
        yield http


def test_what_skopeo_pushes_is_there(world: World, http: RegistryHttp) -> None:
    assert world.layers_of(http, "shop/apps/base", world.digest) == world.layers


def test_docker_logs_in_pulls_pushes_and_is_let_in_by_the_refresh_token(
    world: World, http: RegistryHttp
) -> None:
    config = world.folder / "docker-own"
    name = f"{world.host}/shop/apps"
    with docker_daemon() as daemon:
        env = {**daemon.env, "DOCKER_CONFIG": str(config)}

        def docker(*arguments: str, given: str = "", check: bool = True) -> str:
            done = subprocess.run(
                ["docker", *arguments], env=env, input=given, capture_output=True, text=True,
                timeout=120,
            )  # fmt: skip
            assert (done.returncode == 0) is check, f"{arguments}: {done.stderr}{done.stdout}"
            return done.stdout + done.stderr

        refused = docker("pull", f"{name}/base:1", check=False)
        docker(
            "login", "-u", USER, "--password-stdin", world.host, given=world.registry.owner_token
        )
        docker("pull", f"{name}/base:1")
        docker("tag", f"{name}/base:1", f"{name}/docker:1")
        docker("push", f"{name}/docker:1")
        docker("rmi", f"{name}/base:1", f"{name}/docker:1")
        docker("pull", f"{name}/docker:1")
        docker("tag", f"{name}/docker:1", f"{name}/docker:2")
        again = docker("push", f"{name}/docker:2")
        wrong = docker("login", "-u", USER, "-p", "hako-wrong", world.host, check=False)
        docker("logout", world.host)
        out = docker("pull", f"{name}/docker:2", check=False)

    assert "denied" in refused or "unauthorized" in refused
    assert "unauthorized" in wrong.lower()
    assert again.count("Layer already exists") == 3
    assert "denied" in out or "unauthorized" in out
    assert world.layers_of(http, "shop/apps/docker", "1") == world.layers


@pytest.mark.parametrize("tool", ["podman", "buildah"])
def test_podman_and_buildah_log_in_pull_and_push(
    tool: str, world: World, http: RegistryHttp
) -> None:
    places = ["--root", f"{world.folder}/{tool}-root", "--runroot", f"{world.folder}/{tool}-run"]
    command = (tool, *places, "--storage-driver", "vfs")
    authfile = ("--tls-verify=false", "--authfile", str(world.folder / f"{tool}-auth.json"))
    name = f"{world.host}/shop/apps"

    refused = world.run(*command, "pull", *authfile, f"{name}/base:1", check=False)
    world.run(
        *command, "login", *authfile, "-u", USER, "-p", world.registry.owner_token, world.host
    )
    world.run(*command, "pull", *authfile, f"{name}/base:1")
    world.run(*command, "push", *authfile, f"{name}/base:1", f"{name}/{tool}:1")
    world.run(*command, "push", *authfile, "--format", "v2s2", f"{name}/base:1", f"{name}/{tool}:2")
    world.run(*command, "pull", *authfile, f"{name}/{tool}:2")

    assert refused.returncode != 0
    assert len(world.layers_of(http, f"shop/apps/{tool}", "1")) == 3
    second = http.send("GET", f"/v2/shop/apps/{tool}/manifests/2")
    assert second.header("content-type").startswith(
        "application/vnd.docker.distribution.manifest.v2"
    )


def test_skopeo_copies_inspects_lists_and_deletes(world: World, http: RegistryHttp) -> None:
    name = f"docker://{world.host}/shop"
    both = ("--src-tls-verify=false", "--dest-tls-verify=false")

    world.run("skopeo", "copy", *both, f"{name}/apps/base:1", f"{name}/other/copied:a")
    world.run("skopeo", "copy", *both, f"{name}/apps/base@{world.digest}", f"{name}/other/copied:b")
    shown = world.run("skopeo", "inspect", "--tls-verify=false", f"{name}/other/copied:a").stdout
    listed = world.run("skopeo", "list-tags", "--tls-verify=false", f"{name}/other/copied").stdout
    world.run("skopeo", "delete", "--tls-verify=false", f"{name}/other/copied:a")

    assert json.loads(shown)["Digest"] == world.digest
    assert json.loads(listed)["Tags"] == ["a", "b"]
    assert http.send("GET", "/v2/shop/other/copied/manifests/a").status == 404
    assert http.send("GET", "/v2/shop/other/copied/tags/list").status == 404


def test_skopeo_pushes_every_compression_and_form(world: World, http: RegistryHttp) -> None:
    source = f"docker://{world.host}/shop/apps/base:1"
    for form, codec in (("oci", "zstd"), ("oci", "gzip"), ("v2s2", "gzip")):
        target = f"shop/apps/form-{form}-{codec}"
        world.run(
            "skopeo", "copy", "--src-tls-verify=false", "--dest-tls-verify=false",
            "--format", form, "--dest-compress-format", codec, source,
            f"docker://{world.host}/{target}:1",
        )  # fmt: skip
        back = world.folder / f"back-{form}-{codec}"
        world.run(
            "skopeo", "copy", "--src-tls-verify=false", f"docker://{world.host}/{target}:1",
            f"dir:{back}",
        )  # fmt: skip
        stored = http.send("GET", f"/v2/{target}/manifests/1")
        assert (back / "manifest.json").read_bytes() == stored.body


def test_crane_copies_validates_tags_lists_and_deletes(world: World, http: RegistryHttp) -> None:
    crane = go_tool("crane")
    name = f"{world.host}/shop/apps"

    def run(*arguments: str) -> str:
        return world.run(crane, *arguments, "--insecure").stdout.strip()

    world.run(crane, "auth", "login", world.host, "-u", USER, "-p", world.registry.owner_token)
    assert run("digest", f"{name}/base:1") == world.digest
    run("copy", f"{name}/base:1", f"{world.host}/shop/crane/app:1")
    run("tag", f"{world.host}/shop/crane/app:1", "2")
    run("validate", "--remote", f"{world.host}/shop/crane/app:2")
    assert run("ls", f"{world.host}/shop/crane/app").split() == ["1", "2"]
    assert "shop/crane/app" in run("catalog", world.host).split()
    run("delete", f"{world.host}/shop/crane/app@{world.digest}")

    assert http.send("GET", "/v2/shop/crane/app/manifests/2").status == 404


def test_crane_appends_to_an_image_and_makes_an_index(world: World) -> None:
    crane = go_tool("crane")
    layer = world.folder / "more.tar"
    world.run("tar", "-cf", str(layer), "-C", str(world.folder), "docker")
    name = f"{world.host}/shop/index/app"

    world.run(crane, "append", "--insecure", "-b", f"{world.host}/shop/apps/base:1", "-f", str(layer), "-t", f"{name}:more")  # fmt: skip
    world.run(crane, "index", "append", "--insecure", "-m", f"{name}:more", "-t", f"{name}:all")
    shown = world.run(crane, "manifest", "--insecure", f"{name}:all").stdout

    assert len(json.loads(shown)["manifests"]) == 1


def test_oras_pushes_attaches_discovers_copies_and_deletes(
    world: World, http: RegistryHttp
) -> None:
    oras = go_tool("oras")
    config = ("--plain-http", "--registry-config", str(world.folder / "oras.json"))
    (world.folder / "hello.txt").write_text("hello")
    (world.folder / "sbom.json").write_text("{}")
    name = f"{world.host}/shop/things/hello"

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [oras, *arguments], env=world.env, cwd=world.folder, capture_output=True, text=True,
            timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, f"{arguments}: {done.stderr}{done.stdout}"
        return done.stdout

    run("login", *config, "-u", USER, "-p", world.registry.owner_token, world.host)
    run(
        "push",
        *config,
        f"{name}:1",
        "hello.txt:text/plain",
        "--artifact-type",
        "application/x.hello",
    )
    run("attach", *config, f"{name}:1", "--artifact-type", "application/x.sbom", "sbom.json")
    found = json.loads(run("discover", *config, "--format", "json", f"{name}:1"))
    run("copy", "--from-plain-http", "--to-plain-http", "-r", "--from-registry-config", config[2], "--to-registry-config", config[2], f"{name}:1", f"{world.host}/shop/copies/hello:1")  # fmt: skip
    copied = json.loads(
        run("discover", *config, "--format", "json", f"{world.host}/shop/copies/hello:1")
    )
    run("pull", *config, "-o", "pulled", f"{world.host}/shop/copies/hello:1")
    assert run("repo", "tags", *config, name).split() == ["1"]
    run("manifest", "delete", *config, "--force", f"{name}:1")

    for answer in (found, copied):
        referrers = answer.get("referrers") or answer["manifests"]
        assert [entry["artifactType"] for entry in referrers] == ["application/x.sbom"]
    assert (world.folder / "pulled/hello.txt").read_text() == "hello"
    assert http.send("GET", "/v2/shop/things/hello/manifests/1").status == 404


def test_everybody_pulls_what_is_everybodys_and_pushes_nothing(world: World) -> None:
    """Every client without credentials."""
    name = f"{world.host}/shop/open/app:1"
    world.run("skopeo", "copy", "--src-tls-verify=false", "--dest-tls-verify=false", f"docker://{world.host}/shop/apps/base:1", f"docker://{name}")  # fmt: skip
    set_policy(
        world.registry, "projects/shop/locations/local/repositories/open", (READER, "allUsers")
    )
    (world.folder / "none").mkdir()
    (world.folder / "none/config.json").write_text("{}")
    env = {**world.env, "DOCKER_CONFIG": str(world.folder / "none"), "REGISTRY_AUTH_FILE": ""}
    env["HOME"] = str(world.folder / "nobody")
    nobody = replace(world, env={key: text for key, text in env.items() if text})
    places = ["--root", f"{world.folder}/open-root", "--runroot", f"{world.folder}/open-run"]
    podman = ("podman", *places, "--storage-driver", "vfs")

    with docker_daemon() as daemon:
        docker = replace(nobody, env={**daemon.env, "DOCKER_CONFIG": str(world.folder / "none")})
        docker.run("docker", "pull", name)
        pushed = docker.run("docker", "push", name, check=False)
    nobody.run(*podman, "pull", "--tls-verify=false", name)
    nobody.run(
        "skopeo", "copy", "--src-tls-verify=false", f"docker://{name}", f"dir:{world.folder}/open"
    )
    nobody.run(go_tool("crane"), "validate", "--insecure", "--remote", name)
    nobody.run(go_tool("oras"), "manifest", "fetch", "--plain-http", name)
    refused = nobody.run("skopeo", "delete", "--tls-verify=false", f"docker://{name}", check=False)

    assert pushed.returncode != 0
    assert "denied" in pushed.stderr or "unauthorized" in pushed.stderr
    assert refused.returncode != 0


def test_a_person_with_a_token_does_what_her_roles_allow(world: World, http: RegistryHttp) -> None:
    """skopeo as a reader of one repository and a writer of another."""
    token = access_token(world.registry, "ada@example.com")
    http.push_image("shop/hers/app", "1", b"to begin with")
    set_policy(world.registry, "projects/shop/locations/local/repositories/apps", (READER, "user:ada@example.com"))  # fmt: skip
    set_policy(world.registry, "projects/shop/locations/local/repositories/hers", (WRITER, "user:ada@example.com"))  # fmt: skip
    creds = f"{USER}:{token}"
    copy = ("skopeo", "copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--src-creds", creds, "--dest-creds", creds)  # fmt: skip
    base = f"docker://{world.host}/shop/apps/base:1"

    world.run(*copy, base, f"docker://{world.host}/shop/hers/app:2")
    into_apps = world.run(*copy, base, f"docker://{world.host}/shop/apps/hers:1", check=False)
    nowhere = world.run(*copy, base, f"docker://{world.host}/shop/new/app:1", check=False)
    delete = ("skopeo", "delete", "--tls-verify=false", "--creds", creds)
    deleted = world.run(*delete, f"docker://{world.host}/shop/hers/app:2", check=False)

    assert world.layers_of(http, "shop/hers/app", "2") == world.layers
    assert into_apps.returncode != 0
    assert nowhere.returncode != 0
    assert deleted.returncode != 0  # writers do not delete
    assert http.send("GET", "/v2/shop/hers/app/manifests/2").status == 200


def test_a_mount_is_answered_with_both_scopes_if_the_client_may_and_its_token_lacks_one(
    world: World, http: RegistryHttp
) -> None:
    email = "bob@example.com"
    token = access_token(world.registry, email)
    digest = http.push_blob("shop/bobs/app", b"bob's own layer")
    secret = http.push_blob("shop/secret/app", b"not bob's")
    http.push_blob("shop/target/app", b"x")
    for name, role in (("bobs", READER), ("target", WRITER)):
        set_policy(world.registry, f"projects/shop/locations/local/repositories/{name}", (role, f"user:{email}"))  # fmt: skip
    basic = base64.b64encode(f"{USER}:{token}".encode()).decode()

    def bearer(*scopes: str) -> RegistryHttp:
        with RegistryHttp(world.registry.url, authorization=f"Basic {basic}") as asking:
            answer = asking.send(
                "GET", "/v2/token", parameters=[("scope", text) for text in scopes]
            )
        return RegistryHttp(world.registry.url, authorization=f"Bearer {answer.document['token']}")

    def mount(client: RegistryHttp, digest: str, source: str) -> Answer:
        with client:
            return client.send(
                "POST", "/v2/shop/target/app/blobs/uploads/",
                parameters=[("mount", digest), ("from", source)],
            )  # fmt: skip

    target, source = "repository:shop/target/app:pull,push", "repository:shop/bobs/app:pull"
    asked = mount(bearer(target), digest, "shop/bobs/app")
    mounted = mount(bearer(target, source), digest, "shop/bobs/app")
    hidden = mount(bearer(target), secret, "shop/secret/app")
    nothing = mount(bearer(target), secret, "shop/nowhere/app")

    assert asked.status == 401
    assert f'scope="{target} {source}"' in asked.header("www-authenticate")
    assert mounted.status == 201
    assert (hidden.status, nothing.status) == (202, 202)


def test_nobody_else_is_let_in(world: World) -> None:
    with world.registry.anonymous() as http:
        for method, target in (
            ("GET", "/v2/shop/apps/base/manifests/1"),
            ("POST", "/v2/shop/apps/base/blobs/uploads/"),
            ("DELETE", f"/v2/shop/apps/base/manifests/{world.digest}"),
            ("GET", "/v2/nowhere/at/all/manifests/1"),
        ):
            answer = http.send(method, target)
            assert (answer.status, answer.code) == (401, "UNAUTHORIZED")
            assert answer.header("www-authenticate").startswith("Bearer realm=")
