"""Requests for manifests that repeat one another byte for byte, answered with one look at memory.

A client that pulls again, and a fleet that pulls the same, send the same head; while the generation stays and the
credentials hold, the answer is the same too. Nothing is parsed, decided or formatted twice; it is counted and logged as any other.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from hakobune.registry.access_log import AccessLog
from hakobune.registry.answer import date_line, status_line
from hakobune.registry.connection import Connection
from hakobune.registry.generation import Generation
from hakobune.registry.limits import Phase
from hakobune.registry.metrics import Metrics, series_of

_ENTRIES: Final = 1024
_HEAD_BYTES: Final = 4096
_BODY_BYTES: Final = 32 * 1024


@dataclass(slots=True)
class Repeat:
    """One request, head and all, and what it is answered with."""

    owner: bool  # what the peer was that it was allowed for
    via_proxy: bool
    until: float  # monotonic seconds
    rest: bytes  # of the answer, from after the date on
    sent: int
    series: int
    client: str  # "" for the peer's own address
    facts: str  # for the access log


class Repeats:
    """What one worker may repeat."""

    def __init__(self, generation: Generation, metrics: Metrics, log: AccessLog) -> None:
        self._cells = generation.cells
        self._generation = self._cells[0]
        self._metrics = metrics
        self._log = log
        self._entries: dict[bytes, Repeat] = {}
        self._once: set[int] = set()  # hashes of requests that were seen once
        self._second = 0
        self._start = b""  # status line and date of this second

    def answer(self, connection: Connection, data: bytes) -> bool:
        """Answer *data*, all that has come on an idle connection, if it is a request that was answered before."""
        repeat = self._entries.get(data)
        if repeat is None or connection.watch.phase is not Phase.IDLE:
            return False
        started = time.monotonic()
        if (
            self._cells[0] != self._generation
            or repeat.until < started
            or repeat.owner is not connection.peer.owner
            or repeat.via_proxy is not connection.peer.via_proxy
            or connection.outlet.is_full
            or connection.server.stopping
        ):
            return False
        second = int(started)
        if second != self._second:
            self._second = second
            self._start = f"{status_line(200)}{date_line()}".encode()
        connection.outlet.transport.write(self._start + repeat.rest)
        ended = time.monotonic()
        connection.watch.since = ended
        seconds = ended - started
        self._metrics.add(repeat.series, seconds, repeat.sent, 0)
        self._log.add(repeat.client or connection.peer.address, seconds, repeat.facts)
        return True

    def learn(self, connection: Connection, *, until: float, rest: str, body: bytes) -> None:
        """Remember how the connection's request, which was hot and came before, was answered: 200, *rest* and *body*."""
        data, head, peer = connection.whole, connection.head, connection.peer
        if head is None or not 0 < len(data) <= _HEAD_BYTES or len(body) > _BODY_BYTES:
            return
        if not head.keeps_connection or not self._was_seen(data):
            return
        if self._cells[0] != self._generation or len(self._entries) >= _ENTRIES:
            self._entries.clear()
            self._generation = self._cells[0]
        client = connection.client if peer.via_proxy else ""
        facts = self._log.describe(
            principal=connection.principal,
            method=head.method,
            target=head.target,
            status=200,
            sent=len(body),
            received=0,
            agent=head.fields.values.get("user-agent", ""),
        )
        series = series_of(connection.route.kind, head.method, 200)
        self._entries[data] = Repeat(
            peer.owner,
            peer.via_proxy,
            until,
            rest.encode("latin-1") + body,
            len(body),
            series,
            client,
            facts,
        )

    def _was_seen(self, data: bytes) -> bool:
        """Most requests never come again: these cost no more than this."""
        number = hash(data)
        if number in self._once:
            return True
        if len(self._once) >= _ENTRIES:
            self._once.clear()
        self._once.add(number)
        return False
