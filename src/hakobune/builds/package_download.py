"""Locked Debian packages, fetched by the machine's own apt and kept for the next time.

apt's downloader, with the machine's proxy and certificate settings, fetches exactly the bytes that the lock names.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hakobune.builds.machine_tool import APT_AS_ROOT, ask_tool
from hakobune.builds.package_lock import Package
from hakobune.errors import HakoError
from hakobune.progress import Progress

APT_HELPER = "/usr/lib/apt/apt-helper"
DOWNLOAD_BATCH = 24


class PackageGoneError(HakoError):
    """The archive does not have a locked version any more."""


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
        result = ask_tool([APT_HELPER, "-q", *APT_AS_ROOT, "download-file", *arguments])
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
