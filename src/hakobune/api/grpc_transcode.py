"""A gRPC message to the REST call that its binding says, and the answer back (google.api.http "transcoding"; pure).

Imported by the gRPC front alone: Google's message types come with `google-cloud-artifact-registry`, an extra.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import google.cloud.artifactregistry_v1 as _artifactregistry  # registers its message types
from google.cloud.location import locations_pb2
from google.iam.v1 import iam_policy_pb2
from google.longrunning import operations_pb2
from google.protobuf import any_pb2, descriptor_pool, empty_pb2, json_format, message_factory
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from hakobune.api.grpc_methods import METHODS, GrpcMethod
from hakobune.state.operations import CODES

_KNOWN = (_artifactregistry, locations_pb2, iam_policy_pb2, operations_pb2, empty_pb2)
# The codes of google.rpc that operations do not use.
_MORE_CODES = {"OUT_OF_RANGE": 11, "UNIMPLEMENTED": 12, "DATA_LOSS": 15, "UNAUTHENTICATED": 16}
_INTERNAL = 13


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCall:
    """A REST call."""

    verb: str
    target: str
    body: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcAnswer:
    """A message, or a status other than 0 with what is known of it (a serialised google.rpc.Status)."""

    message: bytes = b""
    status: int = 0
    text: str = ""
    details: bytes = b""


def find_method(path: str) -> GrpcMethod | None:
    """The method of `/PACKAGE.SERVICE/METHOD`."""
    return METHODS.get(path)


def to_http(method: GrpcMethod, data: bytes) -> HttpCall:
    """The call that a serialised request is.

    Raises:
        ValueError: it is no such message, or lacks what stands in the path.
    """
    message = _new(method.request)
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise ValueError(f"the request is no {method.request}") from error
    fields: dict[str, Any] = json_format.MessageToDict(message)
    path = method.path
    start = path.index("{")
    name = path[start + 1 : path.index("}")]
    value = _take(fields, [_json_name(part) for part in name.split(".")])
    if not value:
        raise ValueError(f"{name}: it is missing")
    target = path.replace("{" + name + "}", quote(value, safe="/:"))
    body: bytes | None = None
    if method.body == "*":
        body, fields = json.dumps(fields).encode(), {}
    elif method.body:
        body = json.dumps(fields.pop(_json_name(method.body), {})).encode()
    query = urlencode(list(_flat(fields)))
    return HttpCall(verb=method.verb, target=f"{target}?{query}" if query else target, body=body)


def to_grpc(method: GrpcMethod, status: int, data: bytes) -> GrpcAnswer:
    """The answer that a REST answer is."""
    try:
        document = json.loads(data)
        if status != 200:
            return _refusal(document["error"])
        message = _new(method.response)
        json_format.ParseDict(document, message, ignore_unknown_fields=True)
        return GrpcAnswer(message=message.SerializeToString())
    except (ValueError, KeyError, TypeError, json_format.ParseError) as error:
        return GrpcAnswer(status=_INTERNAL, text=f"the API answered {status} with something else: {error}")  # fmt: skip


def _refusal(error: Mapping[str, Any]) -> GrpcAnswer:
    word = error["status"]
    status = status_pb2.Status(
        code=CODES.get(word) or _MORE_CODES.get(word, 2), message=error["message"]
    )
    for detail in error.get("details", ()):
        info = error_details_pb2.ErrorInfo(
            reason=detail.get("reason", ""),
            domain=detail.get("domain", ""),
            metadata=detail.get("metadata", {}),
        )
        packed = any_pb2.Any()
        packed.Pack(info)
        status.details.append(packed)
    return GrpcAnswer(status=status.code, text=status.message, details=status.SerializeToString())


def _new(name: str) -> Message:
    found = descriptor_pool.Default().FindMessageTypeByName(name)
    message: Message = message_factory.GetMessageClass(found)()
    return message


def _json_name(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def _take(fields: dict[str, Any], path: list[str]) -> str:
    """Take a field out; the value of `["repository", "name"]`."""
    *parents, last = path
    for name in parents:
        fields = fields.get(name, {})
    return str(fields.pop(last, ""))


def _flat(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Query parameters of fields, nested ones with dots."""
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            yield from ((prefix + name, str(item)) for item in value)
        else:
            yield prefix + name, str(value).lower() if isinstance(value, bool) else str(value)
