from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hakobune.runtime.detach_keys import DetachFilter, DetachKeysError, parse_detach_keys


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", b"\x10\x11"),
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("ctrl-P", b"\x10"),
        ("a", b"a"),
        ("ctrl-a,d", b"\x01d"),
        ("ctrl-@", b"\x00"),
        ("ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x1b\x1c\x1d\x1e\x1f"),
    ],
)
def test_keys_are_what_a_terminal_sends_for_them(text: str, keys: bytes) -> None:
    assert parse_detach_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-1", "ctrl-é", "ab", "a,,b", "é", "alt-x", " ,"])
def test_what_is_no_key_is_named(text: str) -> None:
    with pytest.raises(DetachKeysError) as raised:
        parse_detach_keys(text)

    assert "is no key" in raised.value.what
    assert "ctrl-p,ctrl-q" in raised.value.fix


def test_what_is_typed_before_the_keys_goes_on_and_nothing_after_them() -> None:
    filter = DetachFilter(b"\x10\x11")

    assert filter.feed(b"ls\x10\x11rm") == b"ls"
    assert filter.found
    assert filter.feed(b"more") == b""


def test_a_beginning_is_held_back_until_it_is_plain_what_it_becomes() -> None:
    filter = DetachFilter(b"\x10\x11")

    assert filter.feed(b"x\x10") == b"x"
    assert filter.feed(b"y") == b"\x10y"
    assert filter.feed(b"\x10") == b""
    assert filter.feed(b"\x10") == b"\x10"
    assert filter.feed(b"\x11") == b""
    assert filter.found


def test_without_keys_all_goes_on() -> None:
    filter = DetachFilter(b"")

    assert filter.feed(b"\x10\x11") == b"\x10\x11"
    assert not filter.found


@given(st.lists(st.binary(max_size=6)), st.binary(min_size=1, max_size=4))
def test_however_it_is_cut_the_same_goes_on(pieces: list[bytes], keys: bytes) -> None:
    text = b"".join(pieces)
    filter = DetachFilter(keys)
    passed = b"".join(filter.feed(piece) for piece in pieces)

    before, found, _ = text.partition(keys)
    assert filter.found == bool(found)
    if found:
        assert passed == before
    else:
        assert text.startswith(passed)
        assert keys.startswith(text[len(passed) :])
