"""Changing a service by the fields that an update mask names (google.protobuf.FieldMask)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from hakobune.serving.document import read_document, write_document
from hakobune.serving.errors import InvalidArgumentError
from hakobune.serving.service import Service

_FIELDS = {info.encode_name: info.name for info in msgspec.structs.fields(Service)}
_OWN = frozenset({"name", "etag"})


def parse_mask(text: str) -> tuple[str, ...]:
    """The paths of `template.containers,labels`; empty for no mask."""
    return tuple(path.strip() for path in text.split(",") if path.strip())


def changed_service(current: Service, wanted: Service, mask: Sequence[str]) -> Service:
    """*current* with the fields of *wanted* that *mask* names; without a mask, all that users may set.

    A field that *wanted* leaves out is cleared when it is named, or when there is no mask.

    Raises:
        InvalidArgumentError: the mask names a field that does not exist or that nobody can set.
    """
    paths = [path for path in mask if path != "*"] if "*" not in mask else []
    if not paths:
        paths = sorted(_FIELDS.keys() - Service.OUTPUT_ONLY - _OWN)
    old, new = write_document(current), write_document(wanted)
    for path in paths:
        _check_path(path)
        copy_field(old, new, path.split("."))
    kept = {_FIELDS[name]: getattr(current, _FIELDS[name]) for name in Service.OUTPUT_ONLY | _OWN}
    return msgspec.structs.replace(read_document(old, Service), **kept)


def _check_path(path: str) -> None:
    head = path.split(".")[0]
    if head not in _FIELDS:
        raise InvalidArgumentError(f"{path} is no field of a service", field="updateMask")
    if head in Service.OUTPUT_ONLY | _OWN:
        raise InvalidArgumentError(f"{path} cannot be set", field="updateMask")


def copy_field(old: dict[str, Any], new: Mapping[str, Any], path: Sequence[str]) -> None:
    """Set the field at *path* of a document in *old* to what it is in *new*, or clear it.

    Raises:
        InvalidArgumentError: the path leads through something that has no fields.
    """
    *parents, last = path
    for name in parents:
        below = new.get(name, {})
        if not isinstance(below, dict) or not isinstance(old.get(name, {}), dict):
            raise InvalidArgumentError(
                f"{name} has no fields of its own", field="updateMask", fix=f"name {name} itself"
            )
        old, new = old.setdefault(name, {}), below
    if last in new:
        old[last] = new[last]
    else:
        old.pop(last, None)
