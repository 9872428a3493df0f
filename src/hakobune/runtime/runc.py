"""runc in crun's place, where a setting asks for it: slower by a factor of four, and what many machines have.

The differences that matter (tried with runc 1.1): it wants its own id mappings beside a user namespace joined by path,
ignores crun's annotation for a compiled filter, always writes control groups, and its first process *writes*
to `exec.fifo`, where crun's reads.
"""

from __future__ import annotations

import errno
import json
import os
import select
from pathlib import Path
from typing import Any

from hakobune.runtime import linux
from hakobune.runtime.cgroup import Cgroup
from hakobune.runtime.container import ContainerError
from hakobune.runtime.crun import Crun, not_waiting
from hakobune.runtime.seccomp import profile
from hakobune.runtime.slot import IdRange

_START_S = 10.0


class Runc(Crun):
    """One runc binary and one folder of its state."""

    name = "runc"

    def prepare(self, group: Cgroup) -> None:
        os.setsid()
        group.enter_beside()

    def prepare_exec(self, group: Cgroup, place: str) -> None:
        """runc goes to the path of the root, which was attached where nobody else sees it."""
        self.prepare(group)
        linux.unshare(linux.CLONE_NEWNS)
        linux.mount("tmpfs", place, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755")
        os.mkdir(f"{place}/root")

    def adapt(self, config: dict[str, Any], ids: IdRange, group: str) -> None:
        """Change a bundle's *config*, made for crun, into one for runc.

        Args:
            group: the container's control group, relative to each hierarchy.
        """
        section = config["linux"]
        mapping = [{"containerID": 0, "hostID": ids.base, "size": ids.size}]
        section["uidMappings"] = mapping
        section["gidMappings"] = mapping
        section["cgroupsPath"] = f"/{group}"
        if config.pop("annotations", None):
            section["seccomp"] = profile(os.uname().machine)

    def _argv(self, log: Path, verb: str, *rest: str) -> list[str]:
        head = ["runc", "--root", str(self._state), "--log", str(log), "--log-format=text"]
        return [*head, verb, *rest]

    def read_pid(self, id: str) -> int:
        with open(self._state / id / "state.json", encoding="utf-8") as file:
            return int(json.load(file)["init_process_pid"])

    def start(self, id: str) -> None:
        """Let a created container's program begin, as runc's own `start` does, without its process.

        Raises:
            ContainerError: it does not wait for that, or does not begin.
        """
        fifo = self._state / id / "exec.fifo"
        try:
            fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            raise not_waiting(id) from error
        try:
            if not select.select([fd], [], [], _START_S)[0] or not os.read(fd, 1):
                raise ContainerError(f"cannot start the container {id!r}", why="it does not begin")
        finally:
            os.close(fd)
        fifo.unlink()
