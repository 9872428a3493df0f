"""RUN: a command in a sandbox over the layers so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from hakobune.dockerfile.cache import Inputs
from hakobune.dockerfile.errors import DockerfileError
from hakobune.dockerfile.image_config import DEFAULT_PATH, DEFAULT_SHELL, run_created_by
from hakobune.dockerfile.instructions import Mount, MountType, Network, Run, Security
from hakobune.dockerfile.mount_sources import digest_in_context, digest_in_stage
from hakobune.dockerfile.report import StepReport
from hakobune.dockerfile.run_input import RunInput, run_input
from hakobune.dockerfile.scope import proxy_environment
from hakobune.dockerfile.stage_state import StageState
from hakobune.dockerfile.step import Step, image_variables
from hakobune.dockerfile.step_layers import StepLayer, Top
from hakobune.dockerfile.workshop import CancelledError, Workshop
from hakobune.errors import HakoError
from hakobune.support.room import has_room, how_to_make_room, says_full

if TYPE_CHECKING:
    from hakobune.dockerfile.run_mounts import Given
    from hakobune.oci.image_user import ImageUser
    from hakobune.runtime.sandbox import Sandbox

HOSTNAME = "buildkitsandbox"  # what Dockerfiles in the wild have seen


class StepFailedError(DockerfileError):
    """A command of a RUN has failed.

    Attributes:
        status: 128 + N after signal N.
    """

    def __init__(
        self, instruction: Run, exit_code: int, last: Sequence[str], fix: str = ""
    ) -> None:
        shown = "".join(f"\n         {line}" for line in last)
        super().__init__(
            f"{instruction.text}",
            file=instruction.at.file,
            line=instruction.at.line,
            why=f"it ended with exit code {exit_code}{_meaning(exit_code)}"
            + (f"; its last output:{shown}" if shown else ", without any output"),
            fix=fix,
        )
        self.status = exit_code


class _Command(Struct, frozen=True, kw_only=True):
    """What is to be run, all decided."""

    instruction: Run
    started: RunInput
    env: Mapping[str, str]
    hidden_env: Mapping[str, str]  # proxies that no ARG declares: in no key and no history
    cwd: str
    user: str
    network: bool


def run_step(workshop: Workshop, stage: StageState, instruction: Run, banner: str) -> Step:
    """The step of a RUN whose variables have been replaced.

    Raises:
        DockerfileError: it asks for what a build cannot give.
    """
    _refuse(instruction)
    config = stage.config.config
    started = run_input(instruction.command, config.shell or DEFAULT_SHELL)
    command = _Command(
        instruction=instruction,
        started=started,
        env=stage.scope.variables,
        hidden_env=proxy_environment(workshop.request.args),
        cwd=config.working_dir or "/",
        user=config.user,
        network=workshop.has_network(instruction),
    )

    def make(top: Top, below: Sequence[StepLayer], report: StepReport) -> None:
        _run(workshop, stage, command, top, below, report)

    return Step(
        at=instruction.at,
        inputs=(
            lambda: _inputs(workshop, command, content=False),
            lambda: _inputs(workshop, command, content=True),
        )
        if any(mount.from_ for mount in instruction.mounts)
        else (lambda: _inputs(workshop, command, content=True),),
        created_by=run_created_by(started.argv, stage.scope.arg_values),
        banner=banner,
        make=make,
    )


def _refuse(instruction: Run) -> None:
    at = instruction.at
    if instruction.network is Network.HOST:
        raise DockerfileError(
            "RUN --network=host is not allowed",
            file=at.file,
            line=at.line,
            why="what a build runs stays in a network of its own",
            fix="leave it out: the default network reaches the outside",
        )
    if instruction.security is Security.INSECURE:
        raise DockerfileError(
            "RUN --security=insecure is not allowed",
            file=at.file,
            line=at.line,
            why="what a build runs is never root of this machine",
            fix="leave it out",
        )
    if instruction.devices:
        raise DockerfileError(
            "RUN --device is not supported",
            file=at.file,
            line=at.line,
            why="a build sees no devices of this machine",
        )


def _inputs(workshop: Workshop, command: _Command, *, content: bool) -> Inputs | None:
    """What the result depends on.

    Args:
        content: for mounts from stages: what they hold, which is known only when the stage is there; else its layers' names.
    """
    mounts = []
    for mount in command.instruction.mounts:
        described = _describe_mount(workshop, mount, content=content, command=command)
        if described is None:
            return None
        mounts.append(described)
    return {
        "run": list(command.started.argv),
        "script": command.started.script,
        "env": image_variables(command.env),
        "cwd": command.cwd,
        "user": command.user,
        "network": command.network,
        "mounts": mounts,
    }


def _describe_mount(
    workshop: Workshop, mount: Mount, *, content: bool, command: _Command
) -> dict[str, object] | None:
    """A mount in a key. A secret's value is not in it, and neither is what a cache holds."""
    described: dict[str, object] = {
        "type": str(mount.type),
        "target": mount.target,
        "source": mount.source,
        "id": mount.id,
        "env": mount.env,
        "read_only": mount.read_only,
        "mode": mount.mode,
        "owner": [mount.uid, mount.gid],
        "size": mount.size_bytes,
    }
    if mount.type is not MountType.BIND:
        return described
    if not mount.from_:
        described["content"] = digest_in_context(workshop, mount.source, command.instruction.at)
        return described
    stage = workshop.find_source(mount.from_)
    diff_ids = stage.diff_ids()
    if content:
        described["content"] = digest_in_stage(
            workshop, mount.from_, mount.source, command.instruction.at
        )
    elif diff_ids is not None:
        described["layers"] = [str(diff_id) for diff_id in diff_ids]
    else:
        return None
    return described


