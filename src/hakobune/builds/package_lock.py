"""The lock file of the base images: every Debian package with its version and SHA-256, so that a download needs no index and no keyring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hakobune.errors import HakoError


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One package of one architecture, in exactly one version.

    Attributes:
        image: the first image that has it: `run` (and so `build`), or `build` alone.
        path: its place in the archives; the first part names the archive (`debian/pool/…`).
    """

    image: str
    name: str
    version: str
    size_bytes: int
    sha256: str
    path: str

    @property
    def file_name(self) -> str:
        return self.path.rpartition("/")[2]

    def __str__(self) -> str:
        return (
            f"{self.image} {self.name} {self.version} {self.size_bytes} {self.sha256} {self.path}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageLock:
    """The packages of the base images for one architecture.

    Attributes:
        epoch: seconds since 1970; no file of the images is younger, and the images say they were made then.
    """

    epoch: int
    packages: tuple[Package, ...]

    def of(self, image: str) -> tuple[Package, ...]:
        """The packages that *image* adds, in name order."""
        return tuple(package for package in self.packages if package.image == image)

    @property
    def size_bytes(self) -> int:
        return sum(package.size_bytes for package in self.packages)


def parse_lock(text: str, architecture: str) -> PackageLock:
    """Read a lock file's lines for one Debian architecture.

    Raises:
        HakoError: a line cannot be understood, or the architecture has no packages in it.
    """
    epoch = 0
    packages = []
    for number, line in enumerate(text.splitlines(), start=1):
        match line.split():
            case [] | ["#", *_]:
                continue
            case ["epoch", seconds] if seconds.isdecimal():
                epoch = int(seconds)
            case [arch, image, name, version, size, sha256, path] if size.isdecimal():
                if arch == architecture:
                    packages.append(
                        Package(
                            image=image,
                            name=name,
                            version=version,
                            size_bytes=int(size),
                            sha256=sha256,
                            path=path,
                        )
                    )
            case _:
                raise HakoError(f"cannot read line {number} of the package lock", why=repr(line))
    if not packages:
        raise HakoError(
            f"there are no base images for {architecture}",
            why="the package lock of builders/debian has no packages of this architecture",
            fix="use an amd64 or arm64 machine, or another builder (--builder)",
        )
    return PackageLock(epoch=epoch, packages=tuple(packages))


def render_lock(locks: Mapping[str, PackageLock], epoch: int) -> str:
    """The lock file's text for these architectures; the opposite of `parse_lock`."""
    lines = [
        "# The packages of the base images, written by ./lock.",
        "# architecture, first image that has it, name, version, bytes, SHA-256, place in the archives",
        f"epoch {epoch}",
    ]
    for architecture, lock in sorted(locks.items()):
        lines += [f"{architecture} {package}" for package in lock.packages]
    return "\n".join(lines) + "\n"
