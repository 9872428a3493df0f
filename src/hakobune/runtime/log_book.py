"""The open log files of all containers: several may write to one, which is closed with the last of them."""

from __future__ import annotations

from pathlib import Path

from hakobune.runtime.held import Held
from hakobune.runtime.logs import LogFile
from hakobune.runtime.loop import Loop
from hakobune.runtime.output import Output


class LogBook:
    """Log files by their paths."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._logs: dict[Path, LogFile] = {}

    def open(self, held: Held) -> Output:
        """Begin to read a container's output into its log."""
        path = Path(held.status.log_path)
        log = self._logs.get(path)
        if log is None:
            log = self._logs[path] = LogFile(path, held.spec.log_bytes)
        log.users += 1
        held.log = log
        held.output = Output(self._loop, held.folder, held.spec.id, log)
        return held.output

    def close(self, held: Held) -> None:
        """Read what is left of the output, and close. Idempotent."""
        if held.output is not None:
            held.output.finish()
            held.output = None
        if held.log is None:
            return
        held.log.users -= 1
        if held.log.users == 0:
            held.log.close()
            self._logs.pop(held.log.path, None)
        held.log = None
