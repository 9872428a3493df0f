"""Roots of containers that are forgotten: the supervisor forgets some by itself, and knows nothing of images."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from hakobune.oci.store import Store

_AGE_S = 60.0  # a root is set before its container is made


def drop_stale_roots(store: Store, home: Path) -> None:
    """Let images go whose containers are not there any more."""
    with contextlib.suppress(FileNotFoundError):
        for root in (home / "roots" / "containers").iterdir():
            made = (home / "containers" / root.name).exists()
            if not made and time.time() - root.stat().st_mtime > _AGE_S:
                store.drop_root("containers", root.name)
