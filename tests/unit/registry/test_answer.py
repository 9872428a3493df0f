"""The bytes before a body."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from time import time

from hakobune.registry.answer import date_line, error_answer, warning, write_head


def test_a_head_has_a_status_a_date_its_fields_and_a_length() -> None:
    lines = write_head(404, (("A", "b"),), length=3, close=True).decode().split("\r\n")

    assert lines[0] == "HTTP/1.1 404 Not Found"
    assert lines[2:] == ["A: b", "Content-Length: 3", "Connection: close", "", ""]


def test_the_date_is_now_as_http_writes_it() -> None:
    date = date_line().removeprefix("Date: ").removesuffix("\r\n")

    assert abs(parsedate_to_datetime(date).timestamp() - time()) < 3
    assert date.endswith(" GMT")


def test_no_field_ends_the_head_before_its_time() -> None:
    block = write_head(200, (("Content-Type", "a\r\nSet-Cookie: x"),), length=0, close=False)

    assert b"\r\nSet-Cookie" not in block


def test_a_warning_is_quoted_and_short() -> None:
    name, value = warning('say "x" \\ é\n' + "a" * 5000)

    assert name == "Warning"
    assert value.startswith('299 - "say \\"x\\" \\\\ ??aaa')
    assert len(value) < 4096


def test_an_error_is_what_clients_read() -> None:
    answer = error_answer(404, "BLOB_UNKNOWN", "no", {"digest": "d"})

    assert answer.body == (
        b'{"errors":[{"code":"BLOB_UNKNOWN","message":"no","detail":{"digest":"d"}}]}'
    )
