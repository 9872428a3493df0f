"""The access log."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from hakobune.registry import access_log
from hakobune.registry.access_log import AccessLog


def note(log: AccessLog, target: str = "/v2/", **facts: Any) -> None:
    known: dict[str, Any] = {
        "principal": "owner",
        "method": "GET",
        "target": target,
        "status": 200,
        "sent": 5,
        "received": 0,
        "agent": "docker/20",
    }
    log.add("127.0.0.1", 0.0123, log.describe(**{**known, **facts}))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_request_is_one_json_object(tmp_path: Path) -> None:
    log = AccessLog(tmp_path / "access.log")
    note(log, agent='a "b" \\ \x7f é')
    log.flush()

    (line,) = lines(tmp_path / "access.log")
    assert line.pop("time").endswith("Z")
    assert line == {
        "client": "127.0.0.1",
        "ms": 12.3,
        "principal": "owner",
        "method": "GET",
        "target": "/v2/",
        "status": 200,
        "sent": 5,
        "received": 0,
        "agent": 'a "b" \\ \x7f é',
    }


def test_two_workers_append_to_one_file(tmp_path: Path) -> None:
    one, other = AccessLog(tmp_path / "access.log"), AccessLog(tmp_path / "access.log")
    note(one, "/one")
    note(other, "/other")
    one.flush()
    other.flush()

    assert [line["target"] for line in lines(tmp_path / "access.log")] == ["/one", "/other"]


def test_a_large_file_becomes_the_older_one_and_every_worker_notices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "_ROTATE_BYTES", 100)
    one, other = AccessLog(tmp_path / "access.log"), AccessLog(tmp_path / "access.log")
    for log, target in ((one, "/1"), (other, "/2"), (one, "/3"), (other, "/4")):
        note(log, target)
        log.flush()

    assert [line["target"] for line in lines(tmp_path / "access.log.1")] == ["/1", "/2"]
    assert [line["target"] for line in lines(tmp_path / "access.log")] == ["/3", "/4"]


def test_a_log_that_was_moved_away_begins_anew(tmp_path: Path) -> None:
    log = AccessLog(tmp_path / "access.log")
    note(log, "/1")
    log.flush()
    os.rename(tmp_path / "access.log", tmp_path / "mine")
    note(log, "/2")
    log.flush()

    assert [line["target"] for line in lines(tmp_path / "access.log")] == ["/2"]


def test_a_log_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    log = AccessLog(tmp_path / "none" / "access.log")
    note(log)
    log.flush()
