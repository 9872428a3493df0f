"""`hako build IMAGE`: a folder to an image with buildpacks; flags mean what they mean to pack."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hakobune.cli.build_options import add_build_arguments, build_from_arguments
from hakobune.cli.main import Context
from hakobune.cli.source_folder import print_source
from hakobune.cli.terminal import BannerProgress
from hakobune.errors import HakoError, UsageError
from hakobune.progress import Progress

if TYPE_CHECKING:  # the build's imports take longer than `hako build --help` may
    from hakobune.oci.digest import Digest


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", nargs="?", help="the name of the image")
    parser.add_argument(
        "-p", "--path", default=".", metavar="DIR", help="the app's folder (default: .)"
    )
    parser.add_argument(
        "-t",
        "--tag",
        action="append",
        default=[],
        metavar="NAME",
        help="another name for the image",
    )
    add_build_arguments(parser, several=True)
    parser.add_argument(
        "-e", "--env", dest="build_env", action="append", metavar="K[=V]",
        help="a variable for buildpacks, not for the image; K alone copies the caller's value",
    )  # fmt: skip
    parser.add_argument(
        "--env-file", dest="build_env_file", action="append", metavar="FILE",
        help="a file of such variables, one a line; --env goes before it",
    )  # fmt: skip
    parser.set_defaults(env_option="--env")
    parser.add_argument(
        "--creation-time",
        metavar="SECONDS",
        help="the image's time, in seconds since 1970 or `now`",
    )
    parser.add_argument(
        "--publish", action="store_true", help="push the image to the registry in its name, too"
    )
    parser.add_argument(
        "--report-output-dir", metavar="DIR", help="write report.toml into this folder, too"
    )
    parser.add_argument(
        "--list-source", action="store_true", help="print what would be built from, build nothing"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print the result alone")
    parser.add_argument("-v", "--verbose", action="store_true", help="say how long each phase took")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace, context: Context) -> int:
    if arguments.list_source:
        descriptor = Path(arguments.descriptor) if arguments.descriptor else None
        print_source(Path(arguments.path), descriptor, context)
        return 0
    if not arguments.image:
        raise UsageError(
            "hako build needs the image's name", fix="hako build IMAGE, as in: hako build web"
        )
    progress = BannerProgress(
        context.err, context.env, quiet=arguments.quiet, verbose=arguments.verbose
    )
    if arguments.platform and "," in arguments.platform:
        return _build_several(arguments, context, progress)
    with _output_shown_on_failure(progress, context, quiet=arguments.quiet):
        result = build_from_arguments(
            arguments, context, path=Path(arguments.path), image=arguments.image, progress=progress
        )
    if arguments.report_output_dir:
        _copy_report(arguments, context)
    if arguments.publish:
        _publish(arguments, context, result.digest, progress)
    progress.finish("nothing to build" if result.reused else "built")
    print(result.reference, file=context.out)
    return 0


def _build_several(
    arguments: argparse.Namespace, context: Context, progress: BannerProgress
) -> int:
    """One image a platform, and the index of them, which gets the names when all are built."""
    from hakobune.cli.platforms import name_for, parse_platforms, publish_index
    from hakobune.oci.reference import Reference
    from hakobune.oci.store import Store

    if arguments.report_output_dir:
        raise UsageError(
            "--report-output-dir does not go with several platforms",
            why="each has a report of its own",
            fix=f"--platform {arguments.platform.partition(',')[0]}",
        )
    names = tuple(map(Reference.parse, (arguments.image, *arguments.tag)))
    alone = argparse.Namespace(**{**vars(arguments), "tag": []})
    results = []
    parts = []
    for platform in parse_platforms(arguments.platform):
        progress.phase("PLATFORM", str(platform))
        part = name_for(names[0], platform)
        with _output_shown_on_failure(progress, context, quiet=arguments.quiet):
            result = build_from_arguments(
                alone,
                context,
                path=Path(arguments.path),
                image=str(part),
                progress=progress,
                platform=platform,
            )
        results.append(result)
        parts.append(part)
    with Store(context.settings.home) as store:
        digest = publish_index(store, [result.image for result in results], names)
        for part in parts:
            store.untag(part)
    if arguments.publish:
        _publish(arguments, context, digest, progress)
    progress.finish("nothing to build" if all(r.reused for r in results) else "built")
    print(names[0].with_digest(digest), file=context.out)
    return 0


def _publish(
    arguments: argparse.Namespace, context: Context, digest: Digest, progress: Progress
) -> None:
    """Push the image or index under each of its names.

    Raises:
        HakoError: a registry does not take it; the image is built and here.
    """
    from hakobune.distribution.transfer import push
    from hakobune.oci.reference import Reference
    from hakobune.oci.store import Store

    with Store(context.settings.home) as store:
        for text in (arguments.image, *arguments.tag):
            name = Reference.parse(text)
            progress.phase("PUBLISHING", name.short)
            push(store, digest, name, progress)


@contextmanager
def _output_shown_on_failure(
    progress: BannerProgress, context: Context, *, quiet: bool
) -> Iterator[None]:
    """With `--quiet` what buildpacks printed is shown if the build fails."""
    try:
        yield
    except HakoError:
        if quiet:
            for line in progress.kept_output():
                print(line, file=context.err)
        raise


def _copy_report(arguments: argparse.Namespace, context: Context) -> None:
    from hakobune.builds.record import BuildFolder
    from hakobune.builds.request import folder_name
    from hakobune.cli.platforms import parse_platforms
    from hakobune.oci.reference import Reference

    (platform,) = parse_platforms(arguments.platform)
    name = folder_name(Reference.parse(arguments.image), platform)
    report = BuildFolder(context.settings.home / "builds" / name).path / "report.toml"
    target = Path(arguments.report_output_dir)
    try:
        target.mkdir(parents=True, exist_ok=True)
        (target / "report.toml").write_bytes(report.read_bytes())
    except OSError as error:
        raise HakoError(
            f"cannot write the report into {target}", why=error.strerror or str(error)
        ) from error
