"""`hako dockerfile build`: a folder, a repository or an archive with a Dockerfile to an image; flags mean what they mean to docker."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from hakobune.cli.assignments import parse_pairs, parse_variables
from hakobune.cli.build_input_options import add_build_inputs
from hakobune.cli.dockerfile_inputs import read_agents, read_contexts, read_secrets
from hakobune.cli.main import Context
from hakobune.errors import HakoError, UsageError

if TYPE_CHECKING:  # the build's imports take longer than `--help` may
    from hakobune.dockerfile.build import Built
    from hakobune.dockerfile.request import DockerfileRequest
    from hakobune.oci.platform import Platform
    from hakobune.oci.store import Store
    from hakobune.progress import Progress


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    build = verbs.add_parser("build", help="build an image as a Dockerfile says")
    build.add_argument(
        "context", metavar="DIR|URL|-",
        help="the folder that COPY and ADD read; a git repository (URL.git#REF:FOLDER), the URL of a tar archive or of a"
        " Dockerfile; - is a tar archive or a Dockerfile on stdin",
    )  # fmt: skip
    build.add_argument(
        "-t", "--tag", action="append", default=[], metavar="IMAGE", help="a name for the image"
    )
    build.add_argument(
        "-f",
        "--file",
        metavar="FILE",
        help="the Dockerfile (default: DIR/Dockerfile; - is stdin, and it may be a URL); relative to the context if that comes from elsewhere",
    )
    add_dockerfile_arguments(build)
    build.add_argument(
        "--progress",
        choices=("auto", "plain", "tty", "json"),
        default="auto",
        help="how the build is shown on stderr; json is one event a line",
    )
    build.add_argument("-q", "--quiet", action="store_true", help="print the result alone")
    build.add_argument("--iidfile", metavar="FILE", help="write the image's digest into this file")
    build.add_argument(
        "--check", action="store_true",
        help="build nothing: print what is worth saying about the Dockerfile; exit code 1 if there is something",
    )  # fmt: skip
    build.add_argument(
        "--format", choices=("text", "json"), default="text", help="how --check prints (default: text)"
    )  # fmt: skip
    build.set_defaults(run=_build)


def add_dockerfile_arguments(group: argparse._ActionsContainer) -> None:
    """What shall be built, and from what; `request_from_arguments` reads it."""
    group.add_argument("--target", default="", metavar="STAGE", help="the stage to build")
    group.add_argument(
        "--platform", default="", metavar="OS/ARCH[,…]",
        help="what the image is for (default: this machine); several make an index of images",
    )  # fmt: skip
    add_build_inputs(group)
    group.add_argument("--label", action="append", default=[], metavar="K=V", help="add a label")
    group.add_argument("--no-cache", action="store_true", help="carry out every step")
    pull = (
        group.add_mutually_exclusive_group()
        if isinstance(group, argparse.ArgumentParser)
        else group
    )
    pull.add_argument(
        "--pull", dest="base_pull", action="store_const", const="always", default="missing",
        help="ask the registries for newer base images",
    )  # fmt: skip
    pull.add_argument(
        "--no-pull", dest="base_pull", action="store_const", const="never",
        help="take base images that are here, or fail",
    )  # fmt: skip
    group.add_argument(
        "--network", dest="run_network", choices=("default", "none"), default="default",
        help="what RUN can reach",
    )  # fmt: skip
    group.add_argument(
        "--timestamp", metavar="SECONDS",
        help="the time of the image and of what its layers add, in seconds since 1970: the same input gives the same bytes",
    )  # fmt: skip


@contextmanager
def open_request(
    arguments: argparse.Namespace,
    context: Context,
    *,
    where: str,
    file: str | None,
    names: Iterable[str],
    tell: Callable[[str], None],
    several: bool = False,
) -> Iterator[DockerfileRequest]:
    """What the arguments of `add_dockerfile_arguments` ask for; what had to be fetched is there while the block lasts.

    Args:
        where: the build context: a folder, a git repository, a URL, `-` for stdin.
        file: the Dockerfile, `-` for stdin, `None` for the context's own.
        tell: what is fetched.
        several: `--platform` may name more than one; the request is for the first.

    Raises:
        UsageError: an argument cannot be understood.
        HakoError: the context cannot be had.
    """
    from hakobune.cli.platforms import parse_platforms
    from hakobune.dockerfile.build_context import open_build_context
    from hakobune.dockerfile.git_access import git_environment
    from hakobune.dockerfile.request import DockerfileRequest
    from hakobune.oci.reference import Reference

    platform, *others = parse_platforms(arguments.platform)
    if others and not several:
        raise UsageError(
            f"--platform {arguments.platform}: one image is needed here",
            fix=f"--platform {platform}",
        )
    args = parse_variables(arguments.build_arg, context.env, "--build-arg")
    secrets = read_secrets(arguments.secret, context.env)
    agents = read_agents(arguments.ssh, context.env)
    request = DockerfileRequest(
        context=Path(),
        dockerfile=Path(),
        target=arguments.target,
        args=args,
        secrets=secrets,
        contexts=read_contexts(arguments.build_context),
        ssh=agents,
        platform=platform,
        names=tuple(map(Reference.parse, names)),
        no_cache=arguments.no_cache,
        pull=arguments.base_pull,
        network=arguments.run_network,
        labels=parse_pairs(arguments.label, "--label"),
        epoch=_timestamp(arguments.timestamp),
    )
    home = context.settings.home
    with (
        git_environment(context.env, agents.get("default"), secrets) as env,
        open_build_context(
            where, file, home=home, stdin=_stdin(), env=env, args=args, tell=tell
        ) as place,
    ):
        yield replace(
            request,
            context=place.folder,
            dockerfile=place.dockerfile,
            text=place.text,
            ignore=place.ignore,
            env=env,
        )


def build_from_request(request: DockerfileRequest, context: Context, progress: Progress) -> Built:
    """Build it in this process."""
    from hakobune.dockerfile.build import build
    from hakobune.oci.store import Store

    with Store(context.settings.home) as store:
        _have_our_images(request, store, context, progress)
        return build(request, store, context.settings, progress)


def _have_our_images(
    request: DockerfileRequest, store: Store, context: Context, progress: Progress
) -> None:
    """Make those of hako's own images that the file mentions; no registry has them."""
    text = request.text
    if text is None:
        if not request.dockerfile.is_file():
            return  # told when it is read
        text = request.dockerfile.read_text(errors="replace")
    if "hako/b" in text:
        from hakobune.builds.own_images import ensure_mentioned_images

        ensure_mentioned_images(text, store, context.settings.home, progress, request.platform)


