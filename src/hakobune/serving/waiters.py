"""Who waits for a revision: held requests and roll-outs. Futures by revision, answered together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

GO = "go"


class Waiters:
    """Held requests by revision. *poke* is called when one begins to wait."""

    def __init__(self, poke: Callable[[], None]) -> None:
        self._poke = poke
        self._futures: dict[str, set[asyncio.Future[str]]] = {}

    def count(self, revision: str) -> int:
        return len(self._futures.get(revision, ()))

    def revisions(self) -> frozenset[str]:
        """Those for which somebody waits."""
        return frozenset(self._futures)

    async def wait(self, revision: str, timeout_s: float) -> str | None:
        """The verdict, or `None` after *timeout_s*."""
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._futures.setdefault(revision, set()).add(future)
        self._poke()
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            return None
        finally:
            own = self._futures.get(revision, set())
            own.discard(future)
            if not own:
                self._futures.pop(revision, None)

    def answer(self, revision: str, verdict: str) -> None:
        """Tell all that wait for *revision* now."""
        for future in self._futures.pop(revision, set()):
            if not future.done():
                future.set_result(verdict)
