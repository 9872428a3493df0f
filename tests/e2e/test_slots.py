"""Slots made by several threads at once: each forks, and what one child inherits must not keep another one waiting."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.needs_root,
]

PROGRAM = """
from concurrent.futures import ThreadPoolExecutor
from hakobune.runtime.slot import IdRange, make_slot

def make(number):
    with make_slot(IdRange(0x7FD00000 - 65536 * number)):
        pass

with ThreadPoolExecutor(4) as pool:
    list(pool.map(make, range(40)))
"""


def test_threads_make_slots_side_by_side() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, timeout=60, start_new_session=True
    )

    assert done.returncode == 0, done.stderr
