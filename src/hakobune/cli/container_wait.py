"""`hako container wait`: until containers have ended; their exit codes, one a line, in the order in which they were named."""

from __future__ import annotations

import argparse
import os
import select

from hakobune.cli.main import Context
from hakobune.errors import HakoError
from hakobune.runtime.container import ContainerError, ContainerStatus
from hakobune.runtime.foreground_record import Foreground, find_foreground
from hakobune.runtime.process import exit_status_of, open_process, split_status
from hakobune.runtime.supervisor_client import SupervisorClient


def run(arguments: argparse.Namespace, context: Context) -> int:
    """0, or 1 if one of them is not there or its exit code not known; the others are waited for all the same."""
    failed = False
    for id in arguments.containers:
        try:
            code = _wait(id, context)
        except HakoError as error:
            print(f"error: {error}", file=context.err)
            failed = True
        else:
            print(code, file=context.out, flush=True)
    return 1 if failed else 0


def _wait(id: str, context: Context) -> int:
    own = find_foreground(context.settings, id)
    if own is not None:
        code = _wait_for_foreground(own)
    else:
        with SupervisorClient(context.settings.supervisor_socket) as client:
            status: ContainerStatus = client.wait(id)
        code = status.exit_code
    if code is None:
        raise ContainerError(
            f"the exit code of the container {id!r} is not known",
            why="it ended while nobody looked"
            if own is None
            else "it belongs to a command, which alone was told",
        )
    return code


def _wait_for_foreground(container: Foreground) -> int | None:
    pid, start_time = container.status.pid or 0, container.status.start_time or 0
    pidfd = open_process(pid, start_time)
    if pidfd is None:
        return None
    try:
        select.select([pidfd], [], [])
        status = exit_status_of(pidfd, pid, start_time)
        for _ in range(100):  # until its own parent has reaped it
            if status is not None:
                break
            select.select([], [], [], 0.01)
            status = exit_status_of(pidfd, pid, start_time)
        return split_status(status)[0]
    finally:
        os.close(pidfd)
