"""How a document of ours differs from the official proto of the same name."""

from __future__ import annotations

import types
import typing

import msgspec
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from hakobune.serving.document import Document, ProtoEnum


def differences(struct: type[msgspec.Struct], proto: Descriptor, place: str) -> list[str]:
    """What our struct has that the proto lacks, or has as another kind; followed into nested documents."""
    found = []
    fields = {field.json_name: field for field in proto.fields}
    hints = typing.get_type_hints(struct)
    for info in msgspec.structs.fields(struct):
        name = f"{place}.{info.encode_name}"
        if info.encode_name not in fields:
            found.append(f"{name} is in no proto")
            continue
        field = _value_field(fields[info.encode_name])
        for kind in _parts(hints[info.name]):
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


def _parts(annotation: object) -> list[type]:
    """The classes that an annotation is made of: `dict[str, CleanupPolicy] | None` gives `str` and `CleanupPolicy`."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _parts(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) is not None or isinstance(annotation, types.UnionType):
        return [t for a in typing.get_args(annotation) if a is not ... for t in _parts(a)]
    return [annotation] if isinstance(annotation, type) else []


def _value_field(field: FieldDescriptor) -> FieldDescriptor:
    """The field itself, or the value field of a map."""
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        return message.fields_by_name["value"]
    return field
