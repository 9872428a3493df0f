"""Debian packages by a lock file: which ones, fetched by the machine's own apt, kept for the next time.

The lock names every package with its version and SHA-256, so a download needs no index and no keyring: apt's
own downloader (with the machine's proxy and certificate settings) fetches exactly these bytes. When the
archive has replaced a locked version, `resolve_packages` asks apt, which checks the archive's signature.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hakobune.errors import HakoError
from hakobune.progress import Progress
from hakobune.support.files import write_atomically

APT_HELPER = "/usr/lib/apt/apt-helper"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
DOWNLOAD_BATCH = 24
SECURITY = "debian-security"


class PackageGoneError(HakoError):
    """The archive no longer has a locked version."""


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


def fetch_packages(
    packages: Sequence[Package], folder: Path, mirrors: Mapping[str, str], progress: Progress
) -> tuple[Path, ...]:
    """The packages' files in *folder*, in order, downloading those that are not there yet.

    Every file's SHA-256 has been compared with the lock when this returns.

    Raises:
        PackageGoneError: the archive has other versions by now.
        HakoError: the download failed; *why* is apt's own last word.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = tuple(folder / package.file_name for package in packages)
    with ThreadPoolExecutor(max_workers=2) as pool:  # hashing releases the interpreter
        intact = tuple(pool.map(_is_intact, files, packages))
    missing = [package for package, there in zip(packages, intact, strict=True) if not there]
    total = sum(package.size_bytes for package in missing)
    done = 0
    for start in range(0, len(missing), DOWNLOAD_BATCH):
        batch = missing[start : start + DOWNLOAD_BATCH]
        _download(batch, folder, mirrors)
        done += sum(package.size_bytes for package in batch)
        progress.bytes("Debian packages", done, total)
    return files


def _is_intact(file: Path, package: Package) -> bool:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest() == package.sha256
    except OSError:
        return False


def _download(packages: Sequence[Package], folder: Path, mirrors: Mapping[str, str]) -> None:
    """Fetch with apt's downloader, which checks the hashes, then give the files their names."""
    arguments: list[str] = []
    for package in packages:
        target = folder / f".{package.file_name}.{os.getpid()}.part"
        archive, _, rest = package.path.partition("/")
        arguments += [f"{mirrors[archive]}/{rest}", str(target), f"SHA256:{package.sha256}"]
    try:
        result = _run([APT_HELPER, "-q", *_AS_ROOT, "download-file", *arguments])
        if result.returncode:
            raise _download_error(result.stderr + result.stdout)
        for package, part in zip(packages, arguments[1::3], strict=True):
            if not _is_intact(Path(part), package):
                raise HakoError(
                    f"the Debian package {package.name} is not the one that the lock names",
                    why=f"its SHA-256 differs from {package.sha256}",
                    fix="check this machine's proxy and mirror settings for apt",
                )
            _publish(Path(part), folder / package.file_name)
    finally:
        for leftover in arguments[1::3]:
            Path(leftover).unlink(missing_ok=True)


def _publish(part: Path, target: Path) -> None:
    if part.is_symlink():  # apt links to files of a mirror that is a folder
        data = part.read_bytes()
        part.unlink()
        part.write_bytes(data)
    part.chmod(0o644)
    part.rename(target)


def _download_error(output: str) -> HakoError:
    problems = [line[3:].strip() for line in output.splitlines() if line.startswith("E: ")]
    why = problems[0] if problems else output.strip()[-300:]
    if re.search(r"\b404\b", why):
        return PackageGoneError("the archive no longer has a locked Debian package", why=why)
    return HakoError(
        "cannot download the Debian packages of the base images",
        why=why,
        fix="check the network and apt's proxy settings (`apt-get update` must work), then run the command again",
    )


# apt would change to its own user, who may not read the folders under HAKO_HOME.
_AS_ROOT = ("-o", "APT::Sandbox::User=root")


def write_repository(files: Iterable[Path], folder: Path) -> None:
    """Make *folder* an apt repository of these packages (`deb [trusted=yes] copy:FOLDER ./`)."""
    folder.mkdir(parents=True, exist_ok=True)
    files = sorted(files)
    with ThreadPoolExecutor(max_workers=2) as pool:
        stanzas = list(pool.map(_index_stanza, files))
    for file in files:
        link = folder / file.name
        link.unlink(missing_ok=True)
        os.link(file, link)
    write_atomically(folder / "Packages", "\n".join(stanzas).encode())


