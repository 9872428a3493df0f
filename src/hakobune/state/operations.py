"""Long-running operations of every API (google.longrunning.Operation): started, then done once, with a response or an error."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

# google.rpc.Code
CODES: Mapping[str, int] = {
    "CANCELLED": 1,
    "UNKNOWN": 2,
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "ABORTED": 10,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A mutation on its way. `metadata` and `response` are the resource as JSON, with its `@type`.

    Clients read these strictly: they hold only fields that Google's own messages have.
    """

    name: str
    target: str  # the full name of the resource
    metadata: Mapping[str, Any]
    done: bool = False
    response: Mapping[str, Any] | None = None
    status: str = ""  # the canonical word of the error, when it failed
    message: str = ""

    def to_document(self) -> dict[str, Any]:
        """The JSON of google.longrunning.Operation."""
        document: dict[str, Any] = {"name": self.name, "metadata": dict(self.metadata)}
        if self.done:
            document["done"] = True
        if self.status:
            document["error"] = {"code": CODES[self.status], "message": self.message}
        elif self.response is not None:
            document["response"] = dict(self.response)
        return document

    def succeeded(self, response: Mapping[str, Any]) -> Operation:
        return replace(self, done=True, response=response, metadata=response)

    def failed(self, status: str, message: str, metadata: Mapping[str, Any]) -> Operation:
        return replace(self, done=True, status=status, message=message, metadata=metadata)


def start_operation(parent: str, target: str, metadata: Mapping[str, Any]) -> Operation:
    """A new operation in `projects/P/locations/L`."""
    return Operation(name=f"{parent}/operations/{uuid.uuid4()}", target=target, metadata=metadata)


def encode_operation(operation: Operation) -> bytes:
    return msgspec.json.encode(operation)


def decode_operation(data: bytes) -> Operation:
    return msgspec.json.decode(data, type=Operation)
