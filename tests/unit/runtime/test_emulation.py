"""Which handler would run a foreign program is decided as the kernel decides it."""

from __future__ import annotations

import dataclasses

import pytest

from hakobune.oci.platform import Platform
from hakobune.runtime.emulation import (
    Handler,
    can_run,
    emulated_architectures,
    find_emulator,
    how_to_emulate,
    parse_handler,
    program_beginning,
)

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")

# As the kernel shows Debian's registration of qemu-user-static.
AARCH64 = """enabled
interpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P
flags: POF
offset 0
magic 7f454c460201010000000000000000000200b700
mask ffffffffffffff00fffffffffffffffffeffffff
"""
S390X = """enabled
interpreter /usr/bin/qemu-s390x-static
flags: F
offset 0
magic 7f454c4602020100000000000000000000020016
mask ffffffffffffff00fffffffffffffffffffeffff
"""
EXTENSION = """enabled
interpreter /usr/bin/wine
flags:
extension .exe
"""


def test_a_handler_is_read_as_the_kernel_shows_it() -> None:
    handler = parse_handler("qemu-aarch64", AARCH64)

    assert handler == Handler(
        name="qemu-aarch64",
        enabled=True,
        interpreter="/usr/libexec/qemu-binfmt/aarch64-binfmt-P",
        flags="POF",
        offset=0,
        magic=bytes.fromhex("7f454c460201010000000000000000000200b700"),
        mask=bytes.fromhex("ffffffffffffff00fffffffffffffffffeffffff"),
    )


def test_one_for_a_file_s_extension_takes_no_program() -> None:
    handler = parse_handler("wine", EXTENSION)

    assert (handler.flags, handler.magic) == ("", b"")
    assert find_emulator("arm64", [handler]) is None


@pytest.mark.parametrize(
    ("text", "architecture"), [(AARCH64, "arm64"), (S390X, "s390x")], ids=["little", "big"]
)
def test_the_handler_that_takes_the_architecture_s_programs_is_found(
    text: str, architecture: str
) -> None:
    handlers = [parse_handler("wine", EXTENSION), parse_handler("it", text)]

    assert find_emulator(architecture, handlers) == handlers[1]
    assert emulated_architectures(handlers) == (architecture,)


@pytest.mark.parametrize(
    "change", [{"enabled": False}, {"flags": "PO"}, {"magic": b"\x7fELG"}, {"offset": 1}]
)
def test_one_that_is_off_or_of_no_use_in_a_container_does_not_count(
    change: dict[str, object],
) -> None:
    handler = dataclasses.replace(parse_handler("it", AARCH64), **change)  # type: ignore[arg-type] # fields by name

    assert find_emulator("arm64", [handler]) is None


def test_shared_objects_and_other_systems_marks_are_taken_too() -> None:
    handler = parse_handler("it", AARCH64)
    program = bytearray(program_beginning("arm64") or b"")
    program[7] = 3  # EI_OSABI: GNU
    program[16] = 3  # ET_DYN: a position-independent program

    assert handler.takes(bytes(program))
    program[18] = 62
    assert not handler.takes(bytes(program))
    assert not handler.takes(bytes(program[:10]))


def test_a_platform_runs_by_itself_or_emulated() -> None:
    handlers = [parse_handler("it", AARCH64)]

    assert can_run(AMD64, AMD64, [])
    assert can_run(ARM64, AMD64, handlers)
    assert can_run(Platform("linux", "arm64", "v8"), AMD64, handlers)
    assert not can_run(ARM64, AMD64, [])
    assert not can_run(Platform("linux", "s390x"), AMD64, handlers)
    assert not can_run(Platform("windows", "arm64"), AMD64, handlers)
    assert not can_run(Platform("linux", "nosuch"), AMD64, handlers)


def test_what_to_do_says_another_image_where_nothing_can_emulate() -> None:
    host = Platform.host()

    assert how_to_emulate(Platform("windows", "amd64")) == f"use an image for {host}"
    assert how_to_emulate(Platform("linux", "nosuch")) == f"use an image for {host}"
    assert "qemu" in how_to_emulate(Platform("linux", "riscv64"))
