"""Ctrl-C before, while and after a command line is read."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "hako"
BEGINNING = re.search(r" -c '(.*?)\nfrom hakobune", SCRIPT.read_text(), re.DOTALL)
ONE_INTERRUPTED = "\nimport os; os.kill(os.getpid(), 2); print('went on')"


def beginnings():
    assert BEGINNING is not None
    return {"script": ("-S", BEGINNING[1]), "installed": ("-B", "import hakobune.cli.entry")}


@pytest.mark.parametrize("name", ["script", "installed"])
def test_ctrl_c_while_hako_begins_ends_it_without_a_traceback(name):
    option, program = beginnings()[name]

    done = subprocess.run(
        [sys.executable, "-I", option, "-c", program + ONE_INTERRUPTED],
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize("name", ["script", "installed"])
def test_ctrl_c_that_is_ignored_stays_so(name):
    option, program = beginnings()[name]

    done = subprocess.run(
        [sys.executable, "-I", option, "-c", program + ONE_INTERRUPTED],
        capture_output=True,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "went on\n", "")


def test_ctrl_c_in_a_command_is_told_and_ends_with_130(tmp_path):
    env = {"PATH": os.environ["PATH"], "HAKO_HOME": str(tmp_path)}
    program = "from hakobune.cli import entry; print('begun', flush=True); entry.run()"
    with subprocess.Popen(
        [sys.executable, "-I", "-c", program, "image", "load"],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        _wait_until_caught(process.pid)
        process.send_signal(signal.SIGINT)
        told = process.stderr.read()

    assert (process.returncode, told) == (130, "interrupted\n")


def _wait_until_caught(pid: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        caught = Path(f"/proc/{pid}/status").read_text().partition("SigCgt:")[2].split()[0]
        if int(caught, 16) & 1 << (signal.SIGINT - 1):
            return
        time.sleep(0.001)
    raise AssertionError("hako never minds Ctrl-C")
