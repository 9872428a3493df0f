"""What the endpoints of one worker work with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from hakobune.registry.blobs import Storage
from hakobune.registry.fast_path import FastPath
from hakobune.registry.limits import Limits
from hakobune.registry.metadata import Metadata
from hakobune.registry.metrics import Metrics
from hakobune.registry.mirror import NO_MIRRORS, Mirrors
from hakobune.registry.sources import Sources

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """One worker's hands.

    Attributes:
        uploads: the folder of staged files, on the storage's own disk if that is a folder.
        incoming: where this machine's own clients put hard links to blobs.
        run: what all workers tell each other.
        api_socket: where calls of the APIs go that come to the registry's own port.
        threads: for what waits for the disk.
    """

    metadata: Metadata
    storage: Storage
    sources: Sources
    fast: FastPath
    metrics: Metrics
    limits: Limits
    uploads: Path
    incoming: Path
    run: Path
    api_socket: Path
    threads: ThreadPoolExecutor
    mirrors: Mirrors = NO_MIRRORS

    async def in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        """Run what blocks."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads, work, *arguments)
