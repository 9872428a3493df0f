"""crun from a sealed memory file: create, start, and forgetting a container, without more processes than needed.

crun copies and re-executes its own binary at each call unless it runs from a sealed memfd (half its time).
It would also write cgroups; ours are made by `cgroup` and it runs with `--cgroup-manager=disabled`.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from hakobune.runtime.cgroup import Cgroup
from hakobune.runtime.container import ContainerError
from hakobune.runtime.slot import IdRange

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_F_ADD_SEALS = 1033
_ALL_SEALS = 0xF


class Crun:
    """One crun binary and one folder of its state (`run/crun`)."""

    name = "crun"

    def __init__(self, state: Path, *, binary: str | None = None) -> None:
        found = binary or shutil.which(self.name, path=SEARCH_PATH)
        if found is None:
            raise ContainerError(
                f"cannot run containers: there is no `{self.name}`",
                fix=f"install the package {self.name}",
            )
        self._state = state
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.fd = _sealed_copy(found)

    def create_argv(self, id: str, bundle: Path, log: Path, *extra: str) -> list[str]:
        """The arguments of `crun create`; execute `/proc/self/fd/{fd}` with them."""
        return self._argv(log, "create", *extra, "-b", str(bundle), id)

    def exec_argv(
        self, id: str, process: Path, pid_file: Path, log: Path, *extra: str
    ) -> list[str]:
        """The arguments that start another process, described by a file, and end once it runs."""
        words = ("-d", "--pid-file", str(pid_file), "-p", str(process))
        return self._argv(log, "exec", *words, *extra, id)

    def prepare(self, group: Cgroup) -> None:
        """In the child that becomes the runtime, for a container of *group*."""
        os.setsid()
        group.enter()

    def prepare_exec(self, group: Cgroup, place: str) -> None:
        """The same for another process in a container whose root was attached in *place*."""
        self.prepare(group)

    def adapt(self, config: dict[str, Any], ids: IdRange, group: str) -> None:
        """Change a bundle's *config* to what this runtime needs; crun needs nothing."""

    def _argv(self, log: Path, verb: str, *rest: str) -> list[str]:
        # Errors go to a file: a pipe on crun's output would be kept open by the container's first process.
        head = ["crun", "--root", str(self._state), "--cgroup-manager=disabled"]
        return [*head, "--log", str(log), "--log-format=text", verb, *rest]

    def exec(self, argv: list[str]) -> None:
        """Become crun. Does not return."""
        os.execve(f"/proc/self/fd/{self.fd}", argv, {"PATH": SEARCH_PATH})

    def close(self) -> None:
        """Give the binary's copy up."""
        os.close(self.fd)

    def read_pid(self, id: str) -> int:
        """The container's first process, after `create`."""
        with open(self._state / id / "status", encoding="utf-8") as file:
            return int(json.load(file)["pid"])

    def start(self, id: str) -> None:
        """Let the created container's program begin, as `crun start` does but without a process.

        Raises:
            ContainerError: kind `phase`: it is not waiting to be started.
        """
        fifo = self._state / id / "exec.fifo"
        try:
            fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in (errno.ENXIO, errno.ENOENT):
                raise
            raise not_waiting(id) from error
        try:
            os.write(fd, b"0")
        finally:
            os.close(fd)
        fifo.unlink()  # else `crun state` says `created` for ever

    def forget(self, id: str) -> None:
        """Remove what crun keeps of a container whose processes are gone. Idempotent."""
        shutil.rmtree(self._state / id, ignore_errors=True)


def hierarchies_of(runtime: str) -> tuple[str, ...]:
    """Controllers in whose trees a runtime insists on a group, beside those of ours: it makes them there if we do not."""
    return ("cpuacct", "freezer", "devices") if runtime == "runc" else ()


def open_runtime(name: str, state: Path) -> Crun:
    """The OCI runtime of that name (`settings.runtime`).

    Raises:
        ContainerError: it is not installed.
    """
    if name == "runc":
        from hakobune.runtime.runc import Runc  # most machines use crun

        return Runc(state)
    return Crun(state)


def not_waiting(id: str) -> ContainerError:
    """A container that is to begin has begun, or was never made."""
    return ContainerError(
        f"cannot start the container {id!r}", why="it is not waiting to be started", kind="phase"
    )


def explain_create_failure(log: str, argv0: str, runtime: str = "crun") -> ContainerError:
    """What the runtime's `create` or `exec` meant by its error *log*, as kinds `no_command`, `not_executable` or `failed`."""
    lines = [line for line in log.strip().splitlines() if line]
    text = _message(lines[-1]) if lines else "it said nothing"
    words = text.lower()
    if "executable file" in words and "not found" in words:
        return _no_command(argv0)
    if "permission denied" in words and ("executable" in words or f'exec: "{argv0}"' in text):
        return ContainerError(
            f"cannot start {argv0!r}",
            why="the file in the image is not executable",
            kind="not_executable",
        )
    if argv0 in text and "no such file or directory" in words:
        return _no_command(argv0)
    return ContainerError("cannot create the container", why=f"{runtime}: {text}")


def _no_command(argv0: str) -> ContainerError:
    return ContainerError(
        f"cannot start {argv0!r}", why="there is no such program in the image", kind="no_command"
    )


def _message(line: str) -> str:
    """A log line without its time: crun's `2026-…: text`, or runc's `time="…" level=error msg="text"`."""
    if found := re.search(r'msg="((?:[^"\\]|\\.)*)"', line):
        return found[1].replace('\\"', '"')
    return line.split(": ", 1)[1] if line[:2] == "20" and ": " in line else line


def _sealed_copy(binary: str) -> int:
    fd = os.memfd_create(os.path.basename(binary), os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(binary, "rb") as source:
        size = os.fstat(source.fileno()).st_size
        sent = 0
        while sent < size:
            sent += os.sendfile(fd, source.fileno(), sent, size - sent)
    fcntl.fcntl(fd, _F_ADD_SEALS, _ALL_SEALS)
    return fd
