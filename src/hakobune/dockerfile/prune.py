"""Forgetting what builds from Dockerfiles keep beside images: steps, cache mounts, downloads, repositories."""

from __future__ import annotations

import os
from pathlib import Path

from hakobune.dockerfile.add_git import forget_checkouts
from hakobune.dockerfile.cache import ROOM, StepCache
from hakobune.dockerfile.context_archive import forget_contexts
from hakobune.oci.store import Store
from hakobune.support.locks import try_exclusive


def forget_build_cache(store: Store) -> int:
    """Forget all of it but the cache mounts that a build uses now; gives how many steps. A collection frees their layers."""
    from shutil import rmtree

    steps = StepCache(store).forget()
    folder = store.home / ROOM
    for name in ("downloads", "digests"):
        rmtree(folder / name, ignore_errors=True)
    forget_checkouts(folder / "git")
    forget_contexts(store.home)
    for mount in _folders(folder / "mounts"):
        lock = try_exclusive(mount / "lock")
        if lock is not None:
            # Away at once: a build that comes now makes a new one.
            gone = mount.with_name(f".gone-{os.urandom(8).hex()}")
            os.rename(mount, gone)
            os.close(lock)
            rmtree(gone, ignore_errors=True)
    return steps


def _folders(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_dir()]
    except FileNotFoundError:
        return []
