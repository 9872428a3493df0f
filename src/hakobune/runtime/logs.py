"""Output of containers as log files: lines become JSON records, files are turned over by size."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from hakobune.runtime.log_record import LogRecord

MAX_LINE_BYTES = 64 << 10
KEPT_FILES = 3


class LineSplitter:
    """Turns a stream of bytes into lines; what is longer than `MAX_LINE_BYTES` comes in parts."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        """Each line without its newline, and whether more of it follows."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            yield from _parts(line)
        while len(self._rest) > MAX_LINE_BYTES:
            yield self._rest[:MAX_LINE_BYTES], True
            self._rest = self._rest[MAX_LINE_BYTES:]

    def finish(self) -> Iterator[tuple[bytes, bool]]:
        """The last line if it lacks its newline."""
        if self._rest:
            yield self._rest, False
            self._rest = b""


def _parts(line: bytes) -> Iterator[tuple[bytes, bool]]:
    while len(line) > MAX_LINE_BYTES:
        yield line[:MAX_LINE_BYTES], True
        line = line[MAX_LINE_BYTES:]
    yield line, False


def format_time(seconds: float) -> str:
    """RFC 3339 in UTC with microseconds."""
    whole = int(seconds)
    micro = int((seconds - whole) * 1e6)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{micro:06d}Z"


def encode_record(when: float, container: str, stream: str, line: bytes, *, partial: bool) -> bytes:
    """One line of a log file. Bytes that are not UTF-8 are shown as U+FFFD."""
    record: dict[str, object] = {
        "time": format_time(when),
        "container": container,
        "stream": stream,
        "text": line.decode("utf-8", "replace"),
    }
    if partial:
        record["partial"] = True
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


class LogFile:
    """Appends to *path*; at *max_bytes* it becomes `path.1`, and so on up to `KEPT_FILES` old ones."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self.users = 0
        self._max_bytes = max_bytes
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = self._open()

    def append(self, data: bytes) -> None:
        """Write whole records. A full disk loses them; the containers go on."""
        with contextlib.suppress(OSError):
            while data:
                room = max(0, self._max_bytes - self._size)
                end = len(data) if len(data) <= room else data.rfind(b"\n", 0, room) + 1
                if end == 0 and self._size:
                    self._turn_over()
                    continue
                end = end or data.find(b"\n") + 1 or len(data)  # greater than a whole file
                os.write(self._fd, data[:end])
                self._size += end
                data = data[end:]

    def close(self) -> None:
        os.close(self._fd)

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        fd = os.open(self.path, flags, 0o640)
        self._size = os.fstat(fd).st_size
        return fd

    def _turn_over(self) -> None:
        for number in range(KEPT_FILES - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                os.rename(_old(self.path, number), _old(self.path, number + 1))
        os.rename(self.path, _old(self.path, 1))
        old = self._fd
        self._fd = self._open()
        os.close(old)


def _old(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def log_files(path: Path) -> tuple[Path, ...]:
    """The files of one log that are there, oldest first."""
    candidates = [*(_old(path, n) for n in range(KEPT_FILES, 0, -1)), path]
    return tuple(file for file in candidates if file.exists())


def read_records(path: Path) -> Iterator[LogRecord]:
    """Every record of a log that is kept, oldest first."""
    for file in log_files(path):
        try:
            lines = file.read_bytes().splitlines()
        except FileNotFoundError:
            continue
        for line in lines:
            with contextlib.suppress(ValueError, KeyError):  # cut off by a full disk
                yield LogRecord.from_json(json.loads(line))


class LogTail:
    """What comes to a log from now on. Look at it every `pause_s`."""

    pause_s = 0.1

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""
        self._open()
        if self._file is not None:
            self._file.seek(0, os.SEEK_END)

    def read(self) -> tuple[LogRecord, ...]:
        """The records that have come since the last time."""
        found: list[LogRecord] = []
        while True:
            if self._file is None:
                self._open()
            data = self._file.read() if self._file is not None else b""
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                with contextlib.suppress(ValueError, KeyError):
                    found.append(LogRecord.from_json(json.loads(line)))
            if data:
                continue
            if self._file is None or not _was_turned_over(self._path, self._file.fileno()):
                return tuple(found)
            self.close()
            self._rest = b""

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._file = self._path.open("rb")


def follow_records(path: Path, *, poll_s: float = 0.1) -> Iterator[LogRecord | None]:
    """Every record, then each new one as it comes; `None` each time there is none (the reader may stop then)."""
    rest = b""
    file = None
    try:
        yield from (record for old in log_files(path)[:-1] for record in _records_of(old))
        while True:
            if file is None and path.exists():
                file = path.open("rb")
            data = file.read(1 << 20) if file is not None else b""
            if data:
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    with contextlib.suppress(ValueError, KeyError):
                        yield LogRecord.from_json(json.loads(line))
                continue
            if file is not None and _was_turned_over(path, file.fileno()):
                file.close()
                file, rest = None, b""
                continue
            yield None
            time.sleep(poll_s)
    finally:
        if file is not None:
            file.close()


def _records_of(path: Path) -> Iterator[LogRecord]:
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(ValueError, KeyError):
                yield LogRecord.from_json(json.loads(line))


def _was_turned_over(path: Path, fd: int) -> bool:
    try:
        return os.stat(path).st_ino != os.fstat(fd).st_ino
    except FileNotFoundError:
        return False
