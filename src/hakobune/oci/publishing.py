"""How anything is put into a store: under its lock, and kept from the collector by this process's lease.

Locks, in this order: `images/.hako/lock` (shared by whoever publishes, exclusive for the collector),
`images/.hako/names.lock` (changes of `index.json`), a snapshot's `lock`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from hakobune.oci.commit_point import Reached
from hakobune.oci.lease import Lease
from hakobune.oci.store_parts import StoreParts
from hakobune.support.locks import exclusive, shared


class Publishing:
    """What the halves of a store have in common: its parts, its locks and the lease of this process. Threads may share it."""

    def __init__(self, home: Path, parts: StoreParts, reached: Reached) -> None:
        self.home = home
        self.layout = parts.layout
        self._parts = parts
        self._reached = reached
        self._lease: Lease | None = None
        self._lease_lock = threading.Lock()

    def close(self) -> None:
        """Let the collector have what no name and no root keeps."""
        with self._lease_lock:
            if self._lease is not None:
                self._lease.close()
                self._lease = None

    @contextlib.contextmanager
    def _publishing(self) -> Iterator[Lease]:
        """Keep the collector out for a moment; the lease keeps what is published meanwhile."""
        with shared(self._parts.lock):
            with self._lease_lock:
                if self._lease is None:
                    self._lease = Lease(self._parts.leases)
            yield self._lease

    @contextlib.contextmanager
    def _changing_names(self) -> Iterator[None]:
        with shared(self._parts.lock), exclusive(self._parts.names_lock):
            yield
