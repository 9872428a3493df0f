"""A virtual machine with Debian 12's own kernel over this machine's files: what newer kernels do not show."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INIT = Path(__file__).with_name("guest_init.c")
DISK_BYTES = 8 << 30
# The checkout may lie in a folder that is covered then.
_PLACES = """\
set -eu
ip link set lo up
mkdir -p /mnt/tmp /mnt/var/tmp /mnt{root}
chmod 1777 /mnt/tmp /mnt/var/tmp
mount --bind {root} /mnt{root}
mount --rbind /mnt/tmp /tmp
mount --rbind /mnt/var/tmp /var/tmp
cd {root}
echo "guest: begins"
"""
# What the guest needs to reach the host's files, and what the runtime uses of the kernel.
MODULES = (
    *("virtio_pci", "virtio_blk", "9pnet_virtio", "9p", "ext4", "crc32c_generic", "overlay"),
    *(
        "veth",
        "bridge",
        "nf_tables",
        "nf_conntrack",
        "nf_nat",
        "nft_chain_nat",
        "nft_masq",
        "nft_ct",
    ),
    *("nft_reject_inet", "nft_fib_inet", "nft_limit", "nft_log", "nft_nat", "nft_redir"),
)


@dataclass(frozen=True, slots=True)
class Kernel:
    """An unpacked Debian kernel package."""

    image: Path
    modules: Mapping[str, Path]

    @property
    def version(self) -> str:
        return self.image.name.removeprefix("vmlinuz-")

    @classmethod
    def download(cls, folder: Path) -> Kernel:
        """This distribution's kernel, downloaded but not installed."""
        depends = _run("apt-cache", "depends", "linux-image-amd64", folder=folder)
        found = re.search(r"Depends: (linux-image-\S+)", depends)
        assert found is not None, depends
        _run("apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", found[1], folder=folder)
        (package,) = folder.glob("linux-image-*.deb")
        _run("dpkg-deb", "-x", str(package), "kernel", folder=folder)
        package.unlink()
        (image,) = (folder / "kernel/boot").glob("vmlinuz-*")
        modules = {_module_name(file): file for file in (folder / "kernel/lib").rglob("*.ko")}
        return cls(image, modules)

    def with_dependencies(self, names: Iterable[str]) -> tuple[Path, ...]:
        """The modules' files, each after those that it needs; what is built in has none."""
        ordered: dict[str, Path] = {}

        def add(name: str) -> None:
            file = self.modules.get(name.replace("-", "_"))
            if file is None or name in ordered:
                return
            found = re.search(rb"\0depends=([^\0]*)\0", file.read_bytes())
            for needed in found[1].decode().split(",") if found else ():
                add(needed)
            ordered[name] = file

        for name in names:
            add(name)
        return tuple(ordered.values())


def _module_name(file: Path) -> str:
    return file.stem.replace("-", "_")


def run_in_guest(
    kernel: Kernel,
    command: str,
    folder: Path,
    *,
    home: Path | None = None,
    memory_mb: int = 3072,
    timeout_s: float = 900,
) -> tuple[int, str]:
    """Run a shell command as root on the host's files; gives its exit code and what it printed.

    Everything that it writes is gone afterwards. `/tmp`, `/var/tmp` and `/mnt` are on a disk of their own (ext4),
    `/sys/fs/cgroup` is version 2, there is no network but the loopback.

    Args:
        folder: scratch, removed by the caller.
        home: an installation's folder that the command finds copied at `/mnt/home`.

    Raises:
        AssertionError: the guest did not end by itself in time.
    """
    content, disk = folder / "disk", folder / "disk.img"
    content.mkdir()
    (content / "command").write_text(_PLACES.format(root=ROOT) + command)
    if home is not None:
        _run("cp", "-a", str(home), str(content / "home"), folder=folder)
    with disk.open("wb") as file:
        file.truncate(DISK_BYTES)
    _run("mkfs.ext4", "-q", "-F", "-d", str(content), str(disk), folder=folder)
    try:
        result = subprocess.run(
            [
                # Emulated: KVM inside a virtual machine does not boot everywhere.
                *("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"),
                *("-m", str(memory_mb), "-nodefaults", "-no-user-config", "-display", "none"),
                *("-no-reboot", "-serial", "stdio"),
                *("-kernel", kernel.image, "-initrd", _make_initramfs(kernel, folder)),
                *("-append", "console=ttyS0 quiet panic=-1 rdinit=/init"),
                *("-drive", f"file={disk},format=raw,if=virtio,cache=unsafe"),
                "-fsdev",
                "local,id=host,path=/,security_model=passthrough,readonly=on,multidevs=remap",
                *("-device", "virtio-9p-pci,fsdev=host,mount_tag=host"),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        printed = (error.stdout or b"").decode(errors="replace")
        raise AssertionError(f"the guest has not ended after {timeout_s} s:\n{printed}") from None
    finally:
        disk.unlink()
    printed = result.stdout.replace("\r\n", "\n")
    ended = re.search(r"(?s)(.*)\nguest: exit (\d+)\n", printed)
    if ended is None:
        raise AssertionError(f"the guest did not end by itself:\n{printed}{result.stderr}")
    return int(ended[2]), ended[1].rpartition("guest: begins\n")[2]


def _make_initramfs(kernel: Kernel, folder: Path) -> Path:
    tree = folder / "initramfs"
    (tree / "modules").mkdir(parents=True)
    (tree / "dev").mkdir()
    _run("gcc", "-static", "-O1", "-o", str(tree / "init"), str(INIT), folder=folder)
    names = []
    for file in kernel.with_dependencies(MODULES):
        shutil.copy(file, tree / "modules")
        names.append(f"/modules/{file.name}\n")
    (tree / "modules.list").write_text("".join(names))
    archive = folder / "initramfs.cpio"
    with archive.open("wb") as out:
        listing = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
        subprocess.run(
            ["cpio", "--quiet", "-o", "-H", "newc"],
            cwd=tree,
            input=listing.encode(),
            stdout=out,
            check=True,
        )
    return archive


def _run(*command: str, folder: Path) -> str:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
