"""The launcher under the address and undefined-behaviour sanitizers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).parents[2] / "launcher"
FUZZ = LAUNCHER / "fuzz"
SANITIZERS = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("gcc") is None, reason="gcc is not installed; ./test installs it"
    ),
]


def compile_with_sanitizers(program: Path, *arguments: str | Path) -> Path:
    subprocess.run(["gcc", "-std=c11", *SANITIZERS, "-o", program, *arguments], check=True)
    return program


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_bytes_break_the_toml_parser(tmp_path: Path, seed: int) -> None:
    target = compile_with_sanitizers(
        tmp_path / "fuzz",
        "-DTOML_FREES",
        FUZZ / "toml_fuzz.c",
        FUZZ / "driver.c",
        LAUNCHER / "toml.c",
    )

    result = subprocess.run(
        [target, "15", str(seed), *sorted((FUZZ / "corpus").iterdir())],
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stderr[-2000:]
    assert int(result.stdout.split()[0]) > 10_000


def test_the_contract_holds_under_sanitizers(tmp_path: Path) -> None:
    program = compile_with_sanitizers(
        tmp_path / "launcher",
        FUZZ / "sanitizer_options.c",
        LAUNCHER / "launcher.c",
        LAUNCHER / "toml.c",
    )

    result = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q"),
            *("-k", "not milliseconds", Path(__file__).with_name("test_launcher.py")),
        ],
        env={**os.environ, "HAKO_TEST_LAUNCHER": str(program)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stdout[-3000:]
