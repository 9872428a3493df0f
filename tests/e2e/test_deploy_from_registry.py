"""The registry as a part of the product: it runs when it is needed, images come and go by links, services are deployed from it."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

import pytest

from hakobune.distribution.unix_http import UnixConnection
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from hakobune.runtime.supervisor_client import SupervisorClient
from tests.e2e.installation import Installation
from tests.e2e.load import Load
from tests.e2e.small_installation import small_installation
from tests.registry_client import RegistryHttp

pytestmark = pytest.mark.needs_root


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with small_installation(
        tmp_path_factory.mktemp("small"), HAKO_REGISTRY_GRACE="1"
    ) as installation:
        installation.hako("image", "tag", "server", "kept")
        yield installation


@pytest.fixture(scope="module")
def host(here: Installation) -> str:
    here.hako("serve")
    return f"localhost:{here.port}"


def call(here: Installation, method: str, path: str, body: object = None) -> Any:
    """Ask the API as the owner; gives the answer's document."""
    connection = UnixConnection(str(here.home / "run/api.sock"), 60)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        document = json.loads(answer.read())
        assert answer.status == 200, document
        return document
    finally:
        connection.close()


def wait_until(done: Callable[[], object], *, what: str, timeout_s: float = 30) -> None:
    end = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < end, f"not in {timeout_s:.0f} s: {what}"
        time.sleep(0.05)


def status_of(url: str, **headers: str) -> tuple[int, Any]:
    """Status and headers of a GET."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status, answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers


def post(url: str, body: object, token: str) -> tuple[int, dict[str, Any]]:
    """Status and document of a POST with a token."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def registry_pid(here: Installation) -> int | None:
    with SupervisorClient(here.home / "run/supervisor.sock") as client:
        return next(p.pid for p in client.programs() if p.name == "registry")


def blob_files(here: Installation, room: str) -> dict[str, int]:
    """The blobs below a folder, by hex digits, with their inode numbers."""
    folder = here.home / room / "blobs"
    return {path.name: path.stat().st_ino for path in folder.rglob("*") if path.is_file()}


def layer_of(here: Installation, name: str) -> str:
    with Store(here.home) as store:
        image = store.find_image(Reference.parse(name))
        assert image is not None
        return image.manifest.layers[0].digest.hex


def running_digest(here: Installation, service: str) -> str:
    """What the service's latest revision runs, and keeps from the store's collector."""
    name = f"projects/hako/locations/local/services/{service}"
    revision = call(here, "GET", f"/v2/{name}")["latestReadyRevision"]
    with Store(here.home) as store:
        kept = store.root("services", revision)
        assert kept is not None
        (digest,) = kept
        return digest


# First of all: nothing has used the registry yet.


def test_the_registry_starts_at_the_first_request_and_answers_at_the_products_address(
    here: Installation, host: str
) -> None:
    assert registry_pid(here) is None

    status, headers = status_of(f"http://{host}/v2/")

    assert status == 401
    assert f'realm="http://{host}/' in headers["www-authenticate"]
    assert registry_pid(here) is not None
    token = here.hako("auth", "print-access-token").stdout.strip()
    assert status_of(f"http://{host}/v2/", Authorization=f"Bearer {token}")[0] == 200


def test_its_own_port_answers_with_metrics_too(here: Installation, host: str) -> None:
    own = f"http://localhost:{here.port + 41}"

    assert status_of(f"{own}/v2/")[0] == 401
    assert status_of(f"{own}/metrics")[0] == 200
    assert status_of(f"{own}/healthz")[0] == 200
    assert status_of(f"http://{host}/metrics")[0] == 404


def test_another_client_pushes_and_pulls_at_the_products_address(
    here: Installation, host: str
) -> None:
    token = here.hako("auth", "print-access-token").stdout.strip()
    layer = os.urandom(8 << 20)
    with RegistryHttp(f"http://{host}", authorization=f"Bearer {token}") as client:
        digest = client.push_image("hako/clients/web", "1", layer)

    headers = {"Authorization": f"Bearer {token}"}
    blob = f"http://{host}/v2/hako/clients/web/blobs/sha256:{sha256(layer).hexdigest()}"
    with urllib.request.urlopen(urllib.request.Request(blob, headers=headers)) as answer:
        assert answer.read() == layer

    assert digest.startswith("sha256:")


# Links


