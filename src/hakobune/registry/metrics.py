"""Counters of all workers in one shared page, and Prometheus' text of them (exposition format 0.0.4).

The page is anonymous memory made before the workers are forked: each adds to a region of its own, which a worker
that takes a dead one's place goes on with, and whichever is asked sums them up.
"""

from __future__ import annotations

import mmap
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Final

from hakobune.registry.route import Kind

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "other")
_STATUSES: Final = (
    *(200, 201, 202, 204, 206, 304, 307, 400, 401, 403, 404, 405, 408, 409, 413, 416, 429),
    *(431, 499, 500, 502, 503, 504, 507, 0),
)
_BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
_KINDS: Final = tuple(Kind)


class Gauge(IntEnum):
    """What a worker has now."""

    CONNECTIONS = 0
    REQUESTS = 1
    CACHED = 2


_METHOD_PLACES: Final = {name: place for place, name in enumerate(_METHODS)}
_STATUS_PLACES: Final = {status: place for place, status in enumerate(_STATUSES)}
_KIND_PLACES: Final = {kind: place for place, kind in enumerate(_KINDS)}
_OTHER_METHOD: Final = len(_METHODS) - 1
_OTHER_STATUS: Final = len(_STATUSES) - 1

_SERIES_OF_A_KIND: Final = len(_METHODS) * len(_STATUSES)
_REQUESTS: Final = len(_KINDS) * len(_METHODS) * len(_STATUSES)
_BUCKETS_AT: Final = _REQUESTS
_BUCKETS: Final = len(_BOUNDS) + 1
_SECONDS_AT: Final = _BUCKETS_AT + len(_KINDS) * _BUCKETS
_BYTES_AT: Final = _SECONDS_AT + len(_KINDS)
_GAUGES_AT: Final = _BYTES_AT + 2
_CELLS: Final = _GAUGES_AT + len(Gauge)


class MetricsPage:
    """The shared memory. Make it before forking."""

    def __init__(self, workers: int) -> None:
        self._map = mmap.mmap(-1, workers * _CELLS * 8)
        self._cells = memoryview(self._map).cast("Q")
        self.workers = workers

    def region(self, worker: int) -> memoryview:
        """The cells of one worker."""
        return self._cells[worker * _CELLS : (worker + 1) * _CELLS]

    def total(self, cell: int) -> int:
        return sum(self._cells[worker * _CELLS + cell] for worker in range(self.workers))


class Metrics:
    """What one worker counts."""

    def __init__(self, page: MetricsPage, worker: int) -> None:
        self.page = page
        self.worker = worker
        self._cells = page.region(worker)
        for gauge in Gauge:
            self.set(gauge, 0)

    def add(self, series: int, seconds: float, sent: int, received: int) -> None:
        """Count a request; *series* is from `series_of`."""
        cells = self._cells
        cells[series] += 1
        place = series // _SERIES_OF_A_KIND
        cells[_BUCKETS_AT + place * _BUCKETS + bisect_left(_BOUNDS, seconds)] += 1
        cells[_SECONDS_AT + place] += int(seconds * 1e6)
        if sent:
            cells[_BYTES_AT] += sent
        if received:
            cells[_BYTES_AT + 1] += received

    def set(self, gauge: Gauge, value: int) -> None:
        self._cells[_GAUGES_AT + gauge] = value


def series_of(kind: Kind, method: str, status: int) -> int:
    """Where requests of that sort are counted."""
    row = _KIND_PLACES[kind] * len(_METHODS) + _METHOD_PLACES.get(method, _OTHER_METHOD)
    return row * len(_STATUSES) + _STATUS_PLACES.get(status, _OTHER_STATUS)


def render(page: MetricsPage, more: Sequence[str] = ()) -> str:
    """The text that Prometheus reads; *more* are further lines."""
    return "\n".join((*_lines(page), *more)) + "\n"


def _lines(page: MetricsPage) -> Iterator[str]:
    yield "# HELP hako_registry_requests_total Requests answered, by what they were for."
    yield "# TYPE hako_registry_requests_total counter"
    for cell in range(_REQUESTS):
        if count := page.total(cell):
            rest, status = divmod(cell, len(_STATUSES))
            kind, method = divmod(rest, len(_METHODS))
            labels = (
                f'kind="{_KINDS[kind].name.lower()}",method="{_METHODS[method]}",'
                f'status="{_STATUSES[status] or "other"}"'
            )
            yield f"hako_registry_requests_total{{{labels}}} {count}"
    yield "# HELP hako_registry_request_seconds From a request's head to the end of its answer."
    yield "# TYPE hako_registry_request_seconds histogram"
    for place, kind_name in enumerate(_KINDS):
        yield from _histogram(page, place, kind_name.name.lower())
    for offset, name in enumerate(("sent", "received")):
        yield f"# HELP hako_registry_{name}_bytes_total Bytes of bodies {name}."
        yield f"# TYPE hako_registry_{name}_bytes_total counter"
        yield f"hako_registry_{name}_bytes_total {page.total(_BYTES_AT + offset)}"
    for gauge in Gauge:
        name = f"hako_registry_{gauge.name.lower()}"
        yield f"# TYPE {name} gauge"
        for worker in range(page.workers):
            yield f'{name}{{worker="{worker}"}} {page.region(worker)[_GAUGES_AT + gauge]}'


def _histogram(page: MetricsPage, place: int, kind: str) -> Iterator[str]:
    counts = [page.total(_BUCKETS_AT + place * _BUCKETS + n) for n in range(_BUCKETS)]
    if not any(counts):
        return
    so_far = 0
    for bound, count in zip((*map(str, _BOUNDS), "+Inf"), counts, strict=True):
        so_far += count
        yield f'hako_registry_request_seconds_bucket{{kind="{kind}",le="{bound}"}} {so_far}'
    seconds = page.total(_SECONDS_AT + place) / 1e6
    yield f'hako_registry_request_seconds_sum{{kind="{kind}"}} {seconds:.6f}'
    yield f'hako_registry_request_seconds_count{{kind="{kind}"}} {so_far}'
