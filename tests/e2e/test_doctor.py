"""`hako doctor` on this machine: whatever it finds, it says it in both formats and leaves nothing behind."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs_root


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def doctor(home: Path, port: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hakobune.cli.main", "doctor", *arguments],
        env={**os.environ, "HAKO_HOME": str(home), "HAKO_LISTEN": f"localhost:{port}"},
        capture_output=True,
        text=True,
        timeout=60,
    )


def findings(answer: subprocess.CompletedProcess[str]) -> dict[str, dict[str, str]]:
    return {finding["name"]: finding for finding in json.loads(answer.stdout)["findings"]}


def test_the_exit_code_says_whether_everything_needed_is_there(
    tmp_path: Path, free_port: int
) -> None:
    answer = doctor(tmp_path / "home", free_port, "--format", "json")

    states = {finding["state"] for finding in findings(answer).values()}
    assert json.loads(answer.stdout)["ready"] is ("missing" not in states)
    assert answer.returncode == (1 if "missing" in states else 0)
    assert answer.stderr == ""


def test_the_kernel_is_tried_and_nothing_stays(tmp_path: Path, free_port: int) -> None:
    mounts = Path("/proc/self/mountinfo").read_text()

    found = findings(doctor(tmp_path / "home", free_port, "--format", "json"))

    assert found["user namespaces"]["state"] == "found"
    assert found["root"]["state"] == "found"
    assert list(tmp_path.iterdir()) == []
    assert Path("/proc/self/mountinfo").read_text() == mounts


def test_a_port_that_somebody_has_is_missing_and_its_holder_is_named(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        answer = doctor(tmp_path / "home", port)

    assert answer.returncode == 1
    assert f"{port} is used by" in answer.stdout
    assert f"(pid {os.getpid()})" in answer.stdout
    assert f"HAKO_LISTEN=localhost:{port + 1}" in answer.stdout


def test_every_absence_has_a_reason(tmp_path: Path, free_port: int) -> None:
    found = findings(doctor(tmp_path / "home", free_port, "--format", "json"))

    assert len(found) > 20
    assert all(finding["why"] and finding["detail"] for finding in found.values())
    assert all(finding["fix"] for finding in found.values() if finding["state"] == "missing")
