"""Google's client by gRPC, sync and async, through HAProxy as h2c: the same API, refusals included."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from google.api_core import exceptions
from google.cloud import artifactregistry_v1 as ar
from google.cloud.artifactregistry_v1.services.artifact_registry.transports import (
    ArtifactRegistryGrpcAsyncIOTransport,
    ArtifactRegistryGrpcTransport,
)
from google.iam.v1 import policy_pb2
from google.rpc import error_details_pb2

from tests.e2e.installation import Installation, new_installation, wait_until
from tests.registry_client import RegistryHttp

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the client's own dependencies
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

PARENT = "projects/hako/locations/local"
Metadata = list[tuple[str, str]]


@pytest.fixture(scope="module")
def hako() -> Iterator[Installation]:
    with new_installation() as installation:
        installation.hako("serve")
        yield installation


@pytest.fixture(scope="module")
def client(hako: Installation) -> Iterator[ar.ArtifactRegistryClient]:
    with grpc.insecure_channel(f"localhost:{hako.port}") as channel:
        yield ar.ArtifactRegistryClient(transport=ArtifactRegistryGrpcTransport(channel=channel))


def bearer(hako: Installation, *account: str) -> Metadata:
    token = hako.hako("auth", "print-access-token", *account).stdout.strip()
    return [("authorization", f"Bearer {token}")]


@pytest.fixture(scope="module")
def owner(hako: Installation) -> Metadata:
    return bearer(hako)


def make(client: ar.ArtifactRegistryClient, owner: Metadata, name: str) -> ar.Repository:
    operation = client.create_repository(
        parent=PARENT,
        repository_id=name,
        repository=ar.Repository(format_="DOCKER", labels={"a": "b"}),
        metadata=owner,
    )
    made: ar.Repository = operation.result(timeout=30)
    return made


def test_a_repository_and_what_it_holds_are_managed(
    hako: Installation, client: ar.ArtifactRegistryClient, owner: Metadata
) -> None:
    made = make(client, owner, "by-grpc")
    assert made.registry_uri == f"localhost:{hako.port}/hako/by-grpc"
    with RegistryHttp("http://localhost", unix_socket=hako.home / "run/registry.sock") as registry:
        digest = registry.push_image("hako/by-grpc/dir/app", "v1", b"layer")
    package = f"{made.name}/packages/dir%2Fapp"

    changed = client.update_repository(
        repository=ar.Repository(name=made.name, description="é", labels={"never": "mind"}),
        update_mask={"paths": ["description"]},
        metadata=owner,
    )
    assert (changed.description, dict(changed.labels)) == ("é", {"a": "b"})
    [image] = client.list_docker_images(parent=made.name, metadata=owner)
    assert image.name == f"{made.name}/dockerImages/dir%2Fapp@{digest}"
    assert client.get_docker_image(name=image.name, metadata=owner) == image
    version = client.get_version(
        request=ar.GetVersionRequest(name=f"{package}/versions/{digest}", view="FULL"),
        metadata=owner,
    )
    assert [tag.name for tag in version.related_tags] == [f"{package}/tags/v1"]
    tag = client.create_tag(parent=package, tag_id="v2", tag=ar.Tag(version=version.name), metadata=owner)  # fmt: skip
    assert client.get_tag(name=tag.name, metadata=owner) == tag
    client.delete_tag(name=tag.name, metadata=owner)
    batch = client.batch_delete_versions(parent=package, names=[version.name], metadata=owner)
    batch.result(timeout=30)
    assert list(batch.metadata.failed_versions) == [version.name]
    client.delete_repository(name=made.name, metadata=owner).result(timeout=30)


def test_rights_are_the_callers(hako: Installation, client: ar.ArtifactRegistryClient, owner: Metadata) -> None:  # fmt: skip
    name = make(client, owner, "grpc-shared").name
    ada = bearer(hako, "--account", "ada@example.com")

    with pytest.raises(exceptions.PermissionDenied, match="denied on resource"):
        client.get_repository(name=name, metadata=ada)
    policy = client.get_iam_policy(request={"resource": name}, metadata=owner)
    policy.bindings.append(policy_pb2.Binding(role="roles/artifactregistry.reader", members=["user:ada@example.com"]))  # fmt: skip
    stale = policy_pb2.Policy.FromString(policy.SerializeToString())
    client.set_iam_policy(request={"resource": name, "policy": policy}, metadata=owner)
    assert client.get_repository(name=name, metadata=ada).name == name
    with pytest.raises(exceptions.Aborted, match="concurrent policy changes"):
        client.set_iam_policy(request={"resource": name, "policy": stale}, metadata=owner)
    with pytest.raises(exceptions.Unauthenticated, match="no access token"):
        client.get_repository(name=name)


def test_refusals_have_googles_codes_and_details(client: ar.ArtifactRegistryClient, owner: Metadata) -> None:  # fmt: skip
    make(client, owner, "grpc-once")

    with pytest.raises(exceptions.AlreadyExists):
        make(client, owner, "grpc-once")
    with pytest.raises(exceptions.InvalidArgument, match="format NPM are not kept"):
        client.create_repository(parent=PARENT, repository_id="n", repository=ar.Repository(format_="NPM"), metadata=owner)  # fmt: skip
    with pytest.raises(exceptions.NotFound, match="there is no repository") as caught:
        client.get_repository(name=f"{PARENT}/repositories/none", metadata=owner)
    [info] = [d for d in caught.value.details if isinstance(d, error_details_pb2.ErrorInfo)]
    assert info.metadata["fix"].startswith("hako artifacts repositories create none")
    with pytest.raises(exceptions.MethodNotImplemented, match="no download rules"):
        client.list_rules(parent=f"{PARENT}/repositories/grpc-once", metadata=owner)


def test_places_and_operations_are_services_of_the_same_port(client: ar.ArtifactRegistryClient, owner: Metadata) -> None:  # fmt: skip
    operation = client.create_repository(
        parent=PARENT, repository_id="grpc-op", repository=ar.Repository(format_="DOCKER"), metadata=owner
    )  # fmt: skip

    assert client.get_operation({"name": operation.operation.name}, metadata=owner).done
    locations = client.list_locations({"name": "projects/hako"}, metadata=owner).locations
    assert "local" in [location.location_id for location in locations]


def test_many_calls_and_long_answers_at_once(client: ar.ArtifactRegistryClient, owner: Metadata) -> None:  # fmt: skip
    make(client, owner, "grpc-long")
    text = "x" * 1000

    def change(number: int) -> int:
        changed = client.update_repository(
            repository=ar.Repository(name=f"{PARENT}/repositories/grpc-long", description=text),
            update_mask={"paths": ["description"]},
            metadata=owner,
        )
        return len(changed.description) + number

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(change, range(40))) == [1000 + n for n in range(40)]
    for n in range(130):  # 130 kB of answers: more than a window of HTTP/2
        client.create_repository(
            parent="projects/many/locations/local",
            repository_id=f"r{n}",
            repository=ar.Repository(format_="DOCKER", description=text),
            metadata=owner,
        )
    found = client.list_repositories(request=ar.ListRepositoriesRequest(parent="projects/many/locations/local", page_size=1000), metadata=owner)  # fmt: skip
    assert len(list(found)) == 130


def test_the_async_client_works(hako: Installation, owner: Metadata) -> None:
    async def work() -> None:
        async with grpc.aio.insecure_channel(f"localhost:{hako.port}") as channel:
            transport = ArtifactRegistryGrpcAsyncIOTransport(channel=channel)
            client = ar.ArtifactRegistryAsyncClient(transport=transport)
            operation = await client.create_repository(
                parent=PARENT,
                repository_id="grpc-async",
                repository=ar.Repository(format_="DOCKER"),
                metadata=owner,
            )
            made = await operation.result(timeout=30)
            pager = await client.list_repositories(parent=PARENT, metadata=owner)
            assert made.name in [repository.name async for repository in pager]

    asyncio.run(work())


def test_what_is_no_method_or_no_message_is_refused(hako: Installation, owner: Metadata) -> None:
    prefix = "/google.devtools.artifactregistry.v1.ArtifactRegistry/"
    with grpc.insecure_channel(f"localhost:{hako.port}") as channel:
        for path, data, code in (
            (prefix + "Nothing", b"", grpc.StatusCode.UNIMPLEMENTED),
            ("/google.cloud.run.v2.Services/ListServices", b"", grpc.StatusCode.UNIMPLEMENTED),
            (prefix + "GetRepository", b"\xff", grpc.StatusCode.INVALID_ARGUMENT),
            (prefix + "GetRepository", b"", grpc.StatusCode.INVALID_ARGUMENT),
            (prefix + "GetRepository", b"x" * (5 << 20), grpc.StatusCode.RESOURCE_EXHAUSTED),
        ):
            call = channel.unary_unary(path)
            with pytest.raises(grpc.RpcError) as caught:
                call(data, metadata=owner, timeout=20)
            assert caught.value.code() is code, path
        compressed = channel.unary_unary(prefix + "GetRepository")
        with pytest.raises(grpc.RpcError) as caught:
            compressed(b"\n\x01x" * 100, metadata=owner, timeout=20, compression=grpc.Compression.Gzip)  # fmt: skip
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def front(hako: Installation) -> int | None:
    """The front's process."""
    for pid in hako.pids():
        try:
            if b"hakobune.api.grpc_front" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        except OSError:
            continue
    return None


def test_a_front_that_is_killed_is_there_at_the_next_call(
    hako: Installation, client: ar.ArtifactRegistryClient, owner: Metadata
) -> None:
    list(client.list_repositories(parent=PARENT, metadata=owner))
    pid = front(hako)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)

    def answers() -> bool:
        try:
            return bool(list(client.list_repositories(parent=PARENT, metadata=owner, timeout=10)))
        except exceptions.GoogleAPICallError:
            return False

    wait_until(answers, what="an answer after the front's end")
    assert front(hako) not in (None, pid)
