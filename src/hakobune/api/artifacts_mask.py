"""Changing a resource by the fields that an update mask names (google.protobuf.FieldMask, AIP-134; pure)."""

from __future__ import annotations

import typing
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import msgspec

from hakobune.serving.document import Document, read_document, write_document
from hakobune.serving.errors import InvalidArgumentError
from hakobune.serving.mask import copy_field

D = TypeVar("D", bound=Document)


def apply_mask(
    current: D, sent: D, mask: str, *, settable: Collection[str], fixed: Collection[str] = ()
) -> D:
    """*current* with the fields of *sent* that *mask* names; all that *sent* fills without a mask, all with `*`.

    A field that *sent* leaves out is cleared when it is named. Paths may be in the proto's own spelling.

    Args:
        settable: the fields, by JSON name, that may be changed.
        fixed: those that may be sent as they are, and never changed.

    Raises:
        InvalidArgumentError: the mask names a field that does not exist, that nobody sets, or that is fixed.
    """
    old, new = write_document(current), write_document(sent)
    kind = type(current)
    paths = [_json_path(kind, path) for path in _split(mask)]
    if ["*"] in paths:
        paths = [[name] for name in settable]
    elif not paths:
        paths = [[name] for name in new if name in settable or name in fixed]
    for path in paths:
        if path[0] in fixed:
            _check_unchanged(path[0], old, new)
        elif path[0] not in settable:
            raise InvalidArgumentError(f"{'.'.join(path)} cannot be set", field="updateMask")
        else:
            copy_field(old, new, path)
    kept = {i.name: getattr(current, i.name) for i in msgspec.structs.fields(kind) if i.encode_name in kind.OUTPUT_ONLY}  # fmt: skip
    return msgspec.structs.replace(read_document(old, kind), **kept)


def _split(mask: str) -> list[str]:
    return [path for path in (p.strip() for p in mask.split(",")) if path]


def _check_unchanged(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    if name in new and new[name] != old.get(name):
        raise InvalidArgumentError(
            f"it is {old.get(name, 'unset')} and cannot become {new[name]}",
            field=name,
            why="this is decided when the resource is made",
            fix="make another one",
        )


def _json_path(kind: type[Document], path: str) -> list[str]:
    """The JSON names of a path; below a map, keys are as they are."""
    names: list[str] = []
    below: Any = kind
    for part in path.split("."):
        if part == "*" and not names:
            return ["*"]
        if isinstance(below, type) and issubclass(below, Document):
            found = next(
                (i for i in msgspec.structs.fields(below) if part in (i.name, i.encode_name)), None
            )
            if found is None:
                raise InvalidArgumentError(
                    f"{path} is no field of a {kind.__name__}", field="updateMask"
                )
            names.append(found.encode_name)
            below = _inside(typing.get_type_hints(below)[found.name])
        else:
            names.append(part)
            below = None
    return names


def _inside(hint: Any) -> Any:
    """`DockerRepositoryConfig` of `DockerRepositoryConfig | None`."""
    inner = [a for a in typing.get_args(hint) if a is not type(None)]
    return inner[0] if len(inner) == 1 else hint