def test_an_image_goes_into_the_registry_and_back_by_hard_link(
    here: Installation, host: str
) -> None:
    name = f"{host}/hako/links/server"
    layer = layer_of(here, "server")

    pushed = here.hako("image", "push", "server", f"{name}:1")
    again = here.hako("image", "push", "server", f"{name}:1")

    assert pushed.stdout.startswith(f"{name}:1@sha256:")
    assert "is there already, unchanged" in again.stderr
    assert blob_files(here, "registry")[layer] == blob_files(here, "images")[layer]
    assert list((here.home / "registry/incoming").iterdir()) == []

    (here.home / "images/blobs/sha256" / layer).unlink()  # as if it had never been here
    pulled = here.hako("image", "pull", f"{name}:1")
    assert pulled.stdout == pushed.stdout
    assert blob_files(here, "registry")[layer] == blob_files(here, "images")[layer]


def test_a_push_does_not_need_the_blobs_bytes(here: Installation, host: str) -> None:
    """What the registry has already is linked into another repository without being sent."""
    here.hako("image", "push", "server", f"{host}/hako/links/server:2")
    before = blob_files(here, "registry")

    here.hako("image", "push", "server", f"{host}/hako/others/server:1")

    assert blob_files(here, "registry") == before
    tags = here.hako("image", "tags", f"{host}/hako/others/server").stdout
    assert tags == "1\n"


def test_an_image_is_copied_between_repositories(here: Installation, host: str) -> None:
    here.hako("image", "push", "small", f"{host}/hako/from/small:1")

    copied = here.hako("image", "copy", f"{host}/hako/from/small:1", f"{host}/hako/to/small:2")
    pulled = here.hako("image", "pull", f"{host}/hako/to/small:2")

    assert copied.stdout == pulled.stdout


def test_names_of_googles_cloud_mean_a_repository_that_is_here(
    here: Installation, host: str
) -> None:
    here.hako("image", "push", "small", f"{host}/hako/cloud/small:1")

    pushed = here.hako("image", "push", "small", "europe-west1-docker.pkg.dev/hako/cloud/small:2")
    pulled = here.hako("image", "pull", "local-docker.pkg.dev/hako/cloud/small:2")

    assert pushed.stdout.rpartition("@")[2] == pulled.stdout.rpartition("@")[2]
    assert here.hako("image", "tags", f"{host}/hako/cloud/small").stdout == "1\n2\n"


def test_what_is_not_there_is_told_in_words(here: Installation, host: str) -> None:
    done = here.hako("image", "pull", f"{host}/hako/nothing/web:1", check=False)

    assert done.returncode == 1
    assert f"cannot pull {host}/hako/nothing/web:1" in done.stderr
    assert "404" in done.stderr


# Services


def test_a_service_keeps_its_digest_when_the_tag_moves_and_its_image_when_the_registry_loses_it(
    here: Installation, host: str
) -> None:
    name = f"{host}/hako/moving/web:1"
    here.hako("image", "push", "server", name)
    here.hako("deploy", "moving", "--image", name, "--port", "9000")
    first = running_digest(here, "moving")

    here.hako("image", "push", "small", name)
    here.hako("services", "update-traffic", "moving", "--to-latest")
    assert running_digest(here, "moving") == first

    image = f"{host}/hako/moving/web"
    here.hako("image", "delete", f"{image}@{first}")
    layer = layer_of(here, "server")
    for repository in ("links", "others", "moving", "from", "to", "cloud"):
        call(here, "DELETE", f"/v1/projects/hako/locations/local/repositories/{repository}")
    wait_until(lambda: layer not in blob_files(here, "registry"), what="it is collected")
    here.hako("image", "rm", "server", "kept")
    here.hako("image", "prune")
    with SupervisorClient(here.home / "run/supervisor.sock") as client:
        for container in client.list():
            client.kill(container.id, signal.SIGKILL)
    status, body = here.get(host="moving.localhost")

    assert (status, body) == (200, b"ok\n")
    assert running_digest(here, "moving") == first
    here.hako("image", "tag", first, "kept")


def test_a_deploy_takes_what_the_tag_is_now(here: Installation, host: str) -> None:
    name = f"{host}/hako/fresh/web:1"
    here.hako("image", "push", f"{host}/hako/moving/web:1", name)
    here.hako("deploy", "fresh", "--image", name, "--port", "9000")
    old = running_digest(here, "fresh")
    token = here.hako("auth", "print-access-token").stdout.strip()
    moved = move_tag(host, "hako/fresh/web", "1", token)

    here.hako("deploy", "fresh", "--image", name, "--port", "9000")

    assert running_digest(here, "fresh") == moved != old


