"""The parent's command line, and how it keeps its children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from hakobune.errors import UsageError
from hakobune.registry.server_flags import Flags, read_flags


def test_flags_come_with_values() -> None:
    flags = read_flags(["--workers", "3", "--tls-cert=/a=b", "--tls-key", "/c=d"])

    assert flags == Flags(workers=3, certificate=Path("/a=b"), key=Path("/c=d"))


def test_without_flags_there_is_a_worker_a_core_and_no_tls() -> None:
    cores = len(os.sched_getaffinity(0))

    assert read_flags([]) == Flags(workers=cores, certificate=None, key=None)


@pytest.mark.parametrize(
    "arguments", [["--what"], ["--workers"], ["3"], ["--workers", "0"], ["--workers", "x"]]
)
def test_what_cannot_be_understood_is_refused(arguments: list[str]) -> None:
    with pytest.raises(UsageError):
        read_flags(arguments)


@pytest.mark.timeout(60)
def test_a_child_that_dies_is_replaced_and_all_end_with_their_parent(tmp_path: Path) -> None:
    program = """
        import os, sys, time
        from hakobune.registry.parent import Child, Parent

        def run():
            with open(sys.argv[1], "a") as file:
                file.write(f"{os.getpid()}\\n")
            time.sleep(60)

        Parent([Child("a", run), Child("b", run)], lambda: None).run()
    """
    pids = tmp_path / "pids"
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program), pids]) as parent:
        try:
            first = _wait_for(pids, 2)
            os.kill(first[0], signal.SIGKILL)
            third = _wait_for(pids, 3)[2]
            assert not _is_alive(first[0])
            os.kill(third, 0)
            parent.terminate()
            assert parent.wait(20) == 0
        finally:
            parent.kill()
    assert not any(_is_alive(pid) for pid in (*first, third))


@pytest.mark.timeout(60)
def test_children_do_not_outlive_a_parent_that_was_killed(tmp_path: Path) -> None:
    program = """
        import os, sys, time
        from hakobune.registry.parent import Child, Parent

        def run():
            with open(sys.argv[1], "a") as file:
                file.write(f"{os.getpid()}\\n")
            time.sleep(60)

        Parent([Child("a", run)], lambda: None).run()
    """
    pids = tmp_path / "pids"
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program), pids]) as parent:
        (child,) = _wait_for(pids, 1)
        parent.kill()
    end = time.monotonic() + 10
    while _is_alive(child):
        assert time.monotonic() < end
        time.sleep(0.02)


def _wait_for(path: Path, count: int) -> list[int]:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if path.exists() and len(lines := path.read_text().splitlines()) >= count:
            return [int(line) for line in lines]
        time.sleep(0.02)
    raise AssertionError(f"not {count} children in time")


def _is_alive(pid: int) -> bool:
    """Whether it runs; who was killed and not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