def _index_stanza(file: Path) -> str:
    result = _run(["dpkg-deb", "--field", str(file)])
    if result.returncode:
        raise HakoError(f"cannot read the Debian package {file.name}", why=result.stderr.strip())
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    size = file.stat().st_size
    return f"{result.stdout.strip()}\nFilename: ./{file.name}\nSize: {size}\nSHA256: {digest}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """Where a suite's packages come from, and which are wanted."""

    suite: str
    mirrors: Mapping[str, str]
    run: tuple[str, ...]
    build: tuple[str, ...]


def resolve_packages(
    archive: Archive, architecture: str, folder: Path, *, epoch: int
) -> PackageLock:
    """What apt would install now, for one architecture; *folder* keeps apt's state between calls.

    Raises:
        HakoError: the archive cannot be read, or its signature is not Debian's.
    """
    environment = _apt_environment(archive, architecture, folder)
    _apt(["apt-get", "update", "-qq", *_AS_ROOT], environment)
    run = _simulate(archive.run, environment)
    both = _simulate((*archive.run, *archive.build), environment)
    images = dict.fromkeys(both, "build") | dict.fromkeys(run, "run")
    wanted = [f"{name}={version}" for name, version in (both | run).items()]
    shown = _apt(["apt-cache", "show", *wanted], environment)
    packages = [_locked(stanza, images) for stanza in shown.strip().split("\n\n")]
    return PackageLock(
        epoch=epoch,
        packages=tuple(
            sorted(packages, key=lambda package: (package.image != "run", package.name))
        ),
    )


def _simulate(names: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Name to version of everything that apt would put into an empty system."""
    command = ["apt-get", "install", "--simulate", "-qq", "--no-install-recommends"]
    printed = _apt([*command, "?essential", *names], environment)
    found = re.findall(r"^Inst (\S+) \((\S+)", printed, re.MULTILINE)
    return {name.partition(":")[0]: version for name, version in found}


def _locked(stanza: str, images: Mapping[str, str]) -> Package:
    fields = dict(re.findall(r"^([A-Za-z0-9-]+): (.*)$", stanza, re.MULTILINE))
    pool = fields["Filename"]
    archive = SECURITY if pool.startswith("pool/updates/") else "debian"
    return Package(
        image=images[fields["Package"]],
        name=fields["Package"],
        version=fields["Version"],
        size_bytes=int(fields["Size"]),
        sha256=fields["SHA256"],
        path=f"{archive}/{pool}",
    )


def archive_sources(mirrors: Mapping[str, str], suite: str) -> str:
    """The deb822 text that tells apt about a suite, its updates and its security updates."""
    return (
        f"Types: deb\nURIs: {mirrors['debian']}\nSuites: {suite} {suite}-updates\n"
        f"Components: main\nSigned-By: {KEYRING}\n\n"
        f"Types: deb\nURIs: {mirrors[SECURITY]}\nSuites: {suite}-security\n"
        f"Components: main\nSigned-By: {KEYRING}\n"
    )


def _apt_environment(archive: Archive, architecture: str, folder: Path) -> dict[str, str]:
    """A private apt: an empty system, its own lists, the machine's own network settings."""
    for part in ("lists/partial", "cache/archives/partial", "preferences.d"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "status", b"")
    write_atomically(
        folder / "debian.sources", archive_sources(archive.mirrors, archive.suite).encode()
    )
    configuration = {
        "Dir::State": folder,
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "Dir::Etc::sourcelist": folder / "debian.sources",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": folder / "preferences.d",
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "Acquire::Languages": "none",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
    }
    lines = [f'{key} "{value}";' for key, value in configuration.items()]
    write_atomically(folder / "apt.conf", "\n".join([*lines, ""]).encode())
    return {**os.environ, "APT_CONFIG": str(folder / "apt.conf"), "LC_ALL": "C.UTF-8"}


def _apt(command: Sequence[str], environment: Mapping[str, str]) -> str:
    result = _run(command, environment)
    problems = [line for line in result.stderr.splitlines() if line.startswith(("E: ", "W: "))]
    if result.returncode or (command[1] == "update" and problems):
        raise HakoError(
            "cannot find out which Debian packages there are now",
            why="; ".join(line[3:] for line in problems[:2]) or result.stderr.strip()[-300:],
            fix="check the network, apt's proxy settings, and that debian-archive-keyring is installed",
        )
    return result.stdout


def _run(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise HakoError(
            f"cannot run {command[0]}",
            why="it is not installed; the base images are made with Debian's package tools",
            fix="apt-get install -y apt dpkg mmdebstrap debian-archive-keyring",
        ) from error
