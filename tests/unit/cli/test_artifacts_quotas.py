"""Sizes of quotas as people write them."""

from __future__ import annotations

import pytest

from hakobune.cli.artifacts_quotas import parse_bytes
from hakobune.errors import UsageError


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1000", 1000), ("500MB", 500_000_000), ("10GiB", 10 * 2**30), ("1.5k", 1500), ("2 tb", 2 * 10**12), ("3Mi", 3 * 2**20)],
)  # fmt: skip
def test_sizes_are_read(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "-1", "many", "1XB", "1 2"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(UsageError, match="is no size"):
        parse_bytes(text)
