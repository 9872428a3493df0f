"""Operations as they end: who waits for one is told."""

from __future__ import annotations

import asyncio

from hakobune.serving.catalog import Catalog
from hakobune.serving.errors import NotFoundError
from hakobune.state.operations import Operation


class OperationBook:
    """The long-running operations of the catalog, and those who wait for them."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._ended: dict[str, asyncio.Event] = {}

    def get(self, name: str) -> Operation:
        """One operation, by its full name.

        Raises:
            NotFoundError: there is none of that name, or it ended long ago.
        """
        try:
            return self._catalog.operations[name]
        except KeyError:
            raise NotFoundError(
                f"there is no operation {name.rpartition('/')[2]!r}",
                why="nobody began it, or it ended long ago",
                fix="ask for the service itself: its conditions say how its last change ended",
            ) from None

    def within(self, parent: str) -> list[Operation]:
        """Those of `projects/P/locations/L`, newest first."""
        prefix = parent + "/operations/"
        return [o for n, o in reversed(self._catalog.operations.items()) if n.startswith(prefix)]

    def unfinished(self) -> tuple[Operation, ...]:
        """Oldest first."""
        return tuple(o for o in self._catalog.operations.values() if not o.done)

    def finish(self, operation: Operation) -> None:
        """Tell those who wait."""
        event = self._ended.pop(operation.name, None)
        if event is not None:
            event.set()

    async def wait(self, name: str, timeout_s: float) -> Operation:
        """The operation when it is done, or as it is after *timeout_s*."""
        if not self.get(name).done:
            event = self._ended.setdefault(name, asyncio.Event())
            try:
                async with asyncio.timeout(timeout_s):
                    await event.wait()
            except TimeoutError:
                pass
        return self.get(name)
