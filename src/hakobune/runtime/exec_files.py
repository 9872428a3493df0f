"""What one `exec` by the OCI runtime needs on disk: the process's description, its pid, the runtime's complaint."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from hakobune.runtime.container import ContainerError
from hakobune.runtime.crun import Crun, explain_create_failure


class ExecFiles:
    """Files of one call in the container's *folder*, until `finish`."""

    def __init__(self, folder: Path, process: Mapping[str, object]) -> None:
        name = f"exec-{os.urandom(4).hex()}"
        self._runtime = ""
        self._argv0 = str(process["args"][0])  # type: ignore[index] # a list, by the runtime-spec
        self._process = folder / f"{name}.json"
        self._pid = folder / f"{name}.pid"
        self._log = folder / f"{name}.log"
        fd = os.open(self._process, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            json.dump(process, file)

    def argv(self, crun: Crun, id: str, *extra: str) -> list[str]:
        """What starts the process."""
        self._runtime = crun.name
        return crun.exec_argv(id, self._process, self._pid, self._log, *extra)

    def read_pid(self) -> int:
        """The process's, in the pid namespace of the runtime."""
        return int(self._pid.read_text())

    def finish(self, *, failed: bool) -> ContainerError | None:
        """Remove the files; what the runtime said, if it *failed*."""
        log = ""
        with contextlib.suppress(OSError):
            log = self._log.read_text(errors="replace")
        for path in (self._process, self._pid, self._log):
            path.unlink(missing_ok=True)
        return explain_create_failure(log, self._argv0, self._runtime) if failed else None
