"""Frames, statuses and deadlines of gRPC over HTTP/1.1."""

from __future__ import annotations

import sys

import pytest

from hakobune.api.grpc_front import (
    GrpcFront,
    _Refused,
    _Request,
    read_frame,
    refusal,
    success,
    timeout_s,
)


def test_a_message_is_framed_and_read_again():
    answer = success(b"abc")

    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"trailer: grpc-status" in head
    assert body == b"8\r\n\0\0\0\0\3abc\r\n0\r\ngrpc-status: 0\r\n\r\n"
    assert read_frame(b"\0\0\0\0\3abc") == b"abc"


@pytest.mark.parametrize("body", [b"", b"\0\0\0\0", b"\0\0\0\0\4abc", b"\0\0\0\0\2abc"])
def test_what_is_not_one_message_is_refused(body):
    with pytest.raises(ValueError, match="not one message"):
        read_frame(body)


def test_a_compressed_message_is_refused():
    with pytest.raises(_Refused, match="compressed"):
        read_frame(b"\1\0\0\0\3abc")


def test_words_of_a_refusal_travel_percent_encoded():
    answer = refusal(5, "no 100 % “web”\r\nx: y", b"\0\1")

    lines = answer.decode().split("\r\n")
    assert "grpc-status: 5" in lines
    assert "grpc-message: no 100 %25 %E2%80%9Cweb%E2%80%9D%0D%0Ax: y" in lines
    assert "grpc-status-details-bin: AAE" in lines
    assert lines[-2:] == ["", ""]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10S", 10.0), ("500m", 0.5), ("2M", 60.0), ("1u", 0.001), ("", 60.0), ("x", 60.0), ("-1S", 60.0)],
)  # fmt: skip
def test_deadlines_are_read(text, seconds):
    assert timeout_s(text) == seconds


def test_without_googles_message_types_the_fix_is_said(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "hakobune.api.grpc_transcode", None)
    monkeypatch.delattr("hakobune.api.grpc_transcode", raising=False)

    with pytest.raises(_Refused, match=r"pip install 'hakobune\[grpc\]'") as caught:
        GrpcFront(tmp_path / "api.sock")._call(_Request())
    assert caught.value.status == 12
