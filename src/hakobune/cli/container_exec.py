"""`hako container exec`: another program in a running container."""

from __future__ import annotations

import argparse
import resource
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from hakobune.cli.container_process import environment, exit_code_of
from hakobune.cli.main import Context
from hakobune.errors import HakoError, UsageError
from hakobune.runtime.bundle import make_process
from hakobune.runtime.container import User
from hakobune.runtime.detach_keys import parse_detach_keys
from hakobune.runtime.exec_target import Target, find_target
from hakobune.runtime.execute import execute
from hakobune.runtime.supervisor_client import SupervisorClient


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Exit codes are docker's: the program's own, or 125 to 127 if it could not be started."""
    try:
        return _run(arguments, context)
    except UsageError:
        raise
    except HakoError as error:
        print(f"error: {error}", file=context.err)
        return exit_code_of(error)


def _run(arguments: argparse.Namespace, context: Context) -> int:
    command = list(arguments.command)
    if command[:1] == ["--"]:
        command = command[1:]
    if not command:
        raise UsageError(
            "no program to run", fix=f"hako container exec {arguments.container} COMMAND …"
        )
    if arguments.detach and (arguments.interactive or arguments.tty):
        raise UsageError(
            "-d does not go with -i or -t",
            why="nobody is there to type",
            fix="leave -i and -t away, or -d",
        )
    keys = parse_detach_keys(arguments.detach_keys)
    target = find_target(context.settings, arguments.container)
    process = _process(arguments, target, tuple(command), context)
    if arguments.detach:
        return _run_detached(target, process, context)
    for stream in (context.out, context.err):
        stream.flush()
    code = execute(
        target,
        context.settings.installation,
        process,
        stdin=sys.stdin.fileno() if arguments.interactive else None,
        stdout=context.out.fileno(),
        stderr=context.err.fileno(),
        keys=keys,
    )
    if code is None:
        print(f"left running in {target.spec.id}: {command[0]}", file=context.err)
    return code or 0


def _process(
    arguments: argparse.Namespace, target: Target, command: tuple[str, ...], context: Context
) -> dict[str, Any]:
    """The runtime-spec's `process`: as the container's first one, but for what is asked for."""
    env = [f"{name}={value}" for name, value in target.spec.env.items()]
    spec = replace(target.spec, argv=command, cwd=arguments.workdir or target.spec.cwd)
    if arguments.user is not None:
        from hakobune.oci.image_user import resolve_user

        # In the container as it is now: users may have been added since it was made.
        user = resolve_user(arguments.user, [Path(f"/proc/{target.pid}/root")])
        spec = replace(spec, user=User(user.uid, user.gid, user.groups))
        env.append(f"HOME={user.home}")
    if arguments.tty:
        env.append("TERM=xterm")
    spec = replace(spec, env=environment(arguments.env, env, context.env))
    spec.check()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return make_process(spec, hard, terminal=arguments.tty)


def _run_detached(target: Target, process: dict[str, Any], context: Context) -> int:
    if target.init is not None:
        raise HakoError(
            f"cannot leave a program behind in {target.spec.id!r}",
            why="a command runs this container; there is nobody else to look after the program",
            fix="leave -d away, or run the container with -d",
        )
    with SupervisorClient(context.settings.supervisor_socket) as client:
        client.execute(target.spec.id, process)
    return 0
