"""Every field of our Cloud Run documents is one of the official protos', and what we send parses strictly."""

from __future__ import annotations

import types
import typing

import msgspec
import pytest
from google.cloud import run_v2
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from hakobune.serving.document import Document, ProtoEnum, write_document
from hakobune.serving.revision import Revision
from hakobune.serving.service import Service
from hakobune.serving.validate import validate_service

ROOTS = [(Service, run_v2.Service), (Revision, run_v2.Revision)]


def parts(annotation: object) -> list[type]:
    """The classes that an annotation is made of: `tuple[Container, ...] | None` gives `Container`."""
    if typing.get_origin(annotation) in (typing.Annotated,):
        return parts(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) is not None or isinstance(annotation, types.UnionType):
        return [t for a in typing.get_args(annotation) if a is not ... for t in parts(a)]
    return [annotation] if isinstance(annotation, type) else []


def differences(struct: type[msgspec.Struct], proto: Descriptor, place: str) -> list[str]:
    """What our struct has that the proto lacks, or has as another kind; followed into nested documents."""
    found = []
    fields = {field.json_name: field for field in proto.fields}
    hints = typing.get_type_hints(struct)
    for info in msgspec.structs.fields(struct):
        name = f"{place}.{info.encode_name}"
        field: FieldDescriptor | None = fields.get(info.encode_name)
        if field is None:
            found.append(f"{name} is in no proto")
            continue
        for kind in parts(hints[info.name]):
            if issubclass(kind, Document):
                if field.message_type is None:
                    found.append(f"{name} is no message")
                else:
                    found += differences(kind, field.message_type, name)
            elif issubclass(kind, ProtoEnum):
                if field.enum_type is None:
                    found.append(f"{name} is no enum")
                    continue
                words = {value.name for value in field.enum_type.values}
                found += [f"{name} has no {word}" for word in kind if word.value not in words]
    return found


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
