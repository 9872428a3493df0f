"""Every field of our Cloud Run documents is one of the official protos', and what we send parses strictly."""

from __future__ import annotations

import msgspec
import pytest
from google.cloud import run_v2
from google.protobuf import json_format

from hakobune.serving.document import Document, write_document
from hakobune.serving.revision import Revision
from hakobune.serving.service import Service
from hakobune.serving.validate import validate_service
from tests.proto_fields import differences

ROOTS = [(Service, run_v2.Service), (Revision, run_v2.Revision)]


@pytest.mark.parametrize(("struct", "message"), ROOTS)
def test_our_documents_have_no_field_that_the_protos_lack(struct, message):
    assert differences(struct, message.pb().DESCRIPTOR, struct.__name__) == []


def test_a_field_that_no_proto_has_would_be_found():
    class Odd(Document, frozen=True):
        wings: int = 0

    assert differences(Odd, run_v2.Service.pb().DESCRIPTOR, "Odd") == ["Odd.wings is in no proto"]


def test_a_service_with_every_default_filled_in_parses_strictly():
    given = msgspec.convert(
        {"template": {"containers": [{"image": "web", "env": [{"name": "A", "value": "1"}]}]}},
        Service,
    )

    document = write_document(validate_service(given, short_name="web"))

    parsed = json_format.ParseDict(document, run_v2.Service.pb()())
    container = parsed.template.containers[0]
    assert (container.image, container.ports[0].container_port) == ("web", 8080)
    assert parsed.template.timeout.seconds == 300
