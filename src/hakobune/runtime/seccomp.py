"""The system calls of containers and build sandboxes, as a compiled filter (seccomp(2), Documentation/userspace-api/seccomp_filter).

An allow list like docker's, without what makes namespaces or mounts. Compiling by libseccomp costs 20 ms a
start; this is one loop over a table, done once a process. Standard library only: the supervisor imports it.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hakobune.errors import HakoError

_TABLE = Path(__file__).with_name("seccomp_syscalls.tsv")

# linux/bpf_common.h: classes, sizes and jumps of the classic machine
_LOAD, _AND, _JUMP_EQUAL, _JUMP_GREATER, _JUMP_AT_LEAST, _RETURN = (
    0x20,
    0x54,
    0x15,
    0x25,
    0x35,
    0x06,
)
# struct seccomp_data: nr, arch, instruction pointer, six arguments of 64 bits
_NUMBER, _ARCH, _FIRST_ARGUMENT = 0, 4, 16
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000

_X32_BIT = 0x40000000
# CLONE_NEWNS | CGROUP | UTS | IPC | USER | PID | NET
_NAMESPACES = 0x7E020000
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
_AF_VSOCK = 40


@dataclass(frozen=True, slots=True)
class Machine:
    """How one CPU architecture numbers system calls; `audit` is linux/audit.h's `AUDIT_ARCH_…`."""

    name: str
    audit: int
    column: int
    clone: int
    clone3: int
    personality: int
    socket: int


MACHINES = {
    "x86_64": Machine("x86_64", 0xC000003E, 1, clone=56, clone3=435, personality=135, socket=41),
    "aarch64": Machine("aarch64", 0xC00000B7, 2, clone=220, clone3=435, personality=92, socket=198),
}


class SeccompError(HakoError):
    """There is no filter for this machine."""


@cache
def compiled_filter(machine: str) -> bytes:
    """The filter for a machine, named as uname(2) does: `struct sock_filter` after `struct sock_filter`.

    Raises:
        SeccompError: the machine is unknown.
    """
    known = _known(machine)
    return assemble(known, read_table(_TABLE.read_text(), known.column))


def profile(machine: str) -> dict[str, Any]:
    """The same filter as a runtime-spec document ("Seccomp"), for runtimes that compile it themselves.

    Raises:
        SeccompError: the machine is unknown.
    """
    known = _known(machine)
    lines = [line.split("\t") for line in _TABLE.read_text().splitlines()]
    names = [row[0] for row in lines if not row[0].startswith("#") and row[known.column] != "-"]
    guarded = ("clone", "clone3", "personality", "socket")
    allow = {"action": "SCMP_ACT_ALLOW"}
    not_namespaces = {
        "index": 0,
        "value": _NAMESPACES,
        "valueTwo": 0,
        "op": "SCMP_CMP_MASKED_EQ",
    }
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.EPERM,
        "architectures": [f"SCMP_ARCH_{machine.upper()}"],
        "syscalls": [
            {"names": [name for name in names if name not in guarded], **allow},
            {"names": ["clone"], **allow, "args": [not_namespaces]},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS},
            *(
                {"names": ["personality"], **allow, "args": [_argument(value, "SCMP_CMP_EQ")]}
                for value in _PERSONALITIES
            ),
            {"names": ["socket"], **allow, "args": [_argument(_AF_VSOCK, "SCMP_CMP_NE")]},
        ],
    }


def _argument(value: int, comparison: str) -> dict[str, Any]:
    return {"index": 0, "value": value, "op": comparison}


def read_table(text: str, column: int) -> tuple[int, ...]:
    """The numbers in one column of the table, ascending."""
    rows = (line.split("\t") for line in text.splitlines() if line and not line.startswith("#"))
    return tuple(sorted(int(row[column]) for row in rows if row[column] != "-"))


def ranges(numbers: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Runs of neighbours as first and last, ascending."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return tuple(found)


def assemble(machine: Machine, allowed: Iterable[int]) -> bytes:
    """The program. Arguments are looked at only for the calls that need it: the kernel remembers the others' answer."""
    return b"".join(_program(machine, tuple(allowed)))


def _program(machine: Machine, allowed: tuple[int, ...]) -> Iterator[bytes]:
    refuse = _ERRNO | errno.EPERM
    yield _statement(_LOAD, _ARCH)
    yield _jump(_JUMP_EQUAL, machine.audit, 1, 0)
    yield _statement(_RETURN, _KILL)  # another architecture's numbers mean other calls
    yield _statement(_LOAD, _NUMBER)
    if machine.name == "x86_64":
        yield _jump(_JUMP_AT_LEAST, _X32_BIT, 0, 1)
        yield _statement(_RETURN, _ERRNO | errno.ENOSYS)
    # glibc falls back to clone, whose flags a filter can see
    yield _jump(_JUMP_EQUAL, machine.clone3, 0, 1)
    yield _statement(_RETURN, _ERRNO | errno.ENOSYS)
    yield from _on(machine.clone, _flags_without(_NAMESPACES, refuse))
    yield from _on(machine.personality, _one_of(_PERSONALITIES, refuse))
    yield from _on(machine.socket, _anything_but(_AF_VSOCK, _ERRNO | errno.EAFNOSUPPORT))
    for first, last in ranges(allowed):
        yield _jump(_JUMP_GREATER, last, 3, 0)
        yield _jump(_JUMP_AT_LEAST, first, 0, 1)
        yield _statement(_RETURN, _ALLOW)
        yield _statement(_RETURN, refuse)
    # A call younger than the table: programs take ENOSYS for "this kernel is old" and go another way.
    yield _jump(_JUMP_GREATER, max(allowed), 0, 1)
    yield _statement(_RETURN, _ERRNO | errno.ENOSYS)
    yield _statement(_RETURN, refuse)


def _on(number: int, body: list[bytes]) -> Iterator[bytes]:
    """*body*, which ends in a return, for one call."""
    yield _jump(_JUMP_EQUAL, number, 0, len(body))
    yield from body


def _flags_without(mask: int, refusal: int) -> list[bytes]:
    return [
        _statement(_LOAD, _FIRST_ARGUMENT),
        _statement(_AND, mask),
        _jump(_JUMP_EQUAL, 0, 0, 1),
        _statement(_RETURN, _ALLOW),
        _statement(_RETURN, refusal),
    ]


def _one_of(values: tuple[int, ...], refusal: int) -> list[bytes]:
    count = len(values)
    tests = [_jump(_JUMP_EQUAL, value, count - i, 0) for i, value in enumerate(values)]
    return [
        _statement(_LOAD, _FIRST_ARGUMENT),
        *tests,
        _statement(_RETURN, refusal),
        _statement(_RETURN, _ALLOW),
    ]


def _anything_but(value: int, refusal: int) -> list[bytes]:
    return [
        _statement(_LOAD, _FIRST_ARGUMENT),
        _jump(_JUMP_EQUAL, value, 0, 1),
        _statement(_RETURN, refusal),
        _statement(_RETURN, _ALLOW),
    ]


def _statement(code: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, 0, 0, value)


def _jump(code: int, value: int, if_true: int, if_false: int) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _known(machine: str) -> Machine:
    known = MACHINES.get(machine)
    if known is None:
        raise SeccompError(
            f"cannot filter system calls on {machine}",
            why=f"the table knows {', '.join(MACHINES)} only",
        )
    return known
