"""A real program for another CPU, and an emulator for it, both for the time of a test."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from hakobune.oci.platform import Platform
from hakobune.runtime import linux
from hakobune.runtime.emulation import find_emulator, read_handlers

FOREIGN = "amd64" if Platform.host().architecture == "arm64" else "arm64"
QEMU = {"amd64": "qemu-x86_64", "arm64": "qemu-aarch64"}[FOREIGN]
REGISTRATION = Path(f"/usr/lib/binfmt.d/{QEMU}.conf")


def is_emulated() -> bool:
    """Whether the machine does so anyway."""
    return find_emulator(FOREIGN, read_handlers()) is not None


def foreign_busybox(folder: Path) -> Path:
    """The static busybox of Debian for the other CPU, in *folder*, by an apt of its own: the machine's is not changed."""
    for name in ("state/lists/partial", "cache/archives/partial", "parts"):
        (folder / name).mkdir(parents=True)
    (folder / "parts/debian.sources").write_text(
        "Types: deb\nURIs: http://deb.debian.org/debian\nSuites: bookworm\nComponents: main\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )
    options = (
        f"Dir::State={folder}/state",
        f"Dir::Cache={folder}/cache",
        "Dir::State::status=/dev/null",
        "Dir::Etc::SourceList=/dev/null",
        f"Dir::Etc::SourceParts={folder}/parts",
        f"APT::Architecture={FOREIGN}",
        f"APT::Architectures::={FOREIGN}",
        "APT::Sandbox::User=root",
    )
    for verb in (("update",), ("download", "busybox-static")):
        subprocess.run(
            ["apt-get", "-q", *(word for o in options for word in ("-o", o)), *verb],
            cwd=folder,
            check=True,
            capture_output=True,
            timeout=120,
        )
    (package,) = folder.glob("busybox-static_*.deb")
    content = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", package], check=True, capture_output=True
    ).stdout
    subprocess.run(["tar", "-x", "-C", folder, "./bin/busybox"], input=content, check=True)
    return folder / "bin/busybox"


@contextlib.contextmanager
def emulated() -> Iterator[None]:
    """Let the kernel run the other CPU's programs while the block lasts.

    The registry is the whole machine's, but it is empty again when the last mount of it goes: ours is seen by nobody.
    """
    if is_emulated():
        yield
        return
    context = linux.fsopen("binfmt_misc")
    try:
        linux.fsconfig(context, linux.FSCONFIG_CMD_CREATE)
        registry = linux.fsmount(context)
    finally:
        os.close(context)
    name = f"hako-test-{os.getpid()}"
    line = REGISTRATION.read_text().strip().replace(f":{QEMU}:", f":{name}:", 1)
    try:
        _write(registry, "register", line.encode())
        yield
    finally:
        with contextlib.suppress(OSError):
            _write(registry, name, b"-1")
        os.close(registry)


def _write(folder: int, name: str, data: bytes) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
