"""crun from a sealed memory file: create, start, and forgetting a container, without more processes than needed.

crun copies and re-executes its own binary at each call unless it runs from a sealed memfd (half its time).
It would also write cgroups; ours are made by `cgroup` and it runs with `--cgroup-manager=disabled`.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from pathlib import Path

from hakobune.runtime.container import ContainerError

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_F_ADD_SEALS = 1033
_ALL_SEALS = 0xF


class Crun:
    """One crun binary and one folder of its state (`run/crun`)."""

    def __init__(self, state: Path, *, binary: str | None = None) -> None:
        found = binary or shutil.which("crun", path=SEARCH_PATH)
        if found is None:
            raise ContainerError(
                "cannot run containers: there is no `crun`", fix="install the package crun"
            )
        self._state = state
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.fd = _sealed_copy(found)

    def create_argv(self, id: str, bundle: Path, log: Path, *extra: str) -> list[str]:
        """The arguments of `crun create`; execute `/proc/self/fd/{fd}` with them."""
        return self._argv(log, "create", *extra, "-b", str(bundle), id)

    def _argv(self, log: Path, verb: str, *rest: str) -> list[str]:
        # Errors go to a file: a pipe on crun's output would be kept open by the container's first process.
        head = ["crun", "--root", str(self._state), "--cgroup-manager=disabled"]
        return [*head, "--log", str(log), "--log-format=text", verb, *rest]

    def exec(self, argv: list[str]) -> None:
        """Become crun. Does not return."""
        os.execve(f"/proc/self/fd/{self.fd}", argv, {"PATH": SEARCH_PATH})

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
            raise ContainerError(
                f"cannot start the container {id!r}",
                why="it is not waiting to be started",
                kind="phase",
            ) from error
        try:
            os.write(fd, b"0")
        finally:
            os.close(fd)
        fifo.unlink()  # else `crun state` says `created` for ever

    def forget(self, id: str) -> None:
        """Remove what crun keeps of a container whose processes are gone. Idempotent."""
        shutil.rmtree(self._state / id, ignore_errors=True)


def explain_create_failure(log: str, argv0: str) -> ContainerError:
    """What `crun create` meant by its error *log*, as kinds `no_command`, `not_executable` or `failed`."""
    lines = [line for line in log.strip().splitlines() if line]
    last = lines[-1] if lines else "it said nothing"
    text = last.split(": ", 1)[1] if last[:2] == "20" and ": " in last else last
    if "executable file" in text and "not found" in text:
        return ContainerError(
            f"cannot start {argv0!r}",
            why="there is no such program in the image",
            kind="no_command",
        )
    if "Permission denied" in text and ("open executable" in text or "executable" in text):
        return ContainerError(
            f"cannot start {argv0!r}",
            why="the file in the image is not executable",
            kind="not_executable",
        )
    if argv0 in text and "No such file or directory" in text:
        return ContainerError(
            f"cannot start {argv0!r}",
            why="there is no such program in the image",
            kind="no_command",
        )
    return ContainerError("cannot create the container", why=f"crun: {text}")


def _sealed_copy(binary: str) -> int:
    fd = os.memfd_create("crun", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(binary, "rb") as source:
        size = os.fstat(source.fileno()).st_size
        sent = 0
        while sent < size:
            sent += os.sendfile(fd, source.fileno(), sent, size - sent)
    fcntl.fcntl(fd, _F_ADD_SEALS, _ALL_SEALS)
    return fd
