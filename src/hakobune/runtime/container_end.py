"""The end of a container, awaited beside other things: a supervisor that is replaced meanwhile is asked again."""

from __future__ import annotations

import select
import time
from pathlib import Path

from hakobune.runtime.container import ContainerError, ContainerStatus
from hakobune.runtime.protocol import Reply
from hakobune.runtime.supervisor_connection import Connection, SupervisorUnavailableError

_TIMEOUT_S = 30.0
_PAUSE_S = 0.5  # between attempts to reach a supervisor that has gone


class ContainerEnd:
    """Of one container of the supervisor's. Give `waiting` to select(2), and call `look` when it says something.

    Attributes:
        status: how it ended, once it has; stays `None` if nobody knows.
        ended: whether it has.

    Raises:
        SupervisorUnavailableError: there is no supervisor now.
    """

    def __init__(self, supervisor: Path, id: str) -> None:
        self.status: ContainerStatus | None = None
        self.ended = False
        self._supervisor = supervisor
        self._id = id
        self._connection: Connection | None = None
        self._next_attempt = 0.0
        self._ask()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def waiting(self) -> list[Connection]:
        """What becomes readable when there is something to `look` at."""
        return [] if self._connection is None else [self._connection]

    @property
    def patience_s(self) -> float | None:
        """When to `look` though nothing has become readable; `None` is never."""
        if self._connection is not None or self.ended:
            return None
        return max(0.0, self._next_attempt - time.monotonic())

    def look(self) -> None:
        """Take the answer that has come, or ask again where nobody is left to give it."""
        try:
            if self._connection is not None:
                self._take(self._connection.receive(_TIMEOUT_S))
            elif not self.ended and time.monotonic() >= self._next_attempt:
                self._ask()
        except (SupervisorUnavailableError, TimeoutError):
            self.close()
            self._next_attempt = time.monotonic() + _PAUSE_S

    def wait(self, timeout_s: float) -> ContainerStatus | None:
        """How it ended; `None` if nobody knows, or it does not end in time."""
        deadline = time.monotonic() + timeout_s
        while not self.ended and (left := deadline - time.monotonic()) > 0:
            patience_s = self.patience_s
            ready = select.select(self.waiting, [], [], left if patience_s is None else patience_s)
            if ready[0] or patience_s is not None:
                self.look()
        return self.status

    def _ask(self) -> None:
        self._connection = Connection(self._supervisor, _TIMEOUT_S)
        self._connection.ask("wait", {"id": self._id})

    def _take(self, message: object) -> None:
        if not isinstance(message, Reply):
            return
        try:
            self.status = ContainerStatus.from_json(message.result())
        except ContainerError:  # it is forgotten: it ended while nobody listened
            self.status = None
        self.ended = True
        self.close()
