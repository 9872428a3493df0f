"""The v2 documents: reading what clients send, defaults, refusals."""

from __future__ import annotations

import msgspec
import pytest
from google.cloud import run_v2
from google.protobuf import json_format

from hakobune.serving.document import (
    decode_document,
    encode_document,
    read_document,
    write_document,
)
from hakobune.serving.errors import InvalidArgumentError
from hakobune.serving.mask import changed_service, parse_mask
from hakobune.serving.revision import (
    Revision,
    make_revision,
    next_revision_name,
    retired_revisions,
    same_template,
)
from hakobune.serving.service import Service, ServiceName, TrafficType, etag_of
from hakobune.serving.validate import validate_service

PARENT = "projects/hako/locations/local"


def a_service(**fields: object) -> Service:
    body = {"template": {"containers": [{"image": "web"}]}} | fields
    return read_document(body, Service)


def a_valid_service(**fields: object) -> Service:
    service = validate_service(a_service(**fields), short_name="shop")
    return msgspec.structs.replace(service, name=f"{PARENT}/services/shop")


def test_enums_are_read_as_numbers_and_written_as_names() -> None:
    service = a_service(ingress=1, launchStage=4, traffic=[{"type": 1, "percent": 100}])

    written = write_document(service)

    assert written["ingress"] == "INGRESS_TRAFFIC_ALL"
    assert written["launchStage"] == "GA"
    assert written["traffic"] == [{"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 100}]


def test_output_only_fields_are_ignored_on_input() -> None:
    service = a_service(uid="x", generation="7", conditions=[{"anything": 1}], urls=["u"])

    assert (service.uid, service.generation, service.conditions, service.urls) == ("", "", (), ())


def test_an_unknown_field_is_refused_with_its_name() -> None:
    with pytest.raises(InvalidArgumentError, match="unknown field `tmplate`"):
        a_service(tmplate={})


def test_a_wrong_type_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        a_service(template={"containers": [{"image": 3}]})

    assert caught.value.field == "template.containers[0].image"


def test_an_enum_number_that_does_not_exist_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        a_service(traffic=[{"type": 9}])

    assert caught.value.field == "traffic[0].type"


def test_the_official_client_parses_a_whole_service_strictly() -> None:
    document = write_document(a_valid_service())

    parsed = json_format.ParseDict(document, run_v2.Service.pb()(), ignore_unknown_fields=False)

    assert parsed.template.containers[0].startup_probe.timeout_seconds == 240


@pytest.mark.parametrize(
    ("ours", "theirs"), [(Service, run_v2.Service), (Revision, run_v2.Revision)]
)
def test_no_field_is_invented(ours: type[msgspec.Struct], theirs: type) -> None:
    known = {field.json_name for field in theirs.pb().DESCRIPTOR.fields}

    assert {info.encode_name for info in msgspec.structs.fields(ours)} <= known


def test_documents_survive_the_database() -> None:
    service = a_valid_service(labels={"a": "b"})

    assert decode_document(encode_document(service), Service) == service


def test_defaults_are_cloud_runs() -> None:
    template = a_valid_service().template

    assert template is not None
    container = template.containers[0]
    assert (template.timeout, template.max_instance_request_concurrency) == ("300s", 80)
    assert container.ports[0].container_port == 8080
    assert container.resources is not None
    assert container.resources.limits == {"cpu": "1", "memory": "512Mi"}
    assert container.resources.cpu_idle is True


def test_resources_without_cpu_idle_mean_cpu_always() -> None:
    template = a_valid_service(
        template={"containers": [{"image": "web", "resources": {"limits": {"cpu": "2"}}}]}
    ).template

    assert template is not None
    assert template.containers[0].resources is not None
    assert template.containers[0].resources.cpu_idle is False


def test_less_than_a_cpu_takes_one_request_at_a_time() -> None:
    template = a_valid_service(
        template={"containers": [{"image": "web", "resources": {"limits": {"cpu": "500m"}}}]}
    ).template

    assert template is not None
    assert template.max_instance_request_concurrency == 1


CONTAINER = {"image": "web"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"template": None}, "template"),
        ({"template": {"containers": []}}, "template.containers"),
        ({"template": {"containers": [CONTAINER, CONTAINER]}}, "template.containers"),
        ({"template": {"containers": [{}]}}, "template.containers[0].image"),
        ({"template": {"containers": [CONTAINER], "timeout": "4000s"}}, "template.timeout"),
        ({"template": {"containers": [CONTAINER], "timeout": "300"}}, "template.timeout"),
        ({"template": {"containers": [CONTAINER], "revision": "web-1"}}, "template.revision"),
        ({"template": {"containers": [CONTAINER], "vpcAccess": {"x": 1}}}, "template.vpcAccess"),
        (
            {"template": {"containers": [CONTAINER], "scaling": {"minInstanceCount": 5, "maxInstanceCount": 2}}},
            "template.scaling",
        ),
        (
            {"template": {"containers": [CONTAINER | {"env": [{"name": "PORT", "value": "1"}]}]}},
            "template.containers[0].env[0].name",
        ),
        (
            {"template": {"containers": [CONTAINER | {"resources": {"limits": {"memory": "1Gb"}}}]}},
            "template.containers[0].resources.limits.memory",
        ),
        (
            {"template": {"containers": [CONTAINER | {"ports": [{"name": "grpc"}]}]}},
            "template.containers[0].ports[0].name",
        ),
        (
            {"template": {"containers": [CONTAINER | {"startupProbe": {"failureThreshold": 25}}]}},
            "template.containers[0].startupProbe.failureThreshold",
        ),
        ({"traffic": [{"percent": 90}]}, "traffic"),
        ({"traffic": [{"type": 2, "percent": 100}]}, "traffic[0].revision"),
        ({"traffic": [{"percent": 100, "tag": "A"}]}, "traffic[0].tag"),
        ({"labels": {"run.googleapis.com/x": "y"}}, "labels"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_with_its_field(
    fields: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        a_valid_service(**fields)

    assert caught.value.field == field


@pytest.mark.parametrize("name", ["a" * 50, "1a", "a-", "A", "a_b", "", "a---b"])
def test_a_service_id_follows_cloud_runs_rules(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="cannot be a service's name"):
        ServiceName.within(PARENT, name)


def test_a_mask_changes_only_what_it_names() -> None:
    current = a_valid_service(description="old", labels={"a": "1"})
    wanted = a_service(description="new", labels={"a": "2"})

    changed = changed_service(current, wanted, parse_mask("description"))

    assert (changed.description, changed.labels, changed.name) == ("new", {"a": "1"}, current.name)


def test_a_mask_reaches_into_the_template_and_clears_what_is_absent() -> None:
    current = a_valid_service(template={"containers": [CONTAINER], "timeout": "10s"})
    wanted = a_service(template={"containers": [{"image": "other"}]})

    changed = changed_service(current, wanted, parse_mask("template.containers,template.timeout"))

    assert changed.template is not None
    assert (changed.template.containers[0].image, changed.template.timeout) == ("other", "")


def test_no_mask_replaces_everything_a_user_may_set() -> None:
    current = msgspec.structs.replace(a_valid_service(description="old"), uid="u", generation="4")

    changed = changed_service(current, a_service(), ())

    assert (changed.description, changed.uid, changed.generation) == ("", "u", "4")


@pytest.mark.parametrize("path", ["uid", "nonsense", "name"])
def test_a_mask_on_what_nobody_can_set_is_refused(path: str) -> None:
    with pytest.raises(InvalidArgumentError):
        changed_service(a_valid_service(), a_service(), [path])


def test_revision_names_count_up() -> None:
    assert next_revision_name("shop", []) == "shop-00001"
    assert next_revision_name("shop", ["shop-00009", "shop-blue"]) == "shop-00010"


def test_the_revisions_name_does_not_make_another_template() -> None:
    one, other = a_valid_service().template, a_valid_service().template

    assert one is not None
    assert other is not None
    assert same_template(one, msgspec.structs.replace(other, revision="shop-x"))
    assert not same_template(one, msgspec.structs.replace(other, timeout="1s"))


def test_only_revisions_without_traffic_are_retired_oldest_first() -> None:
    service = a_valid_service(traffic=[{"type": 2, "revision": "shop-00001", "percent": 100}])
    revisions = [
        make_revision(service, short_name=f"shop-0000{i}", uid=str(i), now=f"2026-01-0{i}")
        for i in (1, 2, 3)
    ]

    gone = retired_revisions(service, revisions, keep=2)

    assert [r.short_name for r in gone] == ["shop-00002"]


def test_a_revision_is_what_the_official_client_knows() -> None:
    revision = make_revision(
        a_valid_service(), short_name="shop-00001", uid="u", now="2026-01-01T00:00:00Z"
    )

    json_format.ParseDict(write_document(revision), run_v2.Revision.pb()())

    assert revision.containers[0].image == "web"
    assert revision.service == f"{PARENT}/services/shop"


def test_the_etag_follows_the_contents() -> None:
    service = a_valid_service()

    assert etag_of(service) == etag_of(msgspec.structs.replace(service, etag="x"))
    assert etag_of(service) != etag_of(msgspec.structs.replace(service, description="x"))


def test_empty_traffic_means_the_latest_revision() -> None:
    (target,) = a_valid_service().traffic

    assert (target.type, target.percent) == (TrafficType.LATEST, 100)
