"""One stage, instruction after instruction."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from hakobune.dockerfile.chown import resolve_owner
from hakobune.dockerfile.copy_into import Copier, CopyError, Owner
from hakobune.dockerfile.errors import DockerfileError
from hakobune.dockerfile.graph import PlannedStage
from hakobune.dockerfile.image_config import apply, new_working_dir, with_history
from hakobune.dockerfile.instructions import (
    Add,
    Arg,
    Cmd,
    Copy,
    Env,
    Instruction,
    Run,
    Workdir,
)
from hakobune.dockerfile.report import StepReport
from hakobune.dockerfile.stage_state import StageState
from hakobune.dockerfile.step import Step, take
from hakobune.dockerfile.step_layers import StepLayer, Top
from hakobune.dockerfile.substitute import substitute
from hakobune.dockerfile.workshop import Workshop
from hakobune.support.room import has_room, how_to_make_room, is_full

_WITH_BANNER = (Run, Copy, Add, Workdir)


class Globals(Struct, frozen=True, kw_only=True):
    """What instructions need of the file as a whole.

    Attributes:
        args: `--build-arg`.
        values: of the global scope, for ARGs without a default.
    """

    escape: str
    args: dict[str, str]
    values: dict[str, str]


def execute_stage(
    workshop: Workshop, stage: StageState, planned: PlannedStage, globals_: Globals
) -> None:
    """Carry out all instructions of a stage.

    Raises:
        HakoError: one of them failed; what is before it stays in the cache.
    """
    _expect_room(workshop, stage, planned)
    steps = 1 + sum(isinstance(one, _WITH_BANNER) for one in planned.stage.instructions)
    number = 1
    for instruction in planned.stage.instructions:
        number += isinstance(instruction, _WITH_BANNER)
        try:
            _execute(workshop, stage, instruction, globals_, place=f"{number}/{steps}")
        except OSError as error:
            explained = no_room(error, instruction, workshop.store.home)
            if explained is None:
                raise
            raise explained from error
    workshop.rooms.leave(stage.label)


def _expect_room(workshop: Workshop, stage: StageState, planned: PlannedStage) -> None:
    first = next((one for one in planned.stage.instructions if isinstance(one, Run)), None)
    if first is not None:
        workshop.rooms.expect(stage.label, network=workshop.has_network(first))
        if workshop.request.no_cache:
            workshop.rooms.prepare(stage.label)


def no_room(error: OSError, instruction: Instruction, home: Path) -> DockerfileError | None:
    """The error for a step that found no room on the disk of *home*; `None` for every other.

    An overlay that cannot make its own folders there is read-only, without a word.
    """
    if not (is_full(error) or (error.errno == errno.EROFS and not has_room(home))):
        return None
    at = instruction.at
    return DockerfileError(
        f"{instruction.text}: there is no room for what it writes",
        file=at.file,
        line=at.line,
        why=f"no space is left on the disk of {home}",
        fix=how_to_make_room(home),
    )


def _execute(
    workshop: Workshop,
    stage: StageState,
    instruction: Instruction,
    globals_: Globals,
    *,
    place: str,
) -> None:
    if isinstance(instruction, Arg):
        _declare(stage, instruction, globals_)
        return
    found = substitute(
        instruction, stage.scope.variables, globals_.escape, declared=stage.scope.declared
    )
    banner = f"[{stage.label} {place}] {instruction.text}"
    match found.instruction:
        case Run() as run:
            from hakobune.dockerfile.run_step import run_step

            take(workshop, stage, run_step(workshop, stage, run, banner))
        case Copy() | Add() as transfer:
            from hakobune.dockerfile.transfer_step import transfer_step

            take(workshop, stage, transfer_step(workshop, stage, transfer, banner))
        case Workdir() as workdir:
            _change_workdir(workshop, stage, workdir, banner)
        case Env() as env:
            stage.config = apply(stage.config, env)
            stage.scope = stage.scope.with_env(env.variables)
        case other:
            stage.config = apply(stage.config, other, cmd_is_set=stage.cmd_is_set)
            stage.cmd_is_set = stage.cmd_is_set or isinstance(other, Cmd)


def _declare(stage: StageState, instruction: Arg, globals_: Globals) -> None:
    before = len(stage.scope.args)
    stage.scope = stage.scope.with_args(
        instruction, globals_.args, globals_.values, globals_.escape
    )
    words = [
        arg.key if arg.value is None else f"{arg.key}={arg.value}"
        for arg in stage.scope.args[before:]
    ]
    stage.config = with_history(stage.config, f"ARG {' '.join(words)}")


def _change_workdir(
    workshop: Workshop, stage: StageState, instruction: Workdir, banner: str
) -> None:
    """Also make the directory, as the stage's user, in a layer of its own."""
    path = new_working_dir(stage.config, instruction.path)
    user = stage.config.config.user
    changed = apply(stage.config, instruction)
    if path == "/":
        stage.config = changed
        return
    created_by = changed.history[-1].created_by

    def make(top: Top, below: Sequence[StepLayer], report: StepReport) -> None:
        owner = resolve_owner(workshop, stage, user, instruction.at) if user else Owner(0, 0)
        _make_directory(workshop, path, owner, top, below, instruction)

    take(
        workshop,
        stage,
        Step(
            at=instruction.at,
            inputs=(lambda: {"workdir": path, "user": user},),
            created_by=created_by,
            banner=banner,
            make=make,
        ),
    )
    config = stage.config
    stage.config = replace(config, config=replace(config.config, working_dir=path))


def _make_directory(
    workshop: Workshop,
    path: str,
    owner: Owner,
    top: Top,
    below: Sequence[StepLayer],
    instruction: Workdir,
) -> None:
    from hakobune.runtime import mount
    from hakobune.runtime.mount import RootFs

    with workshop.layers.lowers(below) as lowers:
        root = mount.overlay(RootFs(lowers=lowers, top=top.folder), None)
    try:
        epoch = workshop.request.epoch
        copier = Copier(root, owner=owner, now_ns=None if epoch is None else epoch * 10**9)
        copier.make_directories(copier.resolve(path))
    except CopyError as error:
        raise DockerfileError.at(instruction.at, error, f"WORKDIR {path}: {error.what}") from error
    finally:
        os.close(root)
