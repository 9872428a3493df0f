from __future__ import annotations

import os
import signal

import pytest

from hakobune.runtime.process import (
    exit_status_of,
    open_process,
    parse_stat,
    read_stat,
    split_status,
)


def test_a_stat_is_read_whatever_the_command_is_called() -> None:
    rest = " ".join(str(n) for n in range(5, 53))

    stat = parse_stat(f"7 (a) b (c)) S 3 {rest}")

    assert (stat.state, stat.parent, stat.exit_status) == ("S", 3, None)
    assert stat.start_time == 22


def test_pid_and_start_time_together_name_a_process() -> None:
    stat = read_stat(os.getpid())
    assert stat is not None

    fd = open_process(os.getpid(), stat.start_time)

    assert fd is not None
    os.close(fd)
    assert open_process(os.getpid(), stat.start_time + 1) is None
    assert read_stat(2**22 + 1) is None
    assert open_process(2**22 - 1, 1) is None


def test_a_zombies_exit_status_is_known_before_anybody_reaps_it() -> None:
    child = os.fork()
    if child == 0:
        os._exit(7)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    stat = read_stat(child)
    assert stat is not None
    fd = open_process(child, stat.start_time)
    assert fd is not None

    status = exit_status_of(fd, child, stat.start_time)

    os.waitpid(child, 0)
    os.close(fd)
    assert split_status(status) == (7, None)


def test_a_living_process_has_no_exit_status() -> None:
    fd = os.pidfd_open(os.getpid())
    stat = read_stat(os.getpid())
    assert stat is not None

    assert exit_status_of(fd, os.getpid(), stat.start_time) is None

    os.close(fd)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(0, (0, None)), (7 << 8, (7, None)), (signal.SIGKILL, (137, 9)), (None, (None, None))],
)
def test_a_wait_status_is_an_exit_code_or_a_signal(
    status: int | None, expected: tuple[int | None, int | None]
) -> None:
    assert split_status(status) == expected
