from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hakobune.runtime.attach_protocol import (
    LONGEST,
    Kind,
    frame,
    read_size,
    size_frame,
    take_frames,
)


@given(st.lists(st.tuples(st.sampled_from(Kind), st.binary(max_size=20))), st.integers(1, 7))
def test_frames_come_as_they_were_sent_however_they_are_cut(
    sent: list[tuple[Kind, bytes]], step: int
) -> None:
    stream = b"".join(frame(kind, data) for kind, data in sent)
    received = bytearray()
    came = []

    for start in range(0, len(stream), step):
        received += stream[start : start + step]
        came += list(take_frames(received))

    assert came == sent
    assert not received


def test_a_size_is_rows_and_columns() -> None:
    ((kind, data),) = take_frames(bytearray(size_frame(24, 80)))

    assert kind is Kind.SIZE
    assert read_size(data) == (24, 80)


@pytest.mark.parametrize(
    "received",
    [b"?\0\0\0\0", b"o" + (LONGEST + 1).to_bytes(4, "big")],
)
def test_what_is_no_frame_is_refused(received: bytes) -> None:
    with pytest.raises(ValueError):
        list(take_frames(bytearray(received)))


def test_a_size_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError):
        read_size(b"\0\1")
