"""The committed programs are what `launcher/build` makes of the sources beside them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).parents[2] / "launcher"


@pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None and "HAKO_ZIG" not in os.environ,
    reason="zig is not installed (dependency group `launcher`); ./test installs it",
)
def test_the_committed_programs_are_built_from_their_sources(tmp_path: Path) -> None:
    zig = os.environ.get("HAKO_ZIG", f"{sys.executable} -m ziglang")
    subprocess.run(
        [LAUNCHER / "build", tmp_path],
        env={**os.environ, "HAKO_ZIG": zig},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    built = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    committed = {file.name: file.read_bytes() for file in (LAUNCHER / "bin").iterdir()}
    assert sorted(built) == sorted(committed)
    assert [name for name in built if built[name] != committed[name]] == []
