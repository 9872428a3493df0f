from __future__ import annotations

import itertools
import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from hakobune.runtime.log_record import LogRecord
from hakobune.runtime.logs import (
    KEPT_FILES,
    MAX_LINE_BYTES,
    LineSplitter,
    LogFile,
    LogTail,
    encode_record,
    follow_records,
    format_time,
    log_files,
    read_records,
)


def record(text: str, *, partial: bool = False) -> bytes:
    return encode_record(0.0, "web", "stdout", text.encode(), partial=partial)


@given(st.binary(max_size=200), st.lists(st.integers(1, 20), max_size=50))
def test_lines_do_not_depend_on_how_they_arrive(data: bytes, cuts: list[int]) -> None:
    splitter = LineSplitter()
    found, rest = [], data
    for cut in cuts:
        found += [line for line, _ in splitter.feed(rest[:cut])]
        rest = rest[cut:]
    found += [line for line, _ in splitter.feed(rest)]
    found += [line for line, _ in splitter.finish()]

    expected = data.split(b"\n")
    assert found == (expected if expected[-1] else expected[:-1])


def test_a_line_without_end_comes_in_parts_and_no_byte_is_lost() -> None:
    splitter = LineSplitter()
    data = b"x" * (MAX_LINE_BYTES * 2 + 5)

    found = [*splitter.feed(data), *splitter.feed(b"y\n")]

    assert [partial for _, partial in found] == [True, True, False]
    assert b"".join(line for line, _ in found) == data + b"y"


def test_a_record_is_one_json_line_whatever_was_printed() -> None:
    line = encode_record(1.5, "web", "stderr", b'a"b\x00\xff\r\xe2\x80\xa8', partial=True)

    assert line.count(b"\n") == 1
    assert LogRecord.from_json(json.loads(line)) == LogRecord(
        time="1970-01-01T00:00:01.500000Z",
        container="web",
        stream="stderr",
        text='a"b\0\ufffd\r\u2028',
        partial=True,
    )


def test_times_are_rfc_3339_in_utc() -> None:
    assert format_time(1795602928.25) == "2026-11-25T10:35:28.250000Z"


def test_a_file_is_turned_over_at_its_size_and_the_oldest_goes(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "logs" / "log", 300)
    for number in range(40):
        log.append(record(f"line {number}"))
    log.close()

    files = log_files(tmp_path / "logs" / "log")
    texts = [found.text for found in read_records(tmp_path / "logs" / "log")]

    assert len(files) == KEPT_FILES + 1
    assert all(file.stat().st_size <= 300 for file in files)
    assert texts == [f"line {n}" for n in range(40 - len(texts), 40)]
    assert not (tmp_path / "logs" / f"log.{KEPT_FILES + 1}").exists()


def test_a_batch_greater_than_a_file_is_spread_at_record_ends(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log", 300)

    log.append(b"".join(record(f"line {n}") for n in range(9)))
    log.close()

    texts = [found.text for found in read_records(tmp_path / "log")]
    assert texts == [f"line {n}" for n in range(9 - len(texts), 9)]
    assert all(file.stat().st_size <= 300 for file in log_files(tmp_path / "log"))


def test_a_record_greater_than_a_file_has_one_of_its_own(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log", 100)

    log.append(record("small") + record("g" * 500) + record("last"))
    log.close()

    assert [len(found.text) for found in read_records(tmp_path / "log")] == [5, 500, 4]


def test_an_existing_log_is_continued(tmp_path: Path) -> None:
    for text in ("one", "two"):
        log = LogFile(tmp_path / "log", 1000)
        log.append(record(text))
        log.close()

    assert [found.text for found in read_records(tmp_path / "log")] == ["one", "two"]


def test_following_goes_on_over_a_turn(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = LogFile(path, 200)
    log.append(record("0"))
    records = follow_records(path, poll_s=0)
    first = next(records)

    for number in range(1, 8):
        log.append(record(str(number)))
        found = next(r for r in records if r is not None)
        assert found.text == str(number)
    log.close()

    assert first is not None
    assert first.text == "0"
    assert next(records) is None


def test_a_torn_last_line_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(record("whole") + record("torn")[:20])

    assert [found.text for found in read_records(path)] == ["whole"]


def test_nothing_is_there_before_anything_was_said(tmp_path: Path) -> None:
    assert list(read_records(tmp_path / "log")) == []
    assert list(itertools.islice(follow_records(tmp_path / "log", poll_s=0), 1)) == [None]


def test_a_tail_shows_what_comes_from_now_on_over_a_turn(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = LogFile(path, max_bytes=len(record("line 0")) * 3)
    log.append(record("line 0"))
    tail = LogTail(path)

    assert tail.read() == ()
    texts = []
    for number in range(1, 8):
        log.append(record(f"line {number}"))
        texts += [found.text for found in tail.read()]
    tail.close()
    log.close()

    assert texts == [f"line {number}" for number in range(1, 8)]


def test_a_tail_waits_for_a_log_and_for_the_rest_of_a_record(tmp_path: Path) -> None:
    tail = LogTail(tmp_path / "log")
    assert tail.read() == ()
    data = record("whole")

    with (tmp_path / "log").open("wb", buffering=0) as file:
        file.write(data[:20])
        assert tail.read() == ()
        file.write(data[20:])
        (found,) = tail.read()
    tail.close()

    assert found.text == "whole"
