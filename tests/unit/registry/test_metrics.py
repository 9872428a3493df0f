"""Counters of all workers as one text."""

from __future__ import annotations

from hakobune.registry.metrics import Gauge, Metrics, MetricsPage, render, series_of
from hakobune.registry.route import Kind


def test_the_workers_counts_are_summed_up() -> None:
    page = MetricsPage(2)
    one, other = Metrics(page, 0), Metrics(page, 1)
    series = series_of(Kind.MANIFEST, "GET", 200)
    one.add(series, 0.0004, 1000, 0)
    other.add(series, 0.2, 500, 30)
    other.set(Gauge.CONNECTIONS, 7)

    text = render(page).splitlines()
    assert 'hako_registry_requests_total{kind="manifest",method="GET",status="200"} 2' in text
    assert 'hako_registry_request_seconds_bucket{kind="manifest",le="0.0005"} 1' in text
    assert 'hako_registry_request_seconds_bucket{kind="manifest",le="0.25"} 2' in text
    assert 'hako_registry_request_seconds_bucket{kind="manifest",le="+Inf"} 2' in text
    assert 'hako_registry_request_seconds_count{kind="manifest"} 2' in text
    assert 'hako_registry_request_seconds_sum{kind="manifest"} 0.200400' in text
    assert "hako_registry_sent_bytes_total 1500" in text
    assert "hako_registry_received_bytes_total 30" in text
    assert 'hako_registry_connections{worker="0"} 0' in text
    assert 'hako_registry_connections{worker="1"} 7' in text


def test_what_is_not_foreseen_is_counted_as_other() -> None:
    page = MetricsPage(1)
    Metrics(page, 0).add(series_of(Kind.OTHER, "BREW", 418), 0.0, 0, 0)

    text = render(page)
    assert 'hako_registry_requests_total{kind="other",method="other",status="other"} 1' in text


def test_a_worker_that_takes_a_dead_ones_place_counts_on() -> None:
    page = MetricsPage(1)
    series = series_of(Kind.BLOB, "GET", 206)
    first = Metrics(page, 0)
    first.add(series, 0.0, 0, 0)
    first.set(Gauge.CONNECTIONS, 3)
    Metrics(page, 0).add(series, 0.0, 0, 0)

    text = render(page)
    assert 'hako_registry_requests_total{kind="blob",method="GET",status="206"} 2' in text
    assert 'hako_registry_connections{worker="0"} 0' in text
