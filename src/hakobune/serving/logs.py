"""What a service's instances printed: kept by revision under `serving/logs`, read back, followed."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import shutil
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from hakobune.runtime.log_record import LogRecord
from hakobune.runtime.logs import follow_records, read_records

LOG = "log"
POLL_S = 0.1


class Logs:
    """The log files of all services. A revision has one; its instances share it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, label: str, revision: str) -> Path:
        """The file of a revision (short name) of the service with that label."""
        return self._folder / label / revision / LOG

    def drop(self, label: str, revision: str = "") -> None:
        """Delete what a revision, or all of them, have printed."""
        shutil.rmtree(self._folder / label / revision, ignore_errors=True)

    def revisions(self, label: str) -> tuple[str, ...]:
        """Those that have printed something."""
        with contextlib.suppress(FileNotFoundError):
            return tuple(sorted(p.name for p in (self._folder / label).iterdir()))
        return ()

    async def read(
        self, label: str, *, revision: str, lines: int, follow: bool
    ) -> AsyncIterator[dict[str, Any]]:
        """The last *lines* records of one revision, or of all of them by time; then, with *follow*, all new ones."""

        def wanted() -> tuple[str, ...]:
            return (revision,) if revision else self.revisions(label)

        followers: dict[str, Iterator[LogRecord | None]] = {}
        if follow:
            past: list[dict[str, Any]] = []
            for name in wanted():
                followers[name] = follow_records(self.path(label, name), poll_s=0)
                past += await asyncio.to_thread(_available, name, followers[name])
            past.sort(key=lambda record: str(record["time"]))
            for record in past[-lines:] if lines else ():
                yield record
        else:
            for record in await asyncio.to_thread(self._tail, label, wanted(), lines):
                yield record
        while follow:
            await asyncio.sleep(POLL_S)
            async for record in self._news(label, wanted, followers):
                yield record

    async def _news(
        self,
        label: str,
        wanted: Callable[[], tuple[str, ...]],
        followers: dict[str, Iterator[LogRecord | None]],
    ) -> AsyncIterator[dict[str, Any]]:
        for name in wanted():
            if name not in followers:
                followers[name] = follow_records(self.path(label, name), poll_s=0)
            for record in await asyncio.to_thread(_available, name, followers[name]):
                yield record

    def _tail(self, label: str, revisions: tuple[str, ...], lines: int) -> list[dict[str, Any]]:
        streams = [
            [
                _document(name, record)
                for record in deque(read_records(self.path(label, name)), lines)
            ]
            for name in revisions
        ]
        merged = heapq.merge(*streams, key=lambda record: str(record["time"]))
        return list(deque(merged, lines))


def _available(revision: str, records: Iterator[LogRecord | None]) -> list[dict[str, Any]]:
    """What is there now."""
    found = []
    for record in records:
        if record is None:
            break
        found.append(_document(revision, record))
    return found


def _document(revision: str, record: LogRecord) -> dict[str, Any]:
    document: dict[str, Any] = {
        "time": record.time,
        "revision": revision,
        "instance": record.container,
        "stream": record.stream,
        "text": record.text,
    }
    return document | ({"partial": True} if record.partial else {})
