"""The arguments that `hako build` and `hako deploy` share, and the build that they ask for."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hakobune.cli.assignments import BUILDPACK_NAME, parse_variables, read_env_file
from hakobune.cli.main import Context
from hakobune.cli.pull_option import add_pull_policy, pull_policy
from hakobune.errors import UsageError
from hakobune.progress import Progress

if TYPE_CHECKING:  # the build's imports take longer than `hako build --help` may
    from hakobune.builds.request import BuildResult
    from hakobune.oci.platform import Platform


def add_build_arguments(group: argparse._ActionsContainer, *, several: bool) -> None:
    """Declare them; `build_from_arguments` reads them.

    Args:
        several: `--platform` may name several.
    """
    group.add_argument(
        "-B", "--builder", default="", metavar="IMAGE", help="default: project.toml's, else ours"
    )
    group.add_argument(
        "-b", "--buildpack", action="append", default=[], metavar="ID|DIR",
        help="use these instead of the builder's order: an id (with @version) or a folder",
    )  # fmt: skip
    group.add_argument(
        "--platform",
        metavar="OS/ARCH[,…]" if several else "OS/ARCH",
        help="what the image is for (default: this machine); another CPU's programs run where it is emulated"
        + "; several make an index" * several,
    )
    group.add_argument("--run-image", default="", metavar="IMAGE", help="default: the builder's")
    group.add_argument(
        "-D", "--default-process", "--process-type", dest="process_type", default="", metavar="TYPE",
        help="the process that the image starts by default",
    )  # fmt: skip
    group.add_argument(
        "--build-env",
        action="append",
        default=[],
        metavar="K[=V]",
        help="a variable for buildpacks",
    )
    group.add_argument(
        "--build-env-file",
        action="append",
        default=[],
        metavar="FILE",
        help="a file of such variables",
    )
    group.add_argument(
        "-d", "--descriptor", metavar="FILE", help="default: project.toml in the app's folder"
    )
    group.add_argument(
        "--network",
        choices=("default", "none"),
        default="default",
        help="what buildpacks can reach",
    )
    add_pull_policy(group)
    group.add_argument(
        "--no-extend",
        dest="extend",
        action="store_false",
        help="leave the folder's run.Dockerfile and build.Dockerfile alone",
    )
    group.add_argument(
        "--allow-root",
        action="store_true",
        help="a run.Dockerfile may leave root as the app's user",
    )
    group.add_argument("--clear-cache", action="store_true", help="forget what the last build kept")
    group.add_argument(
        "--rebuild", action="store_true", help="build although nothing that goes in has changed"
    )


def build_from_arguments(
    arguments: argparse.Namespace,
    context: Context,
    *,
    path: Path,
    image: str,
    progress: Progress,
    platform: Platform | None = None,
) -> BuildResult:
    """Build *path* as *image*, as the arguments of `add_build_arguments` say.

    Args:
        platform: which of those that `--platform` names; by default the only one.

    Raises:
        UsageError: it names several.
        HakoError: with the exit code of the phase that failed.
    """
    from hakobune.builds.build import build
    from hakobune.builds.request import BuildRequest, World
    from hakobune.cli.platforms import parse_platforms
    from hakobune.oci.reference import Reference
    from hakobune.oci.store import Store

    if platform is None:
        platform, *others = parse_platforms(arguments.platform)
        if others:
            raise UsageError(
                f"--platform {arguments.platform}: one image is needed here",
                fix=f"--platform {platform}",
            )
    request = BuildRequest(
        source=path,
        name=Reference.parse(image),
        tags=tuple(map(Reference.parse, getattr(arguments, "tag", ()))),
        builder=arguments.builder,
        run_image=arguments.run_image,
        buildpacks=_split(arguments.buildpack),
        env=_variables(arguments, context),
        process_type=arguments.process_type,
        descriptor=Path(arguments.descriptor) if arguments.descriptor else None,
        network=arguments.network != "none",
        clear_cache=arguments.clear_cache,
        rebuild=arguments.rebuild,
        created=_creation_time(getattr(arguments, "creation_time", None)),
        pull=pull_policy(arguments),
        extend=arguments.extend,
        allow_root=arguments.allow_root,
        platform=platform,
    )
    with Store(context.settings.home, platform=platform) as store:
        world = World(store=store, settings=context.settings, env=context.env)
        return build(request, world, progress)


def _variables(arguments: argparse.Namespace, context: Context) -> dict[str, str]:
    """Of files first: what is on the command line goes before it."""
    option = getattr(arguments, "env_option", "--build-env")
    variables: dict[str, str] = {}
    for path in arguments.build_env_file or ():
        variables |= read_env_file(path, context.env, f"{option}-file", name=BUILDPACK_NAME)
    return variables | parse_variables(
        arguments.build_env or (), context.env, option, name=BUILDPACK_NAME
    )


def _creation_time(text: str | None) -> int | None:
    if text is None:
        return None
    if text == "now":
        return int(time.time())
    if not text.isdecimal():
        raise UsageError(
            f"{text!r} is no time", why="--creation-time takes seconds since 1970, or `now`"
        )
    return int(text)


def _split(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(part for value in values for part in value.split(",") if part)