def _build(arguments: argparse.Namespace, context: Context) -> int:
    from hakobune.cli.platforms import parse_platforms
    from hakobune.cli.step_progress import choose_progress

    progress = choose_progress(arguments.progress, context.err, context.env, quiet=arguments.quiet)
    platforms = parse_platforms(arguments.platform)
    with open_request(
        arguments,
        context,
        where=arguments.context,
        file=arguments.file,
        names=arguments.tag,
        tell=progress.step,
        several=True,
    ) as request:
        if arguments.check:
            from hakobune.cli.dockerfile_check import check_request

            return check_request(request, arguments.format, context)
        if len(platforms) == 1:
            built = build_from_request(request, context, progress)
            made, digest = built.made, str(built.image.digest)
        else:
            made, digest = _build_several(request, platforms, context, progress)
    progress.finish(made)
    if arguments.iidfile:
        try:
            Path(arguments.iidfile).write_text(digest)
        except OSError as error:
            raise HakoError(
                f"cannot write {arguments.iidfile}",
                why=error.strerror or str(error),
                fix="--iidfile FILE, in a folder that is there; the image is built",
            ) from error
    name = f"{request.names[0].short}@" if request.names else ""
    print(f"{name}{digest}", file=context.out)
    return 0


def _build_several(
    request: DockerfileRequest,
    platforms: Sequence[Platform],
    context: Context,
    progress: Progress,
) -> tuple[int, str]:
    """One image a platform, and the index of them, which alone gets the names; how many layers were made, its digest."""
    from hakobune.cli.platforms import publish_index
    from hakobune.dockerfile.build import build
    from hakobune.oci.store import Store

    with Store(context.settings.home) as store:
        built = []
        for platform in platforms:
            progress.phase(str(platform))
            one = replace(request, platform=platform, names=())
            _have_our_images(one, store, context, progress)
            built.append(build(one, store, context.settings, progress))
        index = publish_index(store, [one.image for one in built], request.names)
        store.sync_later()
    return sum(one.made for one in built), str(index)


def _timestamp(text: str | None) -> int | None:
    from hakobune.dockerfile.request import parse_epoch

    return None if text is None else parse_epoch(text, "--timestamp ")


def _stdin() -> BinaryIO:
    """Also where it was closed."""
    return sys.stdin.buffer if sys.stdin is not None else io.BytesIO()