def _run(
    workshop: Workshop,
    stage: StageState,
    command: _Command,
    top: Top,
    below: Sequence[StepLayer],
    report: StepReport,
) -> None:
    from hakobune.dockerfile.run_mounts import give_mounts
    from hakobune.runtime.mount import RootFs
    from hakobune.runtime.resolver import make_hosts
    from hakobune.runtime.sandbox_plan import DOCKERFILE_POWERS, GivenFile

    room = workshop.rooms.of(stage.label, network=command.network)
    with ExitStack() as undo:
        given = give_mounts(
            workshop,
            command.instruction.mounts,
            top=top,
            slot=room.slot,
            cwd=command.cwd,
            at=command.instruction.at,
            undo=undo,
        )
        given.files.append(GivenFile(target="/etc/hosts", data=make_hosts(HOSTNAME, None).encode()))
        given.files.append(GivenFile(target="/etc/resolv.conf", data=room.resolv_conf.encode()))
        if command.started.script is not None:
            path, text = command.started.argv[-1], command.started.script
            given.files.append(GivenFile(target=path, data=text.encode(), mode=0o755))
        with workshop.layers.lowers(below) as lowers:
            user = _resolve_user(command, lowers)
            sandbox = room.sandbox(
                RootFs(lowers=lowers, top=top.folder),
                hostname=HOSTNAME,
                powers=DOCKERFILE_POWERS,
                mounts=given.mounts,
                files=given.files,
            )
        with sandbox:
            _execute(workshop, command, sandbox, user, given, report)


def _execute(
    workshop: Workshop,
    command: _Command,
    sandbox: Sandbox,
    user: ImageUser,
    given: Given,
    report: StepReport,
) -> None:
    workshop.running.add(sandbox)
    try:
        _make_cwd(sandbox, command.cwd, user)
        env = {
            "PATH": DEFAULT_PATH,
            **given.usual_env,
            **command.hidden_env,
            **command.env,
            **given.env,
        }
        env.setdefault("HOME", user.home)
        code = sandbox.run(
            command.started.argv or ("",),
            env=env,
            cwd=command.cwd,
            uid=user.uid,
            gid=user.gid,
            groups=user.groups,
            output=report.output,
        )
    except HakoError:
        workshop.check_cancelled()  # ended because another stage had failed
        raise
    finally:
        workshop.running.discard(sandbox)
        report.finish()
    if code:
        if workshop.cancelled.is_set():
            raise CancelledError
        last = tuple(report.last)
        fix = _hint(command, code, last, sandbox)
        if any(map(says_full, last)) and not has_room(workshop.store.home):
            fix = how_to_make_room(workshop.store.home)
        raise StepFailedError(command.instruction, code, last, fix)
    sandbox.kill_processes()
    sandbox.remove_stubs()


def _hint(command: _Command, code: int, last: Sequence[str], sandbox: Sandbox) -> str:
    from hakobune.dockerfile.run_hints import hint

    def read(path: str) -> bytes | None:
        try:
            return sandbox.read_file(path)
        except (HakoError, OSError):
            return b""  # it is there

    argv = command.started.argv
    return hint(command.instruction.command, argv, code, last, read, cwd=command.cwd)


def _make_cwd(sandbox: Sandbox, cwd: str, user: ImageUser) -> None:
    """A WORKDIR of the base image that the image does not have."""
    if sandbox.list_directory(cwd) is None:
        sandbox.make_directory(cwd, mode=0o755, uid=user.uid, gid=user.gid)


def _resolve_user(command: _Command, lowers: Sequence[Path]) -> ImageUser:
    from hakobune.oci.image_user import ImageUserError, resolve_user
    from hakobune.runtime.slot import RANGE_SIZE

    at = command.instruction.at
    try:
        user = resolve_user(command.user, lowers)
    except ImageUserError as error:
        raise DockerfileError.at(at, error) from error
    if max(user.uid, user.gid) >= RANGE_SIZE:
        raise DockerfileError(
            f"USER {command.user} cannot run anything in a build",
            file=at.file,
            line=at.line,
            why=f"a build has the ids from 0 to {RANGE_SIZE - 1}",
            fix="give the user a smaller number",
        )
    return user


def _meaning(code: int) -> str:
    """What people read out of some exit codes."""
    if code == 127:
        return " (the command was not found)"
    if code == 126:
        return " (the command cannot be executed)"
    if code == 137:
        return " (killed: out of memory?)"
    return f" (ended by signal {code - 128})" if code > 128 else ""
