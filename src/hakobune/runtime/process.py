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
    """What `/proc/PID/stat` says: state letter, parent, start in clock ticks since boot, a zombie's wait status."""

    state: str
    parent: int
    start_time: int
    exit_status: int | None


def parse_stat(text: str) -> ProcessStat:
    """Read a `/proc/PID/stat`; the command in it may hold spaces and parentheses (proc(5))."""
    fields = text.rsplit(")", 1)[1].split()
    status = int(fields[49]) if fields[0] == "Z" and len(fields) > 49 else None
    return ProcessStat(fields[0], int(fields[1]), int(fields[19]), status)


def read_stat(pid: int) -> ProcessStat | None:
    """The process's stat, or `None` if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return parse_stat(file.read())
    except (FileNotFoundError, ProcessLookupError):
        return None


def find_child(parent: int, inner_pid: int) -> int | None:
    """The child of *parent* that is *inner_pid* in the pid namespace where *parent* is; as we count, or `None`."""
    for name in _children(parent):
        try:
            with open(f"/proc/{name}/status", encoding="utf-8", errors="replace") as file:
                fields = dict(line.split(":", 1) for line in file if ":" in line)
        except (FileNotFoundError, ProcessLookupError):
            continue
        pids = fields.get("NSpid", "").split()
        if int(fields.get("PPid", "0")) == parent and len(pids) > 1 and int(pids[1]) == inner_pid:
            return int(name)
    return None


def _children(parent: int) -> list[str]:
    """At least the children of a process: as the kernel lists them, or where it does not, every process."""
    try:
        with open(f"/proc/{parent}/task/{parent}/children", encoding="ascii") as file:
            return file.read().split()
    except OSError:
        return [name for name in os.listdir("/proc") if name.isdecimal()]


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


def exit_status_of(pidfd: int, pid: int, start_time: int) -> int | None:
    """The wait status of an ended process that is not our child.

    While it waits to be reaped by somebody, /proc has it; afterwards the pidfd, if the kernel is 6.15 or
    newer; `None` is neither.
    """
    stat = read_stat(pid)
    if stat is not None and stat.start_time == start_time and stat.exit_status is not None:
        return stat.exit_status
    return _status_after_reaping(pidfd)


def _status_after_reaping(pidfd: int) -> int | None:
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
