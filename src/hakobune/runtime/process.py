"""Processes by pid *and* start time: a pid alone is reused, the two together name one process of one boot."""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import dataclass
from pathlib import Path

_PIDFD_GET_INFO = 0xC040FF0B
_PIDFD_INFO_EXIT = 8


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """What `/proc/PID/stat` says: state letter, parent, and start in clock ticks since boot."""

    state: str
    parent: int
    start_time: int


def parse_stat(text: str) -> ProcessStat:
    """Read a `/proc/PID/stat`; the command in it may hold spaces and parentheses (proc(5))."""
    fields = text.rsplit(")", 1)[1].split()
    return ProcessStat(fields[0], int(fields[1]), int(fields[19]))


def read_stat(pid: int) -> ProcessStat | None:
    """The process's stat, or `None` if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return parse_stat(file.read())
    except (FileNotFoundError, ProcessLookupError):
        return None


def open_process(pid: int, start_time: int) -> int | None:
    """A pidfd of that very process (zombie or alive), or `None` if it is gone and perhaps its pid reused."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    # Read after opening: the descriptor pins the process, so the pid cannot change hands any more.
    stat = read_stat(pid)
    if stat is None or stat.start_time != start_time:
        os.close(fd)
        return None
    return fd


def exit_status_of(pidfd: int) -> int | None:
    """The wait status of a process that somebody else has reaped; `None` before that and before Linux 6.15."""
    request = struct.pack("=QQ12I", _PIDFD_INFO_EXIT, 0, *(0 for _ in range(12)))
    try:
        answer = fcntl.ioctl(pidfd, _PIDFD_GET_INFO, request)
    except OSError:
        return None
    (mask,) = struct.unpack_from("=Q", answer)
    if not mask & _PIDFD_INFO_EXIT:
        return None
    (status,) = struct.unpack_from("=i", answer, 60)
    return int(status)


def split_status(status: int | None) -> tuple[int | None, int | None]:
    """Exit code (128+N after signal N) and signal of a wait status."""
    if status is None:
        return None, None
    code = os.waitstatus_to_exitcode(status)
    return (code, None) if code >= 0 else (128 - code, -code)


def boot_id() -> str:
    """Names this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
