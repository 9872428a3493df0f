"""Whether this machine's kernel can run another architecture's programs: emulators that are registered with binfmt_misc.

Asked of the kernel, not of what is installed: a handler counts if it is enabled, would take a program of that architecture,
and has the flag F, by which its interpreter is found in containers, too (Documentation/admin-guide/binfmt-misc.rst).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hakobune.errors import HakoError
from hakobune.oci.platform import Platform
from hakobune.runtime import linux

_PLACE: Final = Path("/proc/sys/fs/binfmt_misc")
_CONTROLS: Final = ("register", "status")
_DEBIAN_HANDLERS: Final = Path("/usr/lib/binfmt.d")
# GOARCH -> ELF class (1: 32 bits), byte order (1: little), e_machine (elf.h), qemu's name
_ARCHITECTURES: Final = {
    "amd64": (2, 1, 62, "x86_64"),
    "386": (1, 1, 3, "i386"),
    "arm64": (2, 1, 183, "aarch64"),
    "arm": (1, 1, 40, "arm"),
    "riscv64": (2, 1, 243, "riscv64"),
    "ppc64le": (2, 1, 21, "ppc64le"),
    "s390x": (2, 2, 22, "s390x"),
    "mips64le": (2, 1, 8, "mips64el"),
    "loong64": (2, 1, 258, "loongarch64"),
}


class ForeignPlatformError(HakoError):
    """An image is for a CPU that this machine has not, and nothing here emulates it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """One registered format: which beginnings of a file it takes, and what then runs."""

    name: str
    enabled: bool
    interpreter: str
    flags: str
    offset: int = 0
    magic: bytes = b""
    mask: bytes = b""

    def takes(self, beginning: bytes) -> bool:
        """Whether the kernel would give a program that begins so to this handler."""
        if not self.enabled or not self.magic:
            return False
        part = beginning[self.offset : self.offset + len(self.magic)]
        mask = self.mask or b"\xff" * len(self.magic)
        return len(part) == len(self.magic) and all(
            (byte ^ wanted) & bits == 0
            for byte, wanted, bits in zip(part, self.magic, mask, strict=True)
        )


def parse_handler(name: str, text: str) -> Handler:
    """Read one file of binfmt_misc."""
    lines = text.splitlines()
    fields = dict(line.split(" ", 1) for line in lines[1:] if " " in line)
    return Handler(
        name=name,
        enabled=lines[:1] == ["enabled"],
        interpreter=fields.get("interpreter", ""),
        flags=fields.get("flags:", "").strip(),
        offset=int(fields.get("offset", "0")),
        magic=bytes.fromhex(fields.get("magic", "")),
        mask=bytes.fromhex(fields.get("mask", "")),
    )


def program_beginning(architecture: str) -> bytes | None:
    """The ELF header of a program for that architecture (GOARCH); `None` if we do not know it."""
    known = _ARCHITECTURES.get(architecture)
    if known is None:
        return None
    bits, order, machine, _ = known
    identity = b"\x7fELF" + bytes((bits, order, 1)) + bytes(9)
    return identity + struct.pack("<HH" if order == 1 else ">HH", 2, machine) + bytes(44)


def find_emulator(architecture: str, handlers: Iterable[Handler]) -> Handler | None:
    """What would run a program of that architecture in a container."""
    beginning = program_beginning(architecture)
    if beginning is None:
        return None
    taking = (h for h in handlers if "F" in h.flags and h.takes(beginning))
    return next(taking, None)


def read_handlers() -> tuple[Handler, ...]:
    """What is registered now; nothing where the kernel has no binfmt_misc, or we may not look."""
    try:
        fd = _open_registry()
    except OSError:
        return ()
    try:
        return tuple(
            parse_handler(name, _read(fd, name))
            for name in sorted(os.listdir(fd))
            if name not in _CONTROLS
        )
    except OSError:
        return ()
    finally:
        os.close(fd)


def _open_registry() -> int:
    """The registry where it is mounted, else a mount of our own that nobody else sees."""
    if (_PLACE / "status").exists():
        return os.open(_PLACE, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    context = linux.fsopen("binfmt_misc")
    try:
        linux.fsconfig(context, linux.FSCONFIG_CMD_CREATE)
        mounted = linux.fsmount(context)
    finally:
        os.close(context)
    try:
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=mounted)
    finally:
        os.close(mounted)


def _read(folder: int, name: str) -> str:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    with open(fd, encoding="utf-8", errors="replace") as file:
        return file.read()


def emulated_architectures(handlers: Iterable[Handler]) -> tuple[str, ...]:
    """The architectures (GOARCH) beside this machine's whose programs run here."""
    known = tuple(handlers)
    return tuple(name for name in _ARCHITECTURES if find_emulator(name, known) is not None)


def can_run(platform: Platform, host: Platform, handlers: Iterable[Handler]) -> bool:
    """Whether programs for *platform* run here, by the CPU itself or emulated."""
    return platform.matches(host) or (
        platform.os == host.os and find_emulator(platform.architecture, handlers) is not None
    )


def check_can_run(platform: Platform, *, name: str) -> None:
    """Refuse an image whose programs would end with `exec format error`.

    Args:
        name: of the image, for the message.

    Raises:
        ForeignPlatformError: names both platforms, and what would help.
    """
    host = Platform.host()
    if platform.matches(host) or can_run(platform, host, read_handlers()):
        return
    raise ForeignPlatformError(
        f"{name} is for {platform}, this machine is {host}",
        why="its programs would end with `exec format error`: no emulator for them is registered here",
        fix=how_to_emulate(platform),
    )


def how_to_emulate(platform: Platform) -> str:
    """An act that lets this machine run the platform's programs, or ends the need to."""
    known = _ARCHITECTURES.get(platform.architecture)
    if platform.os != Platform.host().os or known is None:
        return f"use an image for {Platform.host()}"
    handler = _DEBIAN_HANDLERS / f"qemu-{known[3]}.conf"
    if handler.exists():
        mount = "" if (_PLACE / "status").exists() else f"mount -t binfmt_misc none {_PLACE} && "
        return f"qemu is installed, but not registered: {mount}cat {handler} >{_PLACE}/register"
    return f"apt-get install -y qemu-user-static, or use an image for {Platform.host()}"
