"""Ranges of blobs (RFC 9110 §14.1.2) and of chunks (distribution-spec "Pushing a blob in chunks")."""

from __future__ import annotations

import pytest

from hakobune.registry.byte_range import (
    ByteRange,
    UnsatisfiableError,
    parse_content_range,
    parse_range,
)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("bytes=0-4", ByteRange(0, 5)),
        ("bytes=2-4", ByteRange(2, 3)),
        ("bytes=9-9", ByteRange(9, 1)),
        ("bytes=7-", ByteRange(7, 3)),
        ("bytes=-3", ByteRange(7, 3)),
        ("bytes=-100", ByteRange(0, 10)),
        ("bytes=5-1000", ByteRange(5, 5)),
    ],
)
def test_a_range_is_clipped_to_the_content(text: str, wanted: ByteRange) -> None:
    assert parse_range(text, 10) == wanted


@pytest.mark.parametrize("text", ["bytes=10-", "bytes=10-20", "bytes=5-2", "bytes=-0"])
def test_a_range_without_a_byte_cannot_be_satisfied(text: str) -> None:
    with pytest.raises(UnsatisfiableError):
        parse_range(text, 10)


@pytest.mark.parametrize("text", ["bytes=0-", "bytes=0-0", "bytes=-5"])
def test_no_range_of_nothing_can_be_satisfied(text: str) -> None:
    with pytest.raises(UnsatisfiableError):
        parse_range(text, 0)


@pytest.mark.parametrize(
    "text", [None, "", "bytes", "lines=0-1", "bytes=0-1,4-5", "bytes=-", "bytes=a-b", "bytes=1--2"]
)
def test_what_is_not_one_range_of_bytes_is_everything(text: str | None) -> None:
    assert parse_range(text, 10) is None


def test_a_chunk_says_where_it_belongs() -> None:
    assert parse_content_range("0-99") == ByteRange(0, 100)
    assert parse_content_range("bytes 100-100/200") == ByteRange(100, 1)
    assert parse_content_range("5-4") is None
    assert parse_content_range("-4") is None
    assert parse_content_range("0-x") is None
