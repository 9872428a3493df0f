"""`hako deploy --dockerfile [FILE]`: the image is what a Dockerfile says, not what buildpacks make."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from hakobune.cli.build_input_options import add_build_inputs
from hakobune.cli.main import Context
from hakobune.cli.terminal import human_size
from hakobune.errors import UsageError

if TYPE_CHECKING:
    from hakobune.cli.deploy_lines import DeployLines


def add_deploy_dockerfile(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments; `settle_target` must see them before the target is read."""
    group = parser.add_argument_group("how it is built with a Dockerfile")
    group.add_argument(
        "--dockerfile", nargs="?", const="", metavar="FILE",
        help="build as this file says instead of with buildpacks (default: the folder's Dockerfile)",
    )  # fmt: skip
    group.add_argument(
        "--target", dest="stage", default="", metavar="STAGE", help="the stage to build"
    )
    add_build_inputs(group)


def settle_target(arguments: argparse.Namespace) -> None:
    """`hako deploy --dockerfile DIR` means the folder: argparse takes it for the file.

    Raises:
        UsageError: arguments that need `--dockerfile`, or rule it out.
    """
    if arguments.dockerfile is None:
        for name in ("stage", "build_arg", "secret", "ssh", "build_context"):
            if getattr(arguments, name):
                option = "--target" if name == "stage" else f"--{name.replace('_', '-')}"
                raise UsageError(
                    f"{option} is for Dockerfiles", fix=f"hako deploy --dockerfile {option} …"
                )
        return
    if arguments.image:
        raise UsageError(
            "--image and --dockerfile rule each other out", why="an image is built already"
        )
    if arguments.target is None and os.path.isdir(arguments.dockerfile):
        arguments.target, arguments.dockerfile = arguments.dockerfile, ""


def build_with_dockerfile(
    arguments: argparse.Namespace,
    context: Context,
    *,
    folder: Path,
    image: str,
    policy: str,
    lines: DeployLines,
) -> str:
    """Build *folder* as *image*; gives it by digest.

    Raises:
        DockerfileError: with the line that is meant.
    """
    from hakobune.cli.dockerfile import build_from_request, open_request
    from hakobune.cli.step_progress import what_was_made

    lines.phase("BUILDING")
    steps = _Steps(lines)
    with open_request(
        argparse.Namespace(
            target=arguments.stage,
            platform=arguments.platform or "",
            build_arg=arguments.build_arg,
            secret=arguments.secret,
            ssh=arguments.ssh,
            build_context=arguments.build_context,
            label=[],
            no_cache=arguments.clear_cache or arguments.rebuild,
            base_pull=policy,
            run_network=arguments.network,
            timestamp=None,
        ),
        context,
        where=str(folder.absolute()),
        file=arguments.dockerfile or None,
        names=(image,),
        tell=steps.step,
    ) as request:
        built = build_from_request(request, context, steps)
    made = what_was_made(built.made)
    kept = f" · {steps.cached} of {steps.steps} steps from the cache" if steps.steps else ""
    lines.row("build", f"{request.dockerfile.name} · {made}{kept}", seconds=lines.spent("BUILDING"))
    size = human_size(sum(layer.size for layer in built.image.manifest.layers))
    lines.row("image", f"{image}@{str(built.image.digest)[:15]} · {size}")
    return f"{image}@{built.image.digest}"


class _Steps:
    """Passes a build's progress on as a deploy shows it, and counts."""

    def __init__(self, lines: DeployLines) -> None:
        self.steps = self.cached = 0
        self.bytes = lines.bytes
        self.note = lines.note
        self.output = lines.output
        self._lines = lines

    def phase(self, name: str, detail: str = "") -> None:
        self.steps += 1
        self._lines.output(f"{name} {detail}".rstrip())

    def step(self, text: str) -> None:
        self.cached += text.endswith(" CACHED")
        self._lines.output(text)
