"""The process that forwards DNS on an installation's bridge (`runtime.dns`), started and ended."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def start_forwarder(address: str) -> subprocess.Popen[bytes]:
    """A forwarder that listens on *address* when this returns; it ends when its `stdin` is closed."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-m", "hakobune.runtime.dns", address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    return process


@contextmanager
def forwarder(address: str) -> Iterator[None]:
    """A DNS forwarder on *address* while the block lasts."""
    process = start_forwarder(address)
    try:
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