def move_tag(host: str, repository: str, tag: str, token: str, *, note: str = "yes") -> str:
    """Push the tag's image again with an annotation, as another client does over TCP; gives its new digest."""
    url = f"http://{host}/v2/{repository}/manifests/{tag}"
    headers = {"Authorization": f"Bearer {token}"}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
        manifest, kind = json.loads(answer.read()), answer.headers["content-type"]
    body = json.dumps({**manifest, "annotations": {"moved": note}}).encode()
    request = urllib.request.Request(url, body, {**headers, "Content-Type": kind}, method="PUT")
    with urllib.request.urlopen(request) as answer:
        return str(answer.headers["docker-content-digest"])


def test_a_remote_repository_is_deployed_from_before_anything_is_cached(
    here: Installation, host: str
) -> None:
    here.hako("image", "push", "small", f"{host}/hako/origin/library/web:1")
    here.hako("image", "push", f"{host}/hako/fresh/web:1", f"{host}/hako/origin/library/srv:1")
    call(
        here,
        "POST",
        "/v1/projects/hako/locations/local/repositories?repositoryId=hub",
        {
            "format": "DOCKER",
            "mode": "REMOTE_REPOSITORY",
            "remoteRepositoryConfig": {
                "commonRepository": {"uri": "projects/hako/locations/local/repositories/origin"}
            },
        },
    )

    url = here.hako(
        "deploy", "cached", "--image", f"{host}/hako/hub/library/srv:1", "--port", "9000"
    ).stdout.strip()
    again = here.hako(
        "deploy", "cached-2", "--image", f"{host}/hako/hub/library/srv:1", "--port", "9000"
    ).stdout.strip()

    for page in (url, again):
        with urllib.request.urlopen(page) as answer:
            assert answer.read() == b"ok\n"


def test_the_owner_deploys_from_every_project_at_the_first_try(
    here: Installation, host: str
) -> None:
    here.hako("image", "push", f"{host}/hako/fresh/web:1", f"{host}/vendor/mine/srv:1")

    here.hako("deploy", "mine", "--image", f"{host}/vendor/mine/srv:1", "--port", "9000")

    assert here.get(host="mine.localhost") == (200, b"ok\n")


def test_another_projects_image_needs_a_grant_to_the_services_agent(
    here: Installation, host: str
) -> None:
    here.hako("image", "push", f"{host}/hako/fresh/web:1", f"{host}/vendor/public/srv:1")
    here.hako(
        "projects",
        "add-iam-policy-binding",
        "hako",
        "--member=user:dev@example.com",
        "--role=roles/run.developer",
    )
    token = here.hako("auth", "print-access-token", "--account=dev@example.com").stdout.strip()

    def deploy(image: str) -> tuple[int, dict[str, Any]]:
        ports = [{"containerPort": 9000}]
        body = {"template": {"containers": [{"image": image, "ports": ports}]}}
        return post(
            f"http://localhost:{here.port}/v2/projects/hako/locations/local/services?serviceId=foreign",
            body,
            token,
        )

    name = f"{host}/vendor/public/srv:1"
    status, refused = deploy(name)
    absent_status, absent = deploy(f"{host}/vendor/nothing/srv:1")

    agent = r"service-\d{12}@serverless-robot-prod\.iam\.gserviceaccount\.com"
    message = refused["error"]["message"]
    assert (status, absent_status) == (403, 403)
    assert re.search(
        f"Google Cloud Run Service Agent {agent} must have permission to read the image, "
        + re.escape(name),
        message,
    )
    assert "which is not the same as this project [hako]" in message
    assert absent["error"]["message"] == message.replace("/public/", "/nothing/").replace(
        " public ", " nothing "
    )
    fix = re.search(r"hako (artifacts repositories add-iam-policy-binding [^'\"]*)", str(refused))
    assert fix is not None

    here.hako(*fix[1].split())
    status, operation = deploy(name)

    assert (status, "error" in operation) == (200, False)
    wait_until(
        lambda: here.get(host="foreign.localhost") == (200, b"ok\n"), what="the service answers"
    )


# When something is killed


