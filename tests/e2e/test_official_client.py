"""Google's own client, unmodified, over REST against this controller; and who is let in over TCP."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import google.oauth2.credentials
import pytest
from google.api_core import exceptions
from google.cloud import run_v2
from google.longrunning import operations_pb2
from google.protobuf import field_mask_pb2, json_format

from tests.e2e.installation import ROOT, Installation
from tests.e2e.load import ask

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the client's own dependencies
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

PARENT = "projects/hako/locations/local"


@pytest.fixture(scope="module")
def image(shared_installation: Installation) -> str:
    """An image that answers, and a controller that runs."""
    folder = str(ROOT / "examples/procfile-shell")
    built = shared_installation.hako("build", "hako/apps/official", "--path", folder)
    shared_installation.hako("serve")
    return built.stdout.strip()


def a_client(installation: Installation, token: str) -> run_v2.ServicesClient:
    return run_v2.ServicesClient(
        transport="rest",
        credentials=google.oauth2.credentials.Credentials(token),
        client_options={"api_endpoint": f"http://localhost:{installation.port}"},
    )


@pytest.fixture(scope="module")
def token(shared_installation: Installation, image: str) -> str:
    return shared_installation.hako("auth", "print-access-token").stdout.strip()


@pytest.fixture
def client(
    shared_installation: Installation, image: str, token: str
) -> Iterator[run_v2.ServicesClient]:
    """The client; the services that a test made are deleted after it."""
    client = a_client(shared_installation, token)
    before = {service.name for service in client.list_services(parent=PARENT)}
    yield client
    left = [s.name for s in client.list_services(parent=PARENT) if s.name not in before]
    for operation in [client.delete_service(name=name) for name in left]:
        operation.result(timeout=60)


def a_service(image: str, **env: str) -> run_v2.Service:
    variables = [run_v2.EnvVar(name=name, value=value) for name, value in env.items()]
    container = run_v2.Container(image=image, env=variables)
    return run_v2.Service(template=run_v2.RevisionTemplate(containers=[container]))


def create(client: run_v2.ServicesClient, name: str, image: str) -> run_v2.Service:
    operation = client.create_service(parent=PARENT, service=a_service(image), service_id=name)
    service: run_v2.Service = operation.result(timeout=60)
    return service


def test_a_service_is_created_read_changed_split_and_deleted(
    client: run_v2.ServicesClient, shared_installation: Installation, token: str, image: str
) -> None:
    made = create(client, "official", image)

    assert made.name == f"{PARENT}/services/official"
    assert made.terminal_condition.state == run_v2.Condition.State.CONDITION_SUCCEEDED
    assert made.latest_ready_revision.endswith("/revisions/official-00001")
    assert made.uri.startswith("http://")
    assert made.create_time.year >= 2024
    answer = ask(shared_installation.port, "official.localhost")
    assert answer.body == b"Hello from perl.\n"

    wanted = client.get_service(name=made.name)
    wanted.template = a_service(image, COLOUR="blue").template
    wanted.description = "is not in the mask"
    mask = field_mask_pb2.FieldMask(paths=["template"])
    changed = client.update_service(
        request=run_v2.UpdateServiceRequest(service=wanted, update_mask=mask)
    ).result(timeout=60)
    assert changed.latest_ready_revision.endswith("/revisions/official-00002")
    assert changed.template.containers[0].env[0].value == "blue"
    assert changed.description == ""

    kind = run_v2.TrafficTargetAllocationType
    changed.traffic = [
        run_v2.TrafficTarget(
            type_=kind.TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION,
            revision="official-00001",
            percent=40,
            tag="old",
        ),
        run_v2.TrafficTarget(type_=kind.TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST, percent=60),
    ]
    mask = field_mask_pb2.FieldMask(paths=["traffic"])
    split = client.update_service(
        request=run_v2.UpdateServiceRequest(service=changed, update_mask=mask)
    ).result(timeout=60)
    assert [(t.revision, t.percent) for t in split.traffic_statuses] == [
        ("official-00001", 40),
        ("official-00002", 60),
    ]
    assert ask(shared_installation.port, "old---official.localhost").status == 200

    revisions = run_v2.RevisionsClient(
        transport="rest",
        credentials=google.oauth2.credentials.Credentials(token),
        client_options={"api_endpoint": f"http://localhost:{shared_installation.port}"},
    )
    names = [r.name.rpartition("/")[2] for r in revisions.list_revisions(parent=made.name)]
    assert names == ["official-00002", "official-00001"]

    client.delete_service(name=made.name).result(timeout=60)
    with pytest.raises(exceptions.NotFound):
        client.get_service(name=made.name)
    assert ask(shared_installation.port, "official.localhost").status == 404


def test_services_are_listed_page_by_page(client: run_v2.ServicesClient, image: str) -> None:
    for name in ("page-a", "page-b", "page-c"):
        create(client, name, image)

    request = run_v2.ListServicesRequest(parent=PARENT, page_size=2)
    pages = list(client.list_services(request=request).pages)

    assert all(len(page.services) <= 2 for page in pages)
    names = {service.name.rpartition("/")[2] for page in pages for service in page.services}
    assert {"page-a", "page-b", "page-c"} <= names


def test_refusals_are_the_exceptions_that_the_client_knows(
    client: run_v2.ServicesClient, image: str
) -> None:
    create(client, "once", image)

    with pytest.raises(exceptions.Conflict, match="exists"):
        create(client, "once", image)
    with pytest.raises(exceptions.NotFound):
        client.get_service(name=f"{PARENT}/services/nobody")
    with pytest.raises(exceptions.BadRequest, match="image"):
        create(client, "empty", "")
    stale = client.get_service(name=f"{PARENT}/services/once")
    stale.etag = '"old"'
    with pytest.raises(exceptions.Conflict, match="etag"):
        client.update_service(service=stale)


def test_a_revision_that_cannot_start_fails_the_operation_in_words(
    client: run_v2.ServicesClient, image: str
) -> None:
    service = a_service(image)
    service.template.containers[0].command = ["/no/such/program"]

    operation = client.create_service(parent=PARENT, service=service, service_id="broken-api")

    with pytest.raises(exceptions.GoogleAPICallError, match="broken-api-00001"):
        operation.result(timeout=60)
    left = client.get_service(name=f"{PARENT}/services/broken-api")
    assert left.terminal_condition.state == run_v2.Condition.State.CONDITION_FAILED


def call(
    installation: Installation, path: str, headers: dict[str, str], *, method: str = "GET"
) -> tuple[int, dict[str, object]]:
    connection = http.client.HTTPConnection("127.0.0.1", installation.port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("change", "status", "word"),
    [
        ({}, 200, ""),
        ({"Authorization": ""}, 401, "UNAUTHENTICATED"),
        ({"Authorization": "Bearer hako-wrong"}, 401, "UNAUTHENTICATED"),
        ({"Origin": "http://evil.example"}, 403, "PERMISSION_DENIED"),
        ({"Origin": "null"}, 403, "PERMISSION_DENIED"),
    ],
)
def test_over_tcp_only_who_has_the_token_and_no_foreign_page_is_let_in(
    shared_installation: Installation,
    token: str,
    change: dict[str, str],
    status: int,
    word: str,
) -> None:
    host = f"localhost:{shared_installation.port}"
    headers = {"Host": host, "Authorization": f"Bearer {token}", **change}
    for name in [name for name, value in headers.items() if not value]:
        del headers[name]

    got, body = call(shared_installation, f"/v2/{PARENT}/services", headers)

    assert got == status
    if word:
        error = body["error"]
        assert isinstance(error, dict)
        assert error["status"] == word


def test_under_a_foreign_host_name_there_is_no_api(
    shared_installation: Installation, token: str
) -> None:
    headers = {"Host": "evil.example", "Authorization": f"Bearer {token}"}

    answer = http.client.HTTPConnection("127.0.0.1", shared_installation.port, timeout=10)
    answer.request("GET", f"/v2/{PARENT}/services", headers=headers)
    response = answer.getresponse()
    text = response.read()
    answer.close()

    assert response.status in (403, 404)
    assert b'"services"' not in text


def test_every_field_that_is_answered_is_one_of_the_protos(
    client: run_v2.ServicesClient, shared_installation: Installation, token: str, image: str
) -> None:
    create(client, "strict", image)
    headers = {
        "Host": f"localhost:{shared_installation.port}",
        "Authorization": f"Bearer {token}",
    }
    name = f"/v2/{PARENT}/services"

    _, service = call(shared_installation, f"{name}/strict", headers)
    _, services = call(shared_installation, name, headers)
    _, revision = call(shared_installation, f"{name}/strict/revisions/strict-00001", headers)
    _, operations = call(shared_installation, f"/v2/{PARENT}/operations", headers)

    json_format.ParseDict(service, run_v2.Service.pb()())
    json_format.ParseDict(services, run_v2.ListServicesResponse.pb()())
    json_format.ParseDict(revision, run_v2.Revision.pb()())
    json_format.ParseDict(operations, operations_pb2.ListOperationsResponse())


def test_the_lasting_token_is_readable_by_its_owner_alone_and_another_than_is_printed(
    shared_installation: Installation, token: str
) -> None:
    path = Path(shared_installation.home) / "serving/admin.token"
    lasting = path.read_text().strip()

    status, _ = call(
        shared_installation, f"/v2/{PARENT}/services", {"Authorization": f"Bearer {lasting}"}
    )

    assert status == 200
    assert lasting != token
    assert path.stat().st_mode & 0o077 == 0
