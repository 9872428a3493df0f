"""`hako auth configure-docker`: docker, podman and skopeo ask this installation who they are to its registry."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from hakobune.cli.docker_helper import is_ours
from hakobune.cli.main import Context
from hakobune.errors import HakoError, UsageError
from hakobune.settings import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "registries",
        nargs="?",
        default="",
        metavar="HOST,…",
        help="more names of the registry, us-docker.pkg.dev for example",
    )
    parser.add_argument(
        "--helper-directory",
        metavar="DIR",
        help="where the helper program goes (default: the first of ~/.local/bin and /usr/local/bin "
        "that is in PATH and can be written)",
    )
    parser.set_defaults(run=_run)


def choose_folder(path: str, home: str, *, writable: Iterable[str]) -> str | None:
    """The folder for a program of this user (pure).

    Args:
        path: PATH.
        writable: folders that can be written.
    """
    known = path.split(os.pathsep)
    usual = (f"{home}/.local/bin", "/usr/local/bin")
    return next((folder for folder in usual if folder in known and folder in writable), None)


def helper_script(python: str, *, variables: Mapping[str, str]) -> str:
    """The program that docker runs: a shell script that knows its installation by *variables*."""
    command = shlex.join(
        [python, "-I", "-X", "utf8", "-c", "from hakobune.cli.main import run; run()"]
    )
    given = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
    return (
        "#!/bin/sh\n"
        "# docker's credential helper for one hakobune installation, written by `hako auth configure-docker`\n"
        f"{given} \\\n"
        f'exec {command} auth docker-helper "$@"\n'
    )


def variables_of(settings: Settings) -> dict[str, str]:
    """The variables by which another process finds the same installation."""
    listen = settings.registry_listen
    return {
        "HAKO_HOME": str(settings.home),
        "HAKO_LISTEN": f"{settings.host}:{settings.port}",
        "HAKO_REGISTRY_LISTEN": "off" if listen is None else f"{listen[0]}:{listen[1]}",
    }


def _run(arguments: argparse.Namespace, context: Context) -> int:
    from hakobune.distribution.credentials import docker_config
    from hakobune.distribution.login import name_helper
    from hakobune.distribution.own_registry import OwnRegistry
    from hakobune.support.files import write_atomically

    settings = context.settings
    named = [host.strip() for host in arguments.registries.split(",") if host.strip()]
    own = OwnRegistry.of(settings)
    for host in named:
        if not is_ours(context, host):
            raise UsageError(
                f"{host!r} is not this installation's registry",
                why=f"it is {', '.join(sorted(own.hosts))}, or LOCATION-docker.pkg.dev",
                fix=f"hako auth login {host}",
            )
    folder = arguments.helper_directory or _folder(context)
    helper = Path(folder) / f"docker-credential-{settings.installation}"
    script = helper_script(sys.executable, variables=variables_of(settings))
    write_atomically(helper, script.encode(), mode=0o755)
    config = docker_config(context.env)
    hosts = [*sorted(own.hosts), *named]
    name_helper(config, hosts, settings.installation)
    print(f"docker's {config} names {helper.name} for", file=context.err)
    print("\n".join(hosts), file=context.out)
    if str(folder) not in context.env.get("PATH", "").split(os.pathsep):
        print(f"note: put {folder} into PATH: {helper} lies there", file=context.err)
    return 0


def _folder(context: Context) -> str:
    home, path = context.env.get("HOME", "/"), context.env.get("PATH", "")
    usual = (f"{home}/.local/bin", "/usr/local/bin")
    writable = [folder for folder in usual if os.access(folder, os.W_OK)]
    found = choose_folder(path, home, writable=writable)
    if found is None:
        raise HakoError(
            "there is no place for docker's helper program",
            why="neither ~/.local/bin nor /usr/local/bin is in PATH and can be written",
            fix=f"mkdir -p {home}/.local/bin, put it into PATH, or --helper-directory=DIR",
        )
    return found
