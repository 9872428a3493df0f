"""Google's own client, unmodified, over REST: every method of Artifact Registry that a repository of images has."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Iterator

import google.oauth2.credentials
import pytest
from google.api_core import exceptions
from google.cloud import artifactregistry_v1 as ar
from google.iam.v1 import iam_policy_pb2, policy_pb2
from google.protobuf import field_mask_pb2, json_format
from google.type import expr_pb2

from tests.artifacts_world import OCI_INDEX, OCI_MANIFEST, ArtifactsWorld, artifacts_world

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the client's own dependencies
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

PARENT = "projects/hako/locations/local"


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[ArtifactsWorld]:
    with artifacts_world(tmp_path_factory.mktemp("ar")) as world:
        yield world


def a_client(world: ArtifactsWorld, caller: str = "owner") -> ar.ArtifactRegistryClient:
    return ar.ArtifactRegistryClient(
        transport="rest",
        credentials=google.oauth2.credentials.Credentials(caller),
        client_options={"api_endpoint": world.url},
    )


@pytest.fixture(scope="module")
def client(world: ArtifactsWorld) -> ar.ArtifactRegistryClient:
    return a_client(world)


def make(client: ar.ArtifactRegistryClient, name: str, **fields) -> ar.Repository:
    operation = client.create_repository(
        parent=PARENT,
        repository_id=name,
        repository=ar.Repository(format_=ar.Repository.Format.DOCKER, **fields),
    )
    made: ar.Repository = operation.result(timeout=30)
    return made


def mask(*paths: str) -> field_mask_pb2.FieldMask:
    return field_mask_pb2.FieldMask(paths=paths)


def test_a_repository_is_made_read_changed_listed_and_deleted(client):
    made = make(client, "life", description="first", labels={"team": "web"})

    assert made.name == f"{PARENT}/repositories/life"
    assert made.mode == ar.Repository.Mode.STANDARD_REPOSITORY
    assert made.registry_uri == "localhost:8080/hako/life"
    assert made.create_time.year >= 2024

    changed = client.update_repository(
        repository=ar.Repository(
            name=made.name,
            description="not in the mask",
            docker_config=ar.Repository.DockerRepositoryConfig(immutable_tags=True),
            cleanup_policies={
                "old": ar.CleanupPolicy(
                    id="old",
                    action=ar.CleanupPolicy.Action.DELETE,
                    condition=ar.CleanupPolicyCondition(
                        tag_state=ar.CleanupPolicyCondition.TagState.UNTAGGED,
                        older_than={"seconds": 86400},
                    ),
                ),
                "keep": ar.CleanupPolicy(
                    id="keep",
                    action=ar.CleanupPolicy.Action.KEEP,
                    most_recent_versions=ar.CleanupPolicyMostRecentVersions(keep_count=3),
                ),
            },
        ),
        update_mask=mask("docker_config", "cleanup_policies"),
    )
    assert changed.description == "first"
    assert changed.docker_config.immutable_tags
    assert changed.cleanup_policies["old"].condition.older_than.total_seconds() == 86400
    assert changed.cleanup_policies["keep"].most_recent_versions.keep_count == 3
    assert client.get_repository(name=made.name) == changed
    assert made.name in [r.name for r in client.list_repositories(parent=PARENT)]

    client.delete_repository(name=made.name).result(timeout=30)
    with pytest.raises(exceptions.NotFound, match="there is no repository"):
        client.get_repository(name=made.name)


def test_repositories_of_all_modes(client):
    make(client, "apps")
    hub = make(
        client,
        "hub",
        mode=ar.Repository.Mode.REMOTE_REPOSITORY,
        remote_repository_config=ar.RemoteRepositoryConfig(
            description="Docker Hub",
            docker_repository=ar.RemoteRepositoryConfig.DockerRepository(
                public_repository="DOCKER_HUB"
            ),
        ),
    )
    quay = make(
        client,
        "quay",
        mode=ar.Repository.Mode.REMOTE_REPOSITORY,
        remote_repository_config=ar.RemoteRepositoryConfig(
            docker_repository=ar.RemoteRepositoryConfig.DockerRepository(
                custom_repository={"uri": "https://quay.io"}
            ),
        ),
    )
    both = make(
        client,
        "both",
        mode=ar.Repository.Mode.VIRTUAL_REPOSITORY,
        virtual_repository_config=ar.VirtualRepositoryConfig(
            upstream_policies=[
                ar.UpstreamPolicy(id="apps", repository=f"{PARENT}/repositories/apps", priority=20),
                ar.UpstreamPolicy(id="hub", repository=f"{PARENT}/repositories/hub", priority=10),
            ]
        ),
    )

    assert hub.remote_repository_config.docker_repository.public_repository.name == "DOCKER_HUB"
    assert hub.remote_repository_config.description == "Docker Hub"
    assert quay.remote_repository_config.docker_repository.custom_repository.uri == "https://quay.io"  # fmt: skip
    assert [p.priority for p in both.virtual_repository_config.upstream_policies] == [20, 10]
    with pytest.raises(exceptions.BadRequest, match="upstream of"):
        client.delete_repository(name=hub.name)
    with pytest.raises(exceptions.BadRequest, match="is a virtual repository itself"):
        make(
            client,
            "nested",
            mode=ar.Repository.Mode.VIRTUAL_REPOSITORY,
            virtual_repository_config=ar.VirtualRepositoryConfig(
                upstream_policies=[ar.UpstreamPolicy(id="b", repository=both.name, priority=1)]
            ),
        )


def test_lists_are_filtered_ordered_and_paged(client):
    for name in ("page-b", "page-a", "page-c"):
        make(client, name)

    request = ar.ListRepositoriesRequest(
        parent=PARENT,
        page_size=2,
        filter=f'name="{PARENT}/repositories/page-*"',
        order_by="create_time desc",
    )
    pages = list(client.list_repositories(request=request).pages)

    assert [len(page.repositories) for page in pages] == [2, 1]
    names = [r.name.rpartition("/")[2] for page in pages for r in page.repositories]
    assert names == ["page-c", "page-a", "page-b"]


def test_refusals_are_the_exceptions_that_the_client_knows(client):
    make(client, "once")

    with pytest.raises(exceptions.Conflict, match="already"):
        make(client, "once")
    with pytest.raises(exceptions.Conflict, match="in location local already"):
        client.create_repository(
            parent="projects/hako/locations/elsewhere",
            repository_id="once",
            repository=ar.Repository(format_="DOCKER"),
        )
    with pytest.raises(exceptions.NotFound, match="has it in location local"):
        client.get_repository(name="projects/hako/locations/elsewhere/repositories/once")
    with pytest.raises(exceptions.BadRequest, match="format NPM are not kept here"):
        client.create_repository(
            parent=PARENT, repository_id="npm", repository=ar.Repository(format_="NPM")
        )
    with pytest.raises(exceptions.BadRequest, match="cannot become REMOTE_REPOSITORY"):
        client.update_repository(
            repository=ar.Repository(name=f"{PARENT}/repositories/once", mode="REMOTE_REPOSITORY"),
            update_mask=mask("mode"),
        )
    with pytest.raises(exceptions.BadRequest, match="is no repository's id"):
        make(client, "Not-A-Name")
    with pytest.raises(exceptions.MethodNotImplemented, match="no download rules"):
        list(client.list_rules(parent=f"{PARENT}/repositories/once"))
    for method in (client.list_maven_artifacts, client.list_npm_packages, client.list_python_packages):  # fmt: skip
        with pytest.raises(exceptions.BadRequest, match="has format DOCKER"):
            list(method(parent=f"{PARENT}/repositories/once"))


@pytest.fixture(scope="module")
def filled(world, client) -> dict[str, str]:
    """A repository with images and an index in a folder, and a plain image; digests by what they are."""
    make(client, "filled")
    one = world.push("hako", "filled", "dir/app", "v1", "latest", content="one")
    two = world.push("hako", "filled", "dir/app", content="two")
    index = world.push_manifest(
        "hako",
        "filled",
        "dir/app",
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [
                {"mediaType": OCI_MANIFEST, "digest": one, "size": 1, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}}
            ],
        },
        "multi",
    )  # fmt: skip
    plain = world.push("hako", "filled", "plain", "v2", content="plain")
    return {"one": one, "two": two, "index": index, "plain": plain}


FILLED = f"{PARENT}/repositories/filled"
APP = f"{FILLED}/packages/dir%2Fapp"


def test_packages_are_listed_read_annotated(client, filled):
    names = [p.name for p in client.list_packages(parent=FILLED)]
    package = client.get_package(name=APP)
    changed = client.update_package(
        package=ar.Package(name=APP, annotations={"external_link": "https://example.com/x"}),
        update_mask=mask("annotations"),
    )
    found = client.list_packages(
        request=ar.ListPackagesRequest(parent=FILLED, filter="annotations.external_link:*example*")
    )

    assert names == [APP, f"{FILLED}/packages/plain"]
    assert package.name == APP
    assert changed.annotations == {"external_link": "https://example.com/x"}
    assert [p.name for p in found] == [APP]


def test_versions_have_their_tags_in_the_full_view_alone(client, filled):
    basic = {v.name: v for v in client.list_versions(parent=APP)}
    full = {
        v.name: v
        for v in client.list_versions(
            request=ar.ListVersionsRequest(parent=APP, view=ar.VersionView.FULL)
        )
    }
    one = f"{APP}/versions/{filled['one']}"

    assert basic.keys() == {f"{APP}/versions/{filled[k]}" for k in ("one", "two", "index")}
    assert not basic[one].related_tags
    assert [t.name for t in full[one].related_tags] == [f"{APP}/tags/latest", f"{APP}/tags/v1"]
    assert full[one].metadata["mediaType"] == OCI_MANIFEST
    assert int(full[one].metadata["imageSizeBytes"]) > 0
    assert client.get_version(name=one).name == one
    noted = client.update_version(
        version=ar.Version(name=one, annotations={"release": "yes"}),
        update_mask=mask("annotations"),
    )
    assert noted.annotations == {"release": "yes"}
    found = client.list_versions(
        request=ar.ListVersionsRequest(parent=APP, filter="annotations.release")
    )
    assert [v.name for v in found] == [one]


def test_docker_images_are_listed_and_read(client, filled):
    images = {i.name: i for i in client.list_docker_images(parent=FILLED)}
    index = client.get_docker_image(name=f"{FILLED}/dockerImages/dir%2Fapp@{filled['index']}")
    ordered = client.list_docker_images(
        request=ar.ListDockerImagesRequest(parent=FILLED, order_by="update_time desc", page_size=2)
    )

    assert images.keys() == {i.name for i in ordered}
    one = images[f"{FILLED}/dockerImages/dir%2Fapp@{filled['one']}"]
    assert one.uri == f"localhost:8080/hako/filled/dir/app@{filled['one']}"
    assert list(one.tags) == ["latest", "v1"]
    assert [(m.os, m.architecture, m.variant) for m in index.image_manifests] == [
        ("linux", "arm64", "v8")
    ]
    assert index.image_size_bytes == one.image_size_bytes


def test_tags_are_made_moved_listed_and_removed(client, filled):
    one, two = (f"{APP}/versions/{filled[k]}" for k in ("one", "two"))

    made = client.create_tag(parent=APP, tag_id="next", tag=ar.Tag(version=one))
    assert (made.name, made.version) == (f"{APP}/tags/next", one)
    moved = client.update_tag(tag=ar.Tag(name=made.name, version=two), update_mask=mask("version"))
    assert moved.version == client.get_tag(name=made.name).version == two
    of_two = client.list_tags(request=ar.ListTagsRequest(parent=APP, filter=f'version="{two}"'))
    assert [t.name for t in of_two] == [made.name]
    with pytest.raises(exceptions.Conflict, match="already"):
        client.create_tag(parent=APP, tag_id="next", tag=ar.Tag(version=one))
    with pytest.raises(exceptions.BadRequest, match="no version of the tag's package"):
        client.create_tag(parent=APP, tag_id="x", tag=ar.Tag(version=f"{FILLED}/packages/plain/versions/{filled['plain']}"))  # fmt: skip
    with pytest.raises(exceptions.NotFound):
        client.create_tag(parent=APP, tag_id="x", tag=ar.Tag(version=f"{APP}/versions/sha256:{'0' * 64}"))  # fmt: skip
    client.delete_tag(name=made.name)
    with pytest.raises(exceptions.NotFound):
        client.get_tag(name=made.name)


def test_files_are_listed_by_owner_read_and_annotated(client, filled):
    owner = f"{APP}/versions/{filled['one']}"
    files = list(client.list_files(request=ar.ListFilesRequest(parent=FILLED, filter=f'owner="{owner}"')))  # fmt: skip

    assert len(files) == 2
    assert {f.owner for f in files} == {owner}
    read = client.get_file(name=files[0].name)
    assert read == files[0]
    assert f"sha256:{read.hashes[0].value.hex()}" == read.name.rpartition("/")[2]
    changed = client.update_file(
        file=ar.File(name=read.name, annotations={"a": "b"}), update_mask=mask("annotations")
    )
    assert changed.annotations == {"a": "b"}
    with pytest.raises(exceptions.BadRequest, match="is used by the manifest"):
        client.delete_file(name=read.name)


def test_attachments_are_manifests_with_a_subject(client, world):
    make(client, "signed")
    target = world.push("hako", "signed", "web", "v1")
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        **json.loads(_body(world, target)),
        "artifactType": "application/vnd.example.sbom",
        "subject": {"mediaType": OCI_MANIFEST, "digest": target, "size": 1},
        "annotations": {"by": "tests"},
    }
    signature = world.push_manifest("hako", "signed", "web", document)
    parent = f"{PARENT}/repositories/signed"
    target_name = f"{parent}/packages/web/versions/{target}"

    found = list(client.list_attachments(request=ar.ListAttachmentsRequest(parent=parent, filter=f'target="{target_name}"')))  # fmt: skip

    assert [a.target for a in found] == [target_name]
    assert found[0].type_ == "application/vnd.example.sbom"
    assert found[0].oci_version_name == f"{parent}/packages/web/versions/{signature}"
    assert len(found[0].files) == 2
    assert client.get_attachment(name=found[0].name) == found[0]
    client.delete_attachment(name=found[0].name).result(timeout=30)
    assert list(client.list_attachments(parent=parent)) == []


def test_an_attachment_is_made_of_files_that_are_there(client, world):
    make(client, "attached")
    target = world.push("hako", "attached", "dir/web", "v1")
    parent = f"{PARENT}/repositories/attached"
    [file, *_] = [f.name for f in client.list_files(parent=parent)]
    wanted = ar.Attachment(
        target=f"{parent}/packages/dir%2Fweb/versions/{target}",
        type_="application/vnd.example.sbom",
        attachment_namespace="scanner.example.com",
        annotations={"by": "tests"},
        files=[file],
    )

    made = client.create_attachment(parent=parent, attachment_id="sbom", attachment=wanted).result(timeout=30)  # fmt: skip

    assert made.name == f"{parent}/attachments/sbom"
    assert (made.target, list(made.files), made.annotations) == (wanted.target, [file], {"by": "tests"})  # fmt: skip
    assert made.attachment_namespace == "scanner.example.com"
    assert client.get_attachment(name=made.name) == made
    found = client.list_attachments(request=ar.ListAttachmentsRequest(parent=parent, filter='attachment_namespace="scanner.*"'))  # fmt: skip
    assert [a.name for a in found] == [made.name]
    pushed = client.get_version(name=made.oci_version_name)
    assert pushed.metadata["artifactType"] == "application/vnd.example.sbom"
    with pytest.raises(exceptions.Conflict, match="already"):
        client.create_attachment(parent=parent, attachment_id="sbom", attachment=wanted)
    client.delete_version(name=made.oci_version_name).result(timeout=30)
    with pytest.raises(exceptions.NotFound):
        client.get_attachment(name=made.name)
    again = client.create_attachment(parent=parent, attachment_id="sbom", attachment=wanted).result(timeout=30)  # fmt: skip
    client.delete_attachment(name=again.name).result(timeout=30)
    assert list(client.list_attachments(parent=parent)) == []


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"target": "x"}, exceptions.BadRequest, "is no version of the repository"),
        ({"type_": "sbom"}, exceptions.BadRequest, "is no media type"),
        ({"files": []}, exceptions.BadRequest, "an attachment has files"),
        ({"files": ["x"]}, exceptions.BadRequest, "is no file of the repository"),
        ({"files": [f"{PARENT}/repositories/refusing/files/sha256:{'0' * 64}"]}, exceptions.NotFound, "there is no file"),
    ],
)  # fmt: skip
def test_what_is_no_attachment_is_refused(client, world, fields, error, message):
    with contextlib.suppress(exceptions.Conflict):
        make(client, "refusing")
    target = world.push("hako", "refusing", "web", "v1")
    parent = f"{PARENT}/repositories/refusing"
    [file, *_] = [f.name for f in client.list_files(parent=parent)]
    whole = {"target": f"{parent}/packages/web/versions/{target}", "type_": "a/b", "files": [file]}

    with pytest.raises(error, match=message):
        client.create_attachment(parent=parent, attachment_id="x", attachment=ar.Attachment(**{**whole, **fields}))  # fmt: skip


def _body(world: ArtifactsWorld, digest: str) -> bytes:
    async def work(registry) -> bytes:
        stored = await registry.metadata.find_repository("hako", "signed")
        return (await registry.metadata.find_manifest(stored, "web", digest)).body

    return world.ask(work)


def test_versions_and_packages_are_deleted(client, world):
    make(client, "waste")
    parent = f"{PARENT}/repositories/waste/packages/app"
    tagged = world.push("hako", "waste", "app", "v1", content="a")
    loose = [world.push("hako", "waste", "app", content=f"loose {n}") for n in range(3)]

    with pytest.raises(exceptions.BadRequest, match="it has the tag v1"):
        client.delete_version(name=f"{parent}/versions/{tagged}")
    client.delete_version(name=f"{parent}/versions/{loose[0]}").result(timeout=30)
    names = [f"{parent}/versions/{digest}" for digest in (loose[1], tagged)]
    dry = client.batch_delete_versions(request=ar.BatchDeleteVersionsRequest(parent=parent, names=names, validate_only=True))  # fmt: skip
    dry.result(timeout=30)
    assert len(list(client.list_versions(parent=parent))) == 3
    batch = client.batch_delete_versions(parent=parent, names=names)
    batch.result(timeout=30)
    assert list(batch.metadata.failed_versions) == [names[1]]
    client.delete_version(request=ar.DeleteVersionRequest(name=names[1], force=True)).result(timeout=30)  # fmt: skip
    assert [v.name for v in client.list_versions(parent=parent)] == [f"{parent}/versions/{loose[2]}"]  # fmt: skip
    client.delete_package(name=parent).result(timeout=30)
    with pytest.raises(exceptions.NotFound):
        client.get_package(name=parent)


def test_immutable_tags_stay(client, world):
    make(client, "fixed", docker_config=ar.Repository.DockerRepositoryConfig(immutable_tags=True))
    digest = world.push("hako", "fixed", "app", "v1", content="a")
    other = world.push("hako", "fixed", "app", content="b")
    package = f"{PARENT}/repositories/fixed/packages/app"

    with pytest.raises(exceptions.BadRequest, match="the tag v1 stays at"):
        client.update_tag(
            tag=ar.Tag(name=f"{package}/tags/v1", version=f"{package}/versions/{other}"),
            update_mask=mask("version"),
        )
    with pytest.raises(exceptions.BadRequest, match="is not removed"):
        client.delete_tag(name=f"{package}/tags/v1")
    with pytest.raises(exceptions.BadRequest, match="is not removed"):
        client.delete_version(request=ar.DeleteVersionRequest(name=f"{package}/versions/{digest}", force=True))  # fmt: skip
    assert client.create_tag(parent=package, tag_id="v2", tag=ar.Tag(version=f"{package}/versions/{other}")).name  # fmt: skip


def test_policies_are_read_changed_under_their_etag_and_asked_about(client, world):
    name = make(client, "shared").name
    ada = a_client(world, "user:ada@example.com")

    policy = client.get_iam_policy(request={"resource": name, "options": {"requested_policy_version": 3}})  # fmt: skip
    assert not policy.bindings
    with pytest.raises(exceptions.Forbidden, match=r"'artifactregistry\.repositories\.get' denied on resource"):  # fmt: skip
        ada.get_repository(name=name)
    policy.bindings.append(policy_pb2.Binding(role="roles/artifactregistry.reader", members=["user:ada@example.com"]))  # fmt: skip
    changed = client.set_iam_policy(request={"resource": name, "policy": policy})
    assert changed.etag != policy.etag
    assert [b.role for b in changed.bindings] == ["roles/artifactregistry.reader"]
    with pytest.raises(exceptions.Conflict, match="concurrent policy changes"):
        client.set_iam_policy(request={"resource": name, "policy": policy})
    assert ada.get_repository(name=name).name == name
    held = ada.test_iam_permissions(
        request=iam_policy_pb2.TestIamPermissionsRequest(
            resource=name,
            permissions=[
                "artifactregistry.repositories.downloadArtifacts",
                "artifactregistry.repositories.uploadArtifacts",
            ],
        )
    )
    assert list(held.permissions) == ["artifactregistry.repositories.downloadArtifacts"]
    with pytest.raises(exceptions.Forbidden, match=r"repositories\.delete"):
        ada.delete_repository(name=name)
    with pytest.raises(exceptions.Forbidden, match="or it may not exist"):
        ada.get_repository(name=f"{PARENT}/repositories/nobody-made-this")


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        (policy_pb2.Binding(role="roles/artifactregistry.raeder", members=["allUsers"]), "is no role"),
        (policy_pb2.Binding(role="roles/run.invoker", members=["allUsers"]), "cannot be granted on a repository"),
        (policy_pb2.Binding(role="roles/artifactregistry.reader", members=["ada"]), "ada"),
        (
            policy_pb2.Binding(role="roles/artifactregistry.reader", members=["allUsers"], condition=expr_pb2.Expr(expression="true")),
            "condition cannot be kept",
        ),
    ],
)  # fmt: skip
def test_a_policy_that_cannot_be_kept_is_refused(client, binding, message):
    try:
        name = make(client, "strict").name
    except exceptions.Conflict:
        name = f"{PARENT}/repositories/strict"

    with pytest.raises(exceptions.BadRequest, match=message):
        client.set_iam_policy(request={"resource": name, "policy": policy_pb2.Policy(bindings=[binding])})  # fmt: skip


def test_places_operations_and_settings(client):
    operation = client.create_repository(
        parent="projects/far/locations/moon", repository_id="base", repository=ar.Repository(format_="DOCKER")
    )  # fmt: skip
    operation.result(timeout=30)

    again = client.get_operation({"name": operation.operation.name})
    assert again.done
    assert again.response.type_url.endswith("google.devtools.artifactregistry.v1.Repository")
    locations = client.list_locations({"name": "projects/far"}).locations
    assert [location.location_id for location in locations] == ["local", "moon"]
    assert client.get_location({"name": "projects/far/locations/moon"}).location_id == "moon"
    settings = client.get_project_settings(name="projects/far/projectSettings")
    assert settings.legacy_redirection_state.name == "REDIRECTION_FROM_GCR_IO_DISABLED"
    changed = client.update_project_settings(
        project_settings=ar.ProjectSettings(
            name="projects/far/projectSettings",
            legacy_redirection_state="REDIRECTION_FROM_GCR_IO_PARTIAL_AND_COPYING",
            pull_percent=20,
        ),
        update_mask=mask("legacy_redirection_state", "pull_percent"),
    )
    assert changed.pull_percent == 20
    assert client.get_project_settings(name="projects/far/projectSettings") == changed


def test_every_field_that_is_answered_is_one_of_the_protos(world, client, filled):
    def get(path: str) -> dict:
        with urllib.request.urlopen(f"{world.url}/v1/{path}", timeout=10) as answer:
            return json.loads(answer.read())

    escaped = APP.replace("%", "%25")
    for path, message in (
        (f"{PARENT}/repositories", ar.ListRepositoriesResponse),
        (f"{FILLED}/packages", ar.ListPackagesResponse),
        (f"{FILLED}/dockerImages", ar.ListDockerImagesResponse),
        (f"{FILLED}/files", ar.ListFilesResponse),
        (f"{escaped}/versions?view=FULL", ar.ListVersionsResponse),
        (f"{escaped}/tags", ar.ListTagsResponse),
        (f"{APP}/tags", ar.ListTagsResponse),  # a client that escapes once
    ):
        parsed = json_format.ParseDict(get(path), message.pb()())
        assert parsed.ByteSize() > 0, path
