"""Hashes that go on where another process has stopped."""

from __future__ import annotations

import hashlib

import pytest

from hakobune.registry.running_hash import ALGORITHMS, resume_hash, start_hash

DATA = bytes(range(256)) * 4099


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("cut", [0, 1, 63, 64, 65, 1000, len(DATA)])
def test_a_hash_goes_on_from_its_state(algorithm: str, cut: int) -> None:
    first = start_hash(algorithm)
    first.update(memoryview(DATA)[:cut])
    state = first.state()
    assert state is not None, "this Python's libcrypto is reached by name"

    second = resume_hash(algorithm, state)
    assert second is not None
    second.update(memoryview(DATA)[cut:])

    assert second.hexdigest() == hashlib.new(algorithm, DATA).hexdigest()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_digits_may_be_asked_for_in_the_middle(algorithm: str) -> None:
    running = start_hash(algorithm)
    running.update(memoryview(DATA)[:100])

    assert running.hexdigest() == hashlib.new(algorithm, DATA[:100]).hexdigest()
    running.update(memoryview(bytearray(DATA[100:])))
    assert running.hexdigest() == hashlib.new(algorithm, DATA).hexdigest()


def test_a_state_that_is_none_is_not_believed() -> None:
    state = start_hash("sha256").state()
    assert state is not None

    assert resume_hash("sha256", b"") is None
    assert resume_hash("sha256", state[:-1]) is None
    assert resume_hash("sha512", state) is None
