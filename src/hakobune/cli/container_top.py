"""`hako container top`: the processes of a container, as ps(1) of this machine shows them."""

from __future__ import annotations

import argparse
import subprocess

from hakobune.cli.main import Context
from hakobune.errors import UsageError
from hakobune.runtime.cgroups import Cgroups
from hakobune.runtime.container import ContainerError, Phase
from hakobune.runtime.foreground_record import find_foreground
from hakobune.runtime.supervisor_client import SupervisorClient

_EVERYTHING = ("-ef",)


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Its rows of `ps OPTIONS`, which needs a column PID."""
    id: str = arguments.container
    _expect_running(id, context)
    options = [word for word in arguments.options if word != "--"] or list(_EVERYTHING)
    cgroups = Cgroups.open(context.settings.installation)
    try:
        pids = cgroups.group(f"containers/{id}").pids()
    finally:
        cgroups.close()
    for line in rows_of(_ps(options, pids), pids, options):
        print(line, file=context.out)
    return 0


def rows_of(table: str, pids: tuple[int, ...], options: list[str]) -> tuple[str, ...]:
    """The head of a *table* by ps, and its rows about *pids*.

    Raises:
        UsageError: it has no column PID.
    """
    head, *rows = table.splitlines() or [""]
    try:
        column = head.split().index("PID")
    except ValueError:
        raise UsageError(
            f"ps {' '.join(options)} shows no column PID",
            why="by which a container's processes are known",
            fix="-o pid,… (or no options)",
        ) from None
    wanted = {str(pid) for pid in pids}
    return (head, *(row for row in rows if wanted & set(row.split()[column : column + 1])))


def _expect_running(id: str, context: Context) -> None:
    if find_foreground(context.settings, id) is not None:
        return
    with SupervisorClient(context.settings.supervisor_socket) as client:
        phase = client.get(id).phase
    if phase in (Phase.STOPPED, Phase.CREATING):
        raise ContainerError(
            f"the container {id!r} has no processes",
            why=f"it is {phase}",
            fix=f"hako container start {id}" if phase is Phase.STOPPED else "",
            kind="phase",
        )


def _ps(options: list[str], pids: tuple[int, ...]) -> str:
    """Asked about these first, and about all where the options do not go with that, as docker does."""
    done = _run_ps("-q", ",".join(map(str, pids)), *options)
    if done.returncode:
        done = _run_ps(*options)
    if done.returncode:
        complaint = done.stderr.strip().splitlines()
        raise UsageError(
            f"ps {' '.join(options)} failed",
            why=complaint[0] if complaint else "",
            fix="the options are ps's: -o pid,user,args",
        )
    return done.stdout


def _run_ps(*arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["ps", *arguments], capture_output=True, text=True, timeout=30)
    except FileNotFoundError as error:
        raise ContainerError(
            "processes cannot be shown", why="there is no ps", fix="install the package procps"
        ) from error
