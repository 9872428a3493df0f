"""Request heads and bodies of every kind: what is taken is framed as others frame it, what is unusual is refused."""

from __future__ import annotations

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hakobune.registry.body import ChunkedBody, SizedBody, body_of
from hakobune.registry.head import HeadError, parse_head


def block(*lines: bytes) -> bytes:
    """A head without its final empty line."""
    return b"\r\n".join(lines)


SMUGGLING = {
    "both lengths": [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
    "both lengths, other order": [b"Transfer-Encoding: chunked", b"Content-Length: 5"],
    "two lengths": [b"Content-Length: 5", b"Content-Length: 6"],
    "the same length twice": [b"Content-Length: 5", b"Content-Length: 5"],
    "a list of lengths": [b"Content-Length: 5, 5"],
    "a signed length": [b"Content-Length: +5"],
    "a negative length": [b"Content-Length: -5"],
    "a length in hex": [b"Content-Length: 0x5"],
    "a length with underscores": [b"Content-Length: 1_0"],
    "a length in other digits": ["Content-Length: ٥".encode()],
    "an endless length": [b"Content-Length: " + b"9" * 40],
    "an empty length": [b"Content-Length:"],
    "two codings": [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
    "a coding after chunked": [b"Transfer-Encoding: chunked, identity"],
    "a coding before chunked": [b"Transfer-Encoding: gzip, chunked"],
    "an unknown coding": [b"Transfer-Encoding: xchunked"],
    "a quoted coding": [b'Transfer-Encoding: "chunked"'],
    "a coding after a vertical tab": [b"Transfer-Encoding: \x0bchunked"],
    "a space before the colon": [b"Transfer-Encoding : chunked"],
    "a folded line": [b"X: a", b" Transfer-Encoding: chunked"],
    "a folded coding": [b"Transfer-Encoding:", b" chunked"],
    "a tab before a name": [b"\tContent-Length: 5"],
    "a bare line feed": [b"X: a\nTransfer-Encoding: chunked"],
    "a bare carriage return": [b"X: a\rTransfer-Encoding: chunked"],
    "a NUL": [b"X: a\x00b"],
    "no colon": [b"Content-Length 5"],
    "no name": [b": 5"],
    "a name with a space": [b"Content Length: 5"],
    "a name beyond ASCII": ["Contént-Length: 5".encode()],
    "a second host": [b"Host: y"],
    "an empty line": [b"", b"Content-Length: 5"],
}


@pytest.mark.parametrize("lines", SMUGGLING.values(), ids=SMUGGLING.keys())
def test_what_two_parsers_could_read_in_two_ways_is_refused(lines: list[bytes]) -> None:
    with pytest.raises(HeadError):
        parse_head(block(b"PUT /v2/ HTTP/1.1", b"Host: x", *lines))


LINES = {
    "no version": b"GET /v2/",
    "version 0.9": b"GET /v2/ HTTP/0.9",
    "version 2": b"PRI * HTTP/2.0",
    "a version in small letters": b"GET /v2/ http/1.1",
    "two spaces": b"GET  /v2/ HTTP/1.1",
    "a tab": b"GET\t/v2/ HTTP/1.1",
    "a space in the target": b"GET /v2/ x HTTP/1.1",
    "a space at the end": b"GET /v2/ HTTP/1.1 ",
    "an empty target": b"GET  HTTP/1.1",
    "a target that is no path": b"GET v2/ HTTP/1.1",
    "an asterisk": b"OPTIONS * HTTP/1.1",
    "a host and port": b"CONNECT x:443 HTTP/1.1",
    "a fragment": b"GET /v2/#x HTTP/1.1",
    "bytes beyond ASCII": "GET /v2/é HTTP/1.1".encode(),
    "a NUL": b"GET /v2/\x00 HTTP/1.1",
    "a backslash": b"GET /v2\\x HTTP/1.1",
    "a method with a colon": b"GE:T /v2/ HTTP/1.1",
    "no method": b" /v2/ HTTP/1.1",
    "nothing": b"",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES.keys())
def test_request_lines_that_are_none_are_refused(line: bytes) -> None:
    with pytest.raises(HeadError):
        parse_head(block(line, b"Host: x"))


def test_a_request_without_a_host_is_refused() -> None:
    with pytest.raises(HeadError):
        parse_head(b"GET /v2/ HTTP/1.1")


NAMES = st.sampled_from(
    ["Content-Length", "content-length", "Transfer-Encoding", "Connection", "X", "Range", "Expect", "X Y", "Host", ""]
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(
        ["0", "5", "05", "5 ", "+5", "5,5", "chunked", "Chunked", "identity", "chunked, chunked", "close", "keep-alive", "100-continue", "\t5", "a\x0bb", ""]
    ),
    st.text(st.characters(max_codepoint=255), max_size=12),
)  # fmt: skip
SEPARATORS = st.sampled_from([": ", ":", " : ", ":\t", "\n ", ""])
ENDS = st.sampled_from(["\r\n", "\r\n", "\r\n", "\n", "\r"])


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    method = draw(st.sampled_from(["GET", "PUT", "HEAD", "P UT", "get", "G\r\nET"]))
    target = draw(
        st.sampled_from(["/v2/", "/v2/a/b/c/manifests/x?y=z", "http://h/v2/", "/%2e%2e/", "x"])
    )
    version = draw(st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/1.1 "]))
    text = f"{method} {target} {version}\r\nHost: x"
    for name, separator, value in draw(st.lists(st.tuples(NAMES, SEPARATORS, VALUES), max_size=5)):
        text += draw(ENDS) + name + separator + value
    return text.encode("latin-1")


def others_framing(head: bytes) -> tuple[str, object]:
    """How h11 reads it: `sized`, `chunked`, or why it does not."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(head + b"\r\n\r\n")
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        return "refused", str(error)
    if not isinstance(event, h11.Request):
        return "refused", repr(event)
    fields = dict(event.headers)
    if b"transfer-encoding" in fields:
        return "chunked", None
    return "sized", int(fields.get(b"content-length", b"0"))


@settings(max_examples=600, deadline=None)
@given(heads())
@example(block(b"PUT /v2/ HTTP/1.1", b"Host: x", b"Content-Length: 05"))
def test_what_is_taken_is_framed_as_another_parser_frames_it(head: bytes) -> None:
    try:
        parsed = parse_head(head)
    except HeadError:
        return
    kind, length = others_framing(head)
    if parsed.fields.chunked:
        assert kind == "chunked"
    else:
        assert (kind, length) == ("sized", parsed.fields.content_length or 0)


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_head_or_refused(data: bytes) -> None:
    try:
        head = parse_head(data)
    except HeadError:
        return
    assert head.path.startswith("/")


# Bodies


def unframe(data: bytes, step: int) -> bytes:
    """What arrives when *data* comes in pieces of *step* bytes."""
    body, got = ChunkedBody(), bytearray()
    for at in range(0, len(data), step):
        piece = memoryview(data)[at : at + step]
        used = 0
        while used < len(piece) and not body.finished:
            used += body.feed(piece[used:], got.extend)
    return bytes(got)


def chunked(parts: list[bytes], *, extension: bytes = b"", trailers: bytes = b"") -> bytes:
    framed = b"".join(b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in parts if part)
    return framed + b"0\r\n" + trailers + b"\r\n"


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.binary(max_size=40), max_size=6),
    st.binary(max_size=10),
    st.lists(st.integers(1, 9), min_size=1),
    st.sampled_from([b"", b";name", b";a=b", b' ;a="b"']),
    st.sampled_from([b"", b"X: y\r\n"]),
)
def test_chunks_are_put_together_however_they_arrive(
    parts: list[bytes], following: bytes, steps: list[int], extension: bytes, trailers: bytes
) -> None:
    whole = chunked(parts, extension=extension, trailers=trailers)
    data = whole + following
    body, got, at, turn = ChunkedBody(), bytearray(), 0, 0
    while not body.finished:
        step = steps[turn % len(steps)]
        turn += 1
        piece = memoryview(data)[at : at + step]
        assert piece, "it waits for more than there is"
        at += body.feed(piece, got.extend)

    assert bytes(got) == b"".join(parts)
    assert data[at:] == following


BROKEN_CHUNKS = {
    "no size": b"\r\nabc\r\n0\r\n\r\n",
    "no hex": b"xyz\r\n",
    "a signed size": b"+3\r\nabc\r\n0\r\n\r\n",
    "a negative size": b"-3\r\nabc\r\n0\r\n\r\n",
    "a size with a prefix": b"0x3\r\nabc\r\n0\r\n\r\n",
    "a size with underscores": b"1_0\r\n",
    "a size beyond 64 bits": b"fffffffffffffffff\r\n",
    "a space before the size": b" 3\r\nabc\r\n0\r\n\r\n",
    "a bare line feed": b"3\nabc\r\n0\r\n\r\n",
    "a bare line feed after the chunk": b"3\r\nabc\n0\r\n\r\n",
    "a chunk that is longer than it says": b"3\r\nabcd\r\n0\r\n\r\n",
    "a line without an end": b"3;" + b"x" * 5000,
    "endless trailers": b"0\r\n" + b"X: y\r\n" * 5000,
    "a NUL in an extension": b"3;\x00\r\nabc\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("data", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS.keys())
@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_broken_chunks_are_refused(data: bytes, step: int) -> None:
    with pytest.raises(HeadError):
        unframe(data, step)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_chunks_or_refused(data: bytes) -> None:
    body, got = ChunkedBody(), bytearray()
    try:
        used = body.feed(memoryview(data), got.extend)
    except HeadError:
        return
    assert used <= len(data)
    assert body.finished or used == len(data)
    assert len(got) <= len(data)


@given(st.integers(0, 50), st.binary(max_size=60))
def test_a_sized_body_ends_where_it_says(length: int, data: bytes) -> None:
    body, got = SizedBody(length), bytearray()

    used = body.feed(memoryview(data), got.extend)

    assert bytes(got) == data[:length]
    assert used == min(length, len(data))
    assert body.finished == (len(data) >= length)


def test_a_body_without_a_length_is_empty() -> None:
    assert body_of(None, chunked=False).finished
