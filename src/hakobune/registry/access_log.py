"""The access log: one JSON object a line, collected and written once a second, kept to two files of bounded size."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Final

_FLUSH_BYTES: Final = 64 * 1024
_ROTATE_BYTES: Final = 64 * 1024 * 1024
_REMEMBERED: Final = 1024


class AccessLog:
    """One worker's hand on the file that all workers append to. A log that cannot be written is given up silently:
    requests go on.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[str] = []
        self._size = 0
        self._second = 0
        self._time = ""
        self._quoted: dict[str, str] = {}
        self._descriptor = -1

    def add(self, client: str, seconds: float, facts: str) -> None:
        """Note a request; *facts* are from `describe`. *client* needs no quoting."""
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._time = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        line = f'{{"time":"{self._time}.{int((now - second) * 1000):03}Z","client":"{client}","ms":{seconds * 1000:.2f},{facts}'
        self._lines.append(line)
        self._size += len(line)
        if self._size > _FLUSH_BYTES:
            self.flush()

    def describe(
        self,
        *,
        principal: str,
        method: str,
        target: str,
        status: int,
        sent: int,
        received: int,
        agent: str,
    ) -> str:
        """What a line says of a request but for who, when and how long. *method* and *target* need no quoting."""
        return (
            f'"principal":{self._quote(principal)},"method":"{method}","target":"{target}",'
            f'"status":{status},"sent":{sent},"received":{received},"agent":{self._quote(agent)}}}\n'
        )

    def flush(self) -> None:
        """Write what was collected."""
        if not self._lines:
            return
        data = "".join(self._lines).encode()
        self._lines.clear()
        self._size = 0
        try:
            os.write(self._open(), data)
        except OSError:
            self._close()

    def _quote(self, text: str) -> str:
        quoted = self._quoted.get(text)
        if quoted is None:
            if len(self._quoted) >= _REMEMBERED:
                self._quoted.clear()
            quoted = self._quoted[text] = json.dumps(text[:512])
        return quoted

    def _open(self) -> int:
        if self._descriptor >= 0:
            try:
                found = os.stat(self._path)
            except FileNotFoundError:
                self._close()
            else:
                if not os.path.samestat(found, os.fstat(self._descriptor)):
                    self._close()
                elif found.st_size > _ROTATE_BYTES:
                    self._rotate()
        if self._descriptor < 0:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o640)
        return self._descriptor

    def _rotate(self) -> None:
        """Make this file the older one, unless another worker does; it is locked by who does."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        if os.path.samestat(os.stat(self._path), os.fstat(self._descriptor)):
            os.replace(self._path, self._path.with_name(self._path.name + ".1"))
        self._close()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
