"""A running container as another program in it needs it: who made it, and where that works."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hakobune.runtime.adoption import read_found
from hakobune.runtime.container import ContainerError, ContainerSpec, Phase
from hakobune.runtime.foreground_record import find_foreground
from hakobune.runtime.launch import attach_place
from hakobune.runtime.supervisor_client import SupervisorClient
from hakobune.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A running container, and where its runtime works.

    Args:
        pid: its first process, as we count.
        folder: private to it; for files of ours.
        state: the runtime's own folder.
        view: a process in whose mount namespace the runtime finds the control groups it accepts.
        place: where its root was attached.
        init: the first process of the pid namespace in which the runtime counts; `None` is the host's.
    """

    spec: ContainerSpec
    pid: int
    folder: Path
    runtime: str
    state: Path
    view: int
    place: str
    init: int | None


def find_target(settings: Settings, id: str) -> Target:
    """The running container of that name: the supervisor's, or one that a command runs.

    Raises:
        ContainerError: kind `not_found`, or `phase`: it does not run.
        SupervisorUnavailableError: nobody knows of it, and the supervisor does not run.
    """
    own = find_foreground(settings, id)
    if own is not None and own.status.pid is not None:
        return Target(
            spec=own.spec,
            pid=own.status.pid,
            folder=own.folder,
            runtime=own.runtime,
            state=own.folder / "runtime",
            view=own.init,
            place=attach_place(settings.home),
            init=own.init,
        )
    with SupervisorClient(settings.supervisor_socket) as client:
        status, hello = client.get(id), client.hello()
    folder = settings.home / "containers" / id
    spec = read_found(folder).spec
    if status.phase is not Phase.RUNNING or status.pid is None or spec is None:
        raise ContainerError(
            f"cannot run anything in the container {id!r}",
            why=f"it is {status.phase}",
            fix=f"hako container start {id}" if status.phase is Phase.STOPPED else "",
            kind="phase",
        )
    return Target(
        spec=spec,
        pid=status.pid,
        folder=folder,
        runtime=hello["runtime"],
        state=settings.run / hello["runtime"],
        view=hello["pid"],
        place=attach_place(settings.home),
        init=None,
    )
