"""The packages of the base images: those that the lock names, or what has replaced them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from hakobune.builds.base_definition import ARCHITECTURES, DEFINITION, LOCK_FILE, Definition
from hakobune.builds.debian_archive import Archive, resolve_packages
from hakobune.builds.package_download import PackageGoneError, fetch_packages
from hakobune.builds.package_lock import Package, PackageLock, parse_lock, render_lock
from hakobune.builds.scratch import scratch
from hakobune.oci.digest import Digest
from hakobune.progress import Progress
from hakobune.support.files import write_atomically


def fetch_locked(
    lock: PackageLock,
    archive: Archive,
    architecture: str,
    cache: Path,
    progress: Progress,
) -> tuple[PackageLock, Mapping[Package, Path]]:
    """The locked packages; or what replaced them, when the archive has moved on since the lock was written.

    What was found out then is kept beside the packages, so that a second time needs no network either.

    Args:
        cache: where packages and that are kept.

    Raises:
        HakoError: they cannot be downloaded.
    """
    wanted = render_lock({architecture: lock}, lock.epoch).encode()
    newer = cache / f"{Digest.of(wanted).hex[:12]}.lock"
    if newer.exists():
        lock = parse_lock(newer.read_text(), architecture)
    mirrors = archive.mirrors
    try:
        files = fetch_packages(lock.packages, cache / "archives", mirrors, progress)
    except PackageGoneError as gone:
        progress.note(f"{gone.what}, so the newest ones are taken ({gone.why})", warning=True)
        lock = resolve_packages(archive, architecture, cache / architecture, epoch=lock.epoch)
        write_atomically(newer, render_lock({architecture: lock}, lock.epoch).encode())
        files = fetch_packages(lock.packages, cache / "archives", mirrors, progress)
    return lock, dict(zip(lock.packages, files, strict=True))


def update_lock() -> None:
    """Write `packages.lock` with what Debian has today (`builders/debian/lock`)."""
    definition = Definition.read(DEFINITION)
    epoch = int(time.time()) // 86400 * 86400
    with scratch(Path("/tmp"), "lock") as folder:
        locks = {
            architecture: resolve_packages(
                definition.archive, architecture, folder / architecture, epoch=epoch
            )
            for architecture in ARCHITECTURES
        }
    write_atomically(DEFINITION / LOCK_FILE, render_lock(locks, epoch).encode())
