"""Debian's archive: which packages it has today, asked through apt, which checks its signature."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hakobune.builds.machine_tool import APT_AS_ROOT, ask_tool
from hakobune.builds.package_lock import Package, PackageLock
from hakobune.errors import HakoError
from hakobune.support.files import write_atomically

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SECURITY = "debian-security"


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
    _apt(["apt-get", "update", "-qq", *APT_AS_ROOT], environment)
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
    result = ask_tool(command, environment)
    problems = [line for line in result.stderr.splitlines() if line.startswith(("E: ", "W: "))]
    if result.returncode or (command[1] == "update" and problems):
        raise HakoError(
            "cannot find out which Debian packages there are now",
            why="; ".join(line[3:] for line in problems[:2]) or result.stderr.strip()[-300:],
            fix="check the network, apt's proxy settings, and that debian-archive-keyring is installed",
        )
    return result.stdout
