"""The supervisor's protocol: one JSON object a line, on a unix socket, in both directions.

A request is `{"v": 1, "id": N, "verb": …, "args": {…}}`; its reply is `{"id": N, "ok": …}` or
`{"id": N, "error": {"what", "why", "fix", "kind"}}`. Requests of one connection may overlap; replies come as
the work ends, in any order. After the verb `events` the connection also carries `{"event": {…}}` lines.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hakobune.errors import HakoError
from hakobune.runtime.container import ContainerError
from hakobune.runtime.event import Event

VERSION = 1
MAX_LINE_BYTES = 8 << 20


class ProtocolError(HakoError):
    """The other side said something that is not this protocol, or not this version of it."""


@dataclass(frozen=True, slots=True)
class Request:
    """One thing asked for."""

    id: int
    verb: str
    args: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to the request with the same id: `value`, or `error` to raise."""

    id: int
    value: Any = None
    error: ContainerError | None = None

    def result(self) -> Any:
        """The value.

        Raises:
            ContainerError: what the supervisor answered instead.
        """
        if self.error is not None:
            raise self.error
        return self.value


def encode_request(id: int, verb: str, args: Mapping[str, Any]) -> bytes:
    """The line that asks for *verb*."""
    return _line({"v": VERSION, "id": id, "verb": verb, "args": dict(args)})


def decode_request(line: bytes) -> Request:
    """Read a request line.

    Raises:
        ProtocolError: it is none, or of another version.
    """
    message = _message(line)
    if message.get("v") != VERSION:
        raise ProtocolError(
            f"cannot understand version {message.get('v')!r} of the supervisor's protocol",
            why=f"this supervisor speaks version {VERSION}",
            fix="run `hako serve --stop`, then `hako serve`, with the same version of hako",
        )
    id, verb, args = message.get("id"), message.get("verb"), message.get("args", {})
    if not (isinstance(id, int) and isinstance(verb, str) and isinstance(args, dict)):
        raise ProtocolError("cannot understand a request: id, verb or args is missing or wrong")
    return Request(id, verb, args)


def encode_reply(id: int, value: Any) -> bytes:
    """The line that answers request *id* with *value*."""
    return _line({"id": id, "ok": value})


def encode_error(id: int, error: HakoError) -> bytes:
    """The line that answers request *id* with an error."""
    kind = getattr(error, "kind", "failed")
    body = {"what": error.what, "why": error.why, "fix": error.fix, "kind": kind}
    return _line({"id": id, "error": body})


def encode_event(event: Event) -> bytes:
    """The line that tells a subscriber of *event*."""
    return _line({"event": event.to_json()})


def decode_reply(line: bytes) -> Reply | Event:
    """Read a line from the supervisor: a reply, or an event on a connection that asked for them.

    Raises:
        ProtocolError: it is neither.
    """
    message = _message(line)
    if "event" in message:
        return Event.from_json(message["event"])
    if not isinstance(message.get("id"), int):
        raise ProtocolError("cannot understand the supervisor's answer: it has no id")
    if "error" in message:
        body = message["error"]
        error = ContainerError(
            body["what"], why=body.get("why", ""), fix=body.get("fix", ""), kind=body["kind"]
        )
        return Reply(message["id"], error=error)
    return Reply(message["id"], message.get("ok"))


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def _message(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError as error:
        raise ProtocolError("cannot understand a line of the supervisor's protocol") from error
    if not isinstance(message, dict):
        raise ProtocolError("cannot understand a line of the supervisor's protocol")
    return message
