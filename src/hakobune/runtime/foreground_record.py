"""Containers that belong to a command, as other commands find them: the folders `run/foreground/ID/`.

A name is held by an abstract unix socket of the command's process tree, so the kernel forgets it with the last of
them; a folder whose process has gone is nobody's and is removed by whoever comes by.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hakobune.runtime.container import (
    ID_PATTERN,
    ContainerError,
    ContainerSpec,
    ContainerStatus,
)
from hakobune.runtime.container_names import name_taken
from hakobune.runtime.process import open_process
from hakobune.settings import Settings
from hakobune.support.files import write_atomically


@dataclass(frozen=True, slots=True)
class Foreground:
    """A running one. *init* is the first process of the pid namespace in which the *runtime* made it."""

    spec: ContainerSpec
    status: ContainerStatus
    init: int
    folder: Path
    runtime: str


@contextmanager
def claimed(settings: Settings, id: str) -> Iterator[Path]:
    """A private folder of that name while the block lasts.

    Raises:
        ContainerError: kind `exists`: a container has the name.
    """
    folder = _parent(settings) / id
    holder = _hold(settings, id)
    if holder is None or _supervisor_has(settings, id):
        if holder is not None:
            holder.close()
        raise name_taken(id)
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        holder.close()


def write_foreground(
    folder: Path, spec: ContainerSpec, status: ContainerStatus, *, init: int, runtime: str
) -> None:
    """Let other commands know of it, once it runs."""
    record = {
        "spec": spec.to_json(),
        "status": status.to_json(),
        "init": init,
        "runtime": runtime,
    }
    with contextlib.suppress(FileNotFoundError):
        write_atomically(folder / "state.json", json.dumps(record).encode(), mode=0o600)


def foreground_containers(settings: Settings) -> tuple[Foreground, ...]:
    """Those that run, oldest first; what was left of others is removed."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for folder in _parent(settings).iterdir():
            container = _read(folder)
            if container is not None:
                found.append(container)
            else:
                _remove_if_left(settings, folder)
    return tuple(sorted(found, key=lambda container: container.status.created_at))


def find_foreground(settings: Settings, id: str) -> Foreground | None:
    """The running one of that name."""
    return _read(_parent(settings) / id) if ID_PATTERN.fullmatch(id) else None


def _parent(settings: Settings) -> Path:
    return settings.run / "foreground"


def _hold(settings: Settings, id: str) -> socket.socket | None:
    holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        holder.bind(f"\0{settings.installation}-container-{id}")
    except OSError:
        holder.close()
        return None
    return holder


def _supervisor_has(settings: Settings, id: str) -> bool:
    return (settings.home / "containers" / id).exists()


def _read(folder: Path) -> Foreground | None:
    try:
        data = json.loads((folder / "state.json").read_bytes())
        status = ContainerStatus.from_json(data["status"])
        spec = ContainerSpec.from_json(data["spec"])
    except (OSError, ValueError, KeyError, TypeError, ContainerError):
        return None
    pidfd = open_process(status.pid or 0, status.start_time or 0) if status.pid else None
    if pidfd is None:
        return None
    os.close(pidfd)
    return Foreground(spec, status, int(data["init"]), folder, str(data["runtime"]))


def _remove_if_left(settings: Settings, folder: Path) -> None:
    holder = _hold(settings, folder.name)
    if holder is not None:  # nobody is about to fill it
        shutil.rmtree(folder, ignore_errors=True)
        holder.close()