def test_pushes_wait_while_the_registry_is_started_again(here: Installation, host: str) -> None:
    here.hako("image", "push", "small", f"{host}/hako/killed/web:0")
    for number in range(1, 4):
        wait_until(lambda: registry_pid(here) is not None, what="the registry runs")
        pid = registry_pid(here)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        here.hako("image", "push", "small", f"{host}/hako/killed/web:{number}")

        assert registry_pid(here) != pid
    assert here.hako("image", "tags", f"{host}/hako/killed/web").stdout == "0\n1\n2\n3\n"


def test_reads_at_the_products_address_do_not_notice_that_the_registry_is_killed(
    here: Installation, host: str
) -> None:
    here.hako("image", "push", "small", f"{host}/hako/reads/web:1")
    token = here.hako("auth", "print-access-token").stdout.strip()
    headers = {"Authorization": f"Bearer {token}", "Host": host}
    connection = http.client.HTTPConnection("127.0.0.1", here.port, timeout=30)
    statuses = []
    for number in range(60):
        if number % 20 == 10:
            wait_until(lambda: registry_pid(here) is not None, what="the registry runs")
            pid = registry_pid(here)
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        connection.request("GET", "/v2/hako/reads/web/manifests/1", headers=headers)
        with connection.getresponse() as answer:
            answer.read()
            statuses.append(answer.status)
        time.sleep(0.01)
    connection.close()

    assert statuses == [200] * 60


def test_the_registry_killed_in_the_middle_of_a_deploy_from_it_fails_no_request_and_no_deploy(
    here: Installation, host: str
) -> None:
    name = f"{host}/hako/fresh/web:1"
    token = here.hako("auth", "print-access-token").stdout.strip()
    here.hako("deploy", "fresh", "--image", name, "--port", "9000")
    chance = random.Random("registry")

    with Load(here.port, "fresh.localhost", rate=30) as load:
        for number in range(3):
            moved = move_tag(host, "hako/fresh/web", "1", token, note=f"killed {number}")
            deploy = here.start("deploy", "fresh", "--image", name, "--port", "9000")
            time.sleep(chance.uniform(0.05, 0.4))
            pid = registry_pid(here)
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
            _, errors = deploy.communicate(timeout=120)

            assert deploy.returncode == 0, errors
            assert running_digest(here, "fresh") == moved
    assert load.failures() == []
    assert load.refused == 0


def test_the_next_supervisor_finds_the_registry_and_its_sockets(
    here: Installation, host: str
) -> None:
    wait_until(lambda: registry_pid(here) is not None, what="the registry runs")
    pid = registry_pid(here)
    with SupervisorClient(here.home / "run/supervisor.sock") as client:
        os.kill(client.hello()["pid"], signal.SIGKILL)

    here.hako("serve")

    wait_until(lambda: registry_pid(here) is not None, what="the registry is known")
    assert registry_pid(here) == pid
    assert status_of(f"http://{host}/v2/")[0] == 401
    assert status_of(f"http://localhost:{here.port + 41}/v2/")[0] == 401


def test_a_port_of_its_own_that_is_taken_is_left_out(here: Installation, host: str) -> None:
    here.hako("serve", "--stop")
    stopped = here.hako("image", "push", "small", f"{host}/hako/apps/small:1", check=False)
    with socket.create_server(("127.0.0.1", here.port + 41)):
        here.hako("serve")
        status, _ = status_of(f"http://{host}/v2/")
    log = (here.home / "run/programs/controller.log").read_text()

    assert "connection refused" in stopped.stderr
    assert "fix: hako serve" in stopped.stderr
    assert status == 401
    assert "the registry's own port is in use by another program" in log


def test_without_its_database_it_says_so_to_all_and_services_go_on(
    here: Installation, host: str
) -> None:
    here.hako("serve", "--stop")
    here.extra_env["HAKO_REGISTRY_DATABASE"] = "postgresql://hako:secret@127.0.0.1:9/hako"
    try:
        here.hako("serve")
        refusals = [
            status_of(f"http://{address}/v2/")
            for address in (host, f"localhost:{here.port + 41}", host)
        ]
        listing = here.hako("artifacts", "repositories", "list", check=False)
        here.hako("deploy", "alone", "--image", "kept", "--port", "9000")
        page = here.get(host="alone.localhost")
    finally:
        here.hako("serve", "--stop")
        del here.extra_env["HAKO_REGISTRY_DATABASE"]

    assert [status for status, _ in refusals] == [503, 503, 503]
    assert listing.returncode == 1
    assert "cannot open the registry's database" in listing.stderr
    assert "secret" not in listing.stderr
    assert page == (200, b"ok\n")
