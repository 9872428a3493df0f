"""Request heads: what is read, and what is refused (RFC 9112 §2.2, §3, §5, §6)."""

from __future__ import annotations

import pytest

from hakobune.registry.head import Head, HeadError, parse_head


def a_head(*lines: str, line: str = "GET /v2/ HTTP/1.1", host: bool = True) -> Head:
    block = (line, *(["Host: x"] if host else []), *lines)
    return parse_head("\r\n".join(block).encode("latin-1"))


def test_a_head_is_a_method_a_target_and_fields() -> None:
    head = a_head("Range:  bytes=0-1 ", line="GET /v2/a%2Fb?n=1&last=%20 HTTP/1.1")

    assert (head.method, head.path, head.query) == ("GET", "/v2/a/b", "n=1&last=%20")
    assert head.target == "/v2/a%2Fb?n=1&last=%20"
    assert head.get("range") == "bytes=0-1"
    assert not head.has_body
    assert head.keeps_connection


def test_fields_that_are_lists_are_joined() -> None:
    assert a_head("Accept: a", "accept: b").get("accept") == "a, b"


def test_proxies_may_name_the_whole_url() -> None:
    assert a_head(line="GET http://host/v2/x HTTP/1.1").path == "/v2/x"
    assert a_head(line="GET http://host HTTP/1.1").path == "/"


@pytest.mark.parametrize(
    ("line", "fields", "keeps"),
    [
        ("GET / HTTP/1.1", ["Connection: close"], False),
        ("GET / HTTP/1.1", ["Connection: Keep-Alive, Close"], False),
        ("GET / HTTP/1.0", [], False),
        ("GET / HTTP/1.0", ["Connection: keep-alive"], True),
    ],
)
def test_the_client_says_whether_the_connection_stays(
    line: str, fields: list[str], keeps: bool
) -> None:
    assert a_head(*fields, line=line).keeps_connection is keeps


@pytest.mark.parametrize(
    "fields",
    [
        ["Content-Length: 1", "Transfer-Encoding: chunked"],
        ["Content-Length: 1", "Content-Length: 1"],
        ["Content-Length: +1"],
        ["Content-Length: 1, 1"],
        ["Content-Length: "],
        ["Content-Length : 1"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        ["Host: y"],
        ["Authorization: a", "Authorization: b"],
        ["X: a", " folded"],
        ["Host"],
        [": empty"],
        ["X: \0"],
        ["X: a\nY: b"],
        ["X: a\rY: b"],
        ["Expect: 200-maybe"],
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(fields: list[str]) -> None:
    a_head("Host-Like: x", host=True)  # names that were seen are remembered

    with pytest.raises(HeadError):
        a_head(*fields)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET / HTTP/2.0", 505),
        ("GET /", 400),
        ("GET  / HTTP/1.1", 400),
        ("GET / HTTP/1.1 ", 400),
        ("G=T / HTTP/1.1", 400),
        ("GET /\x7f HTTP/1.1", 400),
        ('GET /" HTTP/1.1', 400),
        ("GET /#fragment HTTP/1.1", 400),
        ("GET * HTTP/1.1", 400),
        ("GET x/y HTTP/1.1", 400),
        ("GET ftp://x/y HTTP/1.1", 400),
    ],
)
def test_a_line_that_is_no_request_is_refused(line: str, status: int) -> None:
    with pytest.raises(HeadError) as caught:
        a_head(line=line)

    assert caught.value.status == status


def test_a_request_of_our_day_needs_a_host() -> None:
    with pytest.raises(HeadError):
        a_head(host=False)
    assert a_head(line="GET / HTTP/1.0", host=False).path == "/"
