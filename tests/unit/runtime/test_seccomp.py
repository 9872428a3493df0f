"""The filter as the kernel would run it: a small interpreter of classic BPF over `struct seccomp_data`."""

from __future__ import annotations

import errno
import struct

import pytest

from hakobune.runtime.seccomp import (
    MACHINES,
    SeccompError,
    assemble,
    compiled_filter,
    ranges,
    read_table,
)

ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x50000
EPERM, ENOSYS = ERRNO | errno.EPERM, ERRNO | errno.ENOSYS
X86, ARM = MACHINES["x86_64"], MACHINES["aarch64"]

# From <asm/unistd.h> of both machines: x86_64, aarch64.
NUMBERS = {
    "read": (0, 63),
    "write": (1, 64),
    "openat": (257, 56),
    "openat2": (437, 437),
    "execve": (59, 221),
    "futex": (202, 98),
    "ptrace": (101, 117),
    "mount": (165, 40),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "setns": (308, 268),
    "pivot_root": (155, 41),
    "bpf": (321, 280),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425),
    "userfaultfd": (323, 282),
    "open_by_handle_at": (304, 265),
    "init_module": (175, 105),
    "kexec_load": (246, 104),
    "reboot": (169, 142),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "mount_setattr": (442, 442),
    "clone": (56, 220),
    "clone3": (435, 435),
    "personality": (135, 92),
    "socket": (41, 198),
}
ORDINARY = ("read", "write", "openat", "openat2", "execve", "futex", "ptrace")
REFUSED = (
    *("mount", "umount2", "unshare", "setns", "pivot_root", "bpf", "keyctl", "add_key"),
    *("perf_event_open", "io_uring_setup", "userfaultfd", "open_by_handle_at", "init_module"),
    *("kexec_load", "reboot", "open_tree", "move_mount", "fsopen", "mount_setattr"),
)
BOTH = pytest.mark.parametrize("machine", [X86, ARM], ids=lambda machine: machine.name)


def interpret(program: bytes, *, number: int, arch: int, arguments: tuple[int, ...] = ()) -> int:
    """The verdict for one call; a program that runs off its end or never ends is an error."""
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("=iIQ6Q", number, arch, 0, *(a & (1 << 64) - 1 for a in padded))
    accumulator, place = 0, 0
    while True:
        code, if_true, if_false, k = struct.unpack_from("=HBBI", program, place * 8)
        place += 1
        match code:
            case 0x20:  # ld [k]
                (accumulator,) = struct.unpack_from("=I", data, k)
            case 0x54:  # and #k
                accumulator &= k
            case 0x15:  # jeq
                place += if_true if accumulator == k else if_false
            case 0x25:  # jgt
                place += if_true if accumulator > k else if_false
            case 0x35:  # jge
                place += if_true if accumulator >= k else if_false
            case 0x06:  # ret
                return k
            case _:
                raise AssertionError(f"unknown instruction {code:#x} at {place - 1}")


def verdict(machine, name, *arguments):
    number = NUMBERS[name][machine.column - 1]
    program = compiled_filter(machine.name)
    return interpret(program, number=number, arch=machine.audit, arguments=arguments)


@BOTH
@pytest.mark.parametrize("name", ORDINARY)
def test_what_programs_need_is_allowed(machine, name):
    assert verdict(machine, name) == ALLOW


@BOTH
@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_mounts_or_namespaces_or_reaches_the_kernel_is_refused(machine, name):
    assert verdict(machine, name) == EPERM


@BOTH
@pytest.mark.parametrize(
    "flag", [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000]
)
def test_clone_makes_threads_and_processes_but_no_namespace(machine, flag):
    threads = 0x3D0F00

    assert verdict(machine, "clone", 17) == ALLOW
    assert verdict(machine, "clone", threads) == ALLOW
    assert verdict(machine, "clone", flag | 17) == EPERM
    assert verdict(machine, "clone", flag | threads) == EPERM


@BOTH
def test_clone3_does_not_exist_so_that_libraries_use_clone(machine):
    assert verdict(machine, "clone3") == ENOSYS


@BOTH
def test_personality_takes_dockers_values_only(machine):
    for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF):
        assert verdict(machine, "personality", value) == ALLOW
    for value in (1, 0x40000, 0x20001):  # ADDR_NO_RANDOMIZE among them
        assert verdict(machine, "personality", value) == EPERM


@BOTH
def test_every_socket_but_those_to_the_hypervisor_is_allowed(machine):
    assert verdict(machine, "socket", 2) == ALLOW
    assert verdict(machine, "socket", 16) == ALLOW
    assert verdict(machine, "socket", 40) == ERRNO | errno.EAFNOSUPPORT


@BOTH
@pytest.mark.parametrize("arch", [0x40000003, 0x40000028, 0])
def test_another_architectures_numbers_end_the_process(machine, arch):
    assert interpret(compiled_filter(machine.name), number=1, arch=arch) == KILL


def test_each_machine_is_another_architecture_to_the_other():
    for program, other in (("x86_64", ARM), ("aarch64", X86)):
        assert interpret(compiled_filter(program), number=63, arch=other.audit) == KILL


def test_the_x32_interface_does_not_exist():
    program = compiled_filter("x86_64")

    for number in (0x40000000, 0x40000000 + 1, 0x40000000 + 520):
        assert interpret(program, number=number, arch=X86.audit) == ENOSYS


@BOTH
def test_a_call_younger_than_the_table_looks_like_an_old_kernel(machine):
    program = compiled_filter(machine.name)

    for number in (1000, 0x3FFFFFFF):
        assert interpret(program, number=number, arch=machine.audit) == ENOSYS


@BOTH
def test_every_number_of_the_table_and_no_other_is_allowed(machine):
    allowed = {3, 4, 5, 90, 200}
    program = assemble(machine, sorted(allowed))
    special = {machine.clone, machine.clone3, machine.personality, machine.socket}

    for number in set(range(201)) - special:
        expected = ALLOW if number in allowed else EPERM
        assert interpret(program, number=number, arch=machine.audit) == expected


@BOTH
def test_the_program_is_one_the_kernel_takes(machine):
    assert len(compiled_filter(machine.name)) // 8 <= 4096


def test_a_machine_without_a_table_is_refused_in_words():
    with pytest.raises(SeccompError, match="riscv64"):
        compiled_filter("riscv64")


def test_neighbours_become_ranges():
    assert ranges((1, 2, 3, 7, 9, 10)) == ((1, 3), (7, 7), (9, 10))
    assert ranges(()) == ()


def test_a_table_gives_one_machines_numbers_in_order():
    text = "# name\tx\ta\nwrite\t1\t64\naccess\t21\t-\nread\t0\t63\n"

    assert read_table(text, 1) == (0, 1, 21)
    assert read_table(text, 2) == (63, 64)
