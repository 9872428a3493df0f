from __future__ import annotations

import pytest

from hakobune.runtime.container import ContainerError
from hakobune.runtime.event import Event, EventKind
from hakobune.runtime.protocol import (
    ProtocolError,
    Reply,
    Request,
    decode_reply,
    decode_request,
    encode_error,
    encode_event,
    encode_reply,
    encode_request,
)


def test_a_request_is_one_line_and_comes_back() -> None:
    line = encode_request(7, "start", {"id": "web\nx"})

    assert line.count(b"\n") == 1
    assert decode_request(line) == Request(7, "start", {"id": "web\nx"})


def test_a_reply_gives_its_value() -> None:
    reply = decode_reply(encode_reply(7, [1, 2]))

    assert isinstance(reply, Reply)
    assert (reply.id, reply.result()) == (7, [1, 2])


def test_an_error_is_raised_with_all_that_it_says() -> None:
    error = ContainerError("cannot", why="because", fix="do", kind="phase")

    reply = decode_reply(encode_error(7, error))

    assert isinstance(reply, Reply)
    with pytest.raises(ContainerError) as caught:
        reply.result()
    raised = caught.value
    assert (raised.what, raised.why, raised.fix, raised.kind) == (
        "cannot",
        "because",
        "do",
        "phase",
    )


def test_an_event_comes_between_replies() -> None:
    event = Event(kind=EventKind.EXITED, subject="web", time=1.0, exit_code=3)

    assert decode_reply(encode_event(event)) == event


@pytest.mark.parametrize(
    "line",
    [b"", b"nonsense", b"[]", b'{"v":1}', b'{"v":1,"id":"x","verb":"a"}', b'{"v":1,"id":1,"verb":"a","args":[]}'],
)  # fmt: skip
def test_what_is_no_request_is_refused(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_request(line)


def test_another_version_is_refused_with_what_to_do() -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_request(b'{"v":2,"id":1,"verb":"hello"}')

    assert "version 2" in caught.value.what
    assert "hako serve --stop" in caught.value.fix
