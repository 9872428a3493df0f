"""How documents of Google's v2 APIs are read and written: proto3 JSON over msgspec structs.

Names are written in camelCase and read in the proto's own spelling, too; zero values are left out, enums are read
as number or name and written as names, int64 are strings, durations end in `s`. What the server alone may say is dropped on the way in (`OUTPUT_ONLY`).
"""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, TypeVar

import msgspec

from hakobune.serving.errors import InvalidArgumentError


class Document(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename="camel",
    forbid_unknown_fields=True,
):
    """A message of the wire. Fields are the proto's."""

    OUTPUT_ONLY: ClassVar[frozenset[str]] = frozenset()


class ProtoEnum(enum.StrEnum):
    """An enum of the wire; members are declared in the order of the proto's numbers, from 0."""

    @classmethod
    def from_number(cls, number: int) -> ProtoEnum | None:
        members = list(cls)
        return members[number] if 0 <= number < len(members) else None


D = TypeVar("D", bound=Document)


def read_document(value: object, kind: type[D], *, field: str = "") -> D:
    """Check *value* (decoded JSON) against the message *kind* and return it typed.

    Raises:
        InvalidArgumentError: an unknown field, or a value of the wrong type; the place is named.
    """
    try:
        return msgspec.convert(_incoming(value, kind, field), kind, strict=False)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at `$")
        place = field + place.rstrip("`")
        raise InvalidArgumentError(text, field=place.lstrip(".") or field) from error


def write_document(document: Document) -> dict[str, Any]:
    """The JSON object of *document*."""
    built: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document))  # lists, not tuples
    return built


def encode_document(document: Document) -> bytes:
    """The JSON bytes of *document*, always the same for equal documents."""
    return msgspec.json.encode(document, order="sorted")


def decode_document(data: bytes, kind: type[D]) -> D:
    """Read back what `encode_document` wrote (output-only fields included)."""
    return msgspec.json.decode(data, type=kind)


def parse_duration(text: str, *, field: str) -> float:
    """The seconds in `"300s"`.

    Raises:
        InvalidArgumentError: not a duration.
    """
    number = text.removesuffix("s")
    try:
        if number == text:
            raise ValueError(text)
        return float(number)
    except ValueError as error:
        raise InvalidArgumentError(
            f"{text!r} is not a duration", field=field, fix='write seconds, as in "300s"'
        ) from error


def _incoming(value: object, kind: Any, field: str) -> object:
    """*value* with enum numbers replaced by names and output-only fields dropped, after *kind*."""
    match _shape(kind):
        case ("document", document):
            if not isinstance(value, Mapping):
                return value
            fields, names = _fields(document), _names(document)
            return {
                key: _incoming(item, fields.get(key), f"{field}.{key}")
                for key, item in ((names.get(k, str(k)), v) for k, v in value.items())
                if key not in document.OUTPUT_ONLY and item is not None
            }
        case ("enum", choice) if isinstance(value, int) and not isinstance(value, bool):
            name = choice.from_number(value)
            if name is None:
                raise InvalidArgumentError(
                    f"{value} is no value of {choice.__name__}", field=field.lstrip(".")
                )
            return name.value
        case ("sequence", item_kind) if isinstance(value, Sequence) and not isinstance(value, str):
            return [_incoming(item, item_kind, f"{field}[{i}]") for i, item in enumerate(value)]
        case ("mapping", item_kind) if isinstance(value, Mapping):
            return {k: _incoming(v, item_kind, f"{field}.{k}") for k, v in value.items()}
        case _:
            return value


@cache
def _fields(document: type[Document]) -> dict[str, Any]:
    hints = typing.get_type_hints(document)
    return {info.encode_name: hints[info.name] for info in msgspec.structs.fields(document)}


@cache
def _names(document: type[Document]) -> dict[str, str]:
    """The JSON name of each field by the proto's own spelling (`update_time`), which parsers take, too."""
    return {info.name: info.encode_name for info in msgspec.structs.fields(document)}


@cache
def _shape(kind: Any) -> tuple[str, Any]:
    if isinstance(kind, type) and issubclass(kind, Document):
        return "document", kind
    if isinstance(kind, type) and issubclass(kind, ProtoEnum):
        return "enum", kind
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return "sequence", arguments[0]
    if origin is dict:
        return "mapping", arguments[1]
    if origin in (typing.Union, types.UnionType):
        known = [_shape(a) for a in arguments if a is not type(None)]
        return known[0] if len(known) == 1 else ("other", None)
    return "other", None
