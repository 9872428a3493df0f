"""Another program in one of the supervisor's containers, for which nobody waits: its output goes to the container's log."""

from __future__ import annotations

import os
from collections.abc import Mapping

from hakobune.runtime.crun import Crun
from hakobune.runtime.exec_files import ExecFiles
from hakobune.runtime.held import Answer, Held
from hakobune.runtime.launch import closed_pipe, spawn
from hakobune.runtime.loop import Loop


def execute_detached(
    loop: Loop, crun: Crun, place: str, held: Held, process: Mapping[str, object], answer: Answer
) -> None:
    """Start a *process* (runtime-spec "process"); *answer* comes when it runs, or could not be started.

    It ends by itself, or with the container, which runs.
    """
    assert held.output is not None
    call = ExecFiles(held.folder, process)
    argv = call.argv(crun, held.spec.id)
    stdio = {0: closed_pipe()}
    try:
        stdio[1] = held.output.open_for_container("stdout")
        stdio[2] = held.output.open_for_container("stderr")
        pid = spawn(
            lambda: crun.prepare_exec(held.group, place), lambda: crun.exec(argv), stdio=stdio
        )
    finally:
        for fd in stdio.values():
            os.close(fd)

    def ended(status: int) -> None:
        error = call.finish(failed=status != 0)
        answer(held.status if error is None else error)

    loop.on_child_end(pid, ended)
