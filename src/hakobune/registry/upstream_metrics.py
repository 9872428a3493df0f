"""What upstreams say about how much may still be pulled, as lines of Prometheus' text, from all workers of the machine.

A worker hears of it only in the answers that it gets itself: each notes the last one in a small file that all read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hakobune.support.files import write_atomically

if TYPE_CHECKING:
    from hakobune.registry.upstream_client import RateLimit


class RateLimitNotes:
    """Where one worker writes down what it has heard."""

    def __init__(self, folder: Path, worker: int) -> None:
        self._path = _path(folder, worker)
        self._written: Mapping[str, RateLimit] = {}

    def write(self, limits: Mapping[str, RateLimit]) -> None:
        """Write, if there is anything new."""
        if limits == self._written:
            return
        document = {
            host: [limit.limit, limit.window_s, limit.remaining, limit.source, limit.seen_at]
            for host, limit in limits.items()
        }
        write_atomically(self._path, json.dumps(document).encode())
        self._written = dict(limits)


def rate_limit_lines(folder: Path, workers: int) -> Iterator[str]:
    """The last word of each upstream."""
    last: dict[str, list[Any]] = {}
    for worker in range(workers):
        with suppress(FileNotFoundError, ValueError):
            for host, values in json.loads(_path(folder, worker).read_bytes()).items():
                if host not in last or last[host][4] < values[4]:
                    last[host] = values
    for place, name in enumerate(("limit", "window_seconds", "remaining")):
        if last:
            yield f"# TYPE hako_registry_upstream_ratelimit_{name} gauge"
        for host, values in sorted(last.items()):
            yield f'hako_registry_upstream_ratelimit_{name}{{upstream="{host}"}} {values[place]}'


def _path(folder: Path, worker: int) -> Path:
    return folder / f"upstreams.{worker}.json"
