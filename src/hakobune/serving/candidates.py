"""Revisions that are being rolled out: kept alive without traffic, and waited for until enough instances are ready."""

from __future__ import annotations

import asyncio

from hakobune.serving.boot import Booted


class Candidates:
    """One roll-out a revision, at most. For one asyncio loop."""

    def __init__(self) -> None:
        self._expected: set[str] = set()
        self._futures: dict[str, asyncio.Future[Booted]] = {}
        self._needed: dict[str, int] = {}

    def __contains__(self, revision: object) -> bool:
        """Whether its instances are to be left alone."""
        return revision in self._expected

    def waited_for(self) -> frozenset[str]:
        """Revisions of which somebody waits for instances."""
        return frozenset(self._futures)

    def needed(self, revision: str) -> int:
        """How many instances its roll-out wants ready; 0 without one."""
        return self._needed.get(revision, 0)

    def expect(self, revision: str) -> None:
        """It is about to be rolled out."""
        self._expected.add(revision)

    def begin(self, revision: str, count: int) -> asyncio.Future[Booted]:
        """What is done when *count* instances are ready, or one could not become so."""
        future: asyncio.Future[Booted] = asyncio.get_running_loop().create_future()
        self._futures[revision] = future
        self._needed[revision] = count
        return future

    def count_ready(self, revision: str, ready: int, booted: Booted) -> None:
        """*ready* instances of it are ready now; *booted* tells of the last one."""
        future = self._futures.get(revision)
        if future is not None and not future.done() and ready >= self._needed[revision]:
            future.set_result(booted)

    def fail(self, revision: str, error: Exception) -> None:
        """An instance could not become ready: the roll-out is over, there is no second attempt."""
        future = self._futures.pop(revision, None)
        self._needed.pop(revision, None)
        if future is not None and not future.done():
            future.set_exception(error)

    def settle(self, revision: str) -> None:
        """It is as any other from now on."""
        self._futures.pop(revision, None)
        self._needed.pop(revision, None)
        self._expected.discard(revision)
