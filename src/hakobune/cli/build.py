"""`hako build IMAGE`: a folder to an image with buildpacks; flags mean what they mean to pack."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hakobune.cli.main import Context
from hakobune.cli.pull_option import add_pull_policy, pull_policy
from hakobune.cli.terminal import BannerProgress, human_size
from hakobune.errors import HakoError, UsageError
from hakobune.progress import Progress

if TYPE_CHECKING:  # the build's imports take longer than `hako build --help` may
    from hakobune.builds.request import BuildResult
    from hakobune.oci.digest import Digest
    from hakobune.oci.platform import Platform


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
    add_build_arguments(parser)
    parser.add_argument(
        "-e", "--env", dest="build_env", action="append", metavar="K[=V]",
        help="a variable for buildpacks, not for the image; K alone copies the caller's value",
    )  # fmt: skip
    parser.add_argument(
        "--env-file", dest="build_env_file", action="append", metavar="FILE",
        help="a file of such variables, one a line; --env goes before it",
    )  # fmt: skip
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


def add_build_arguments(group: argparse._ActionsContainer) -> None:
    """The arguments that `hako build` and `hako deploy` share."""
    group.add_argument(
        "-B", "--builder", default="", metavar="IMAGE", help="default: project.toml's, else ours"
    )
    group.add_argument(
        "-b", "--buildpack", action="append", default=[], metavar="ID|DIR",
        help="use these instead of the builder's order: an id (with @version) or a folder",
    )  # fmt: skip
    group.add_argument(
        "--platform",
        metavar="OS/ARCH[,…]",
        help="what the image is for (default: this machine); another CPU's buildpacks run where it is emulated; several make an index",
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


def describe_source(folder: Path) -> str:
    """One phrase: `~/src/shop, 41 files, 212 KB (.gitignore leaves out 3)`.

    Raises:
        HakoError: there is no such folder, or it cannot be read.
    """
    from hakobune.builds.source import open_source
    from hakobune.builds.source_listing import list_source

    source = open_source(folder)
    listing = list_source(source)
    size = human_size(sum(status.st_size for _, status in listing.files))
    count = count_of(len(listing.files), "file")
    left_out = len(listing.left_out)
    note = f" ({source.rules.origin} leaves out {left_out})" if left_out else ""
    return f"{with_tilde(source.root)}, {count}, {size}{note}"


def describe_build(result: BuildResult) -> Iterator[tuple[str, str]]:
    """Lines about a finished build: `detect`, `build`, `image`, each with its text."""
    if result.reused:
        yield "build", "nothing that goes in has changed: the image is the last build's"
    else:
        names = " · ".join(element.id.rpartition("/")[2] for element in result.group)
        yield "detect", " · ".join([names, *result.told[:2]])
        yield "build", _what_was_built(result)
    size = human_size(sum(layer.size for layer in result.image.manifest.layers))
    name = result.reference.partition("@")[0].removeprefix("docker.io/").removesuffix(":latest")
    yield "image", f"{name}@{str(result.digest)[:15]} · {size}{_new_layers(result)}"


def _what_was_built(result: BuildResult) -> str:
    kept = [fate for fate in result.fates if fate.fate in ("keep", "reuse")]
    parts = []
    changed = [path for path in result.changed if path]  # the folder itself has no name
    if kept and changed:
        more = f" and {len(changed) - 2} more" if len(changed) > 2 else ""
        parts.append(f"{', '.join(changed[:2])}{more} changed")
    if kept:
        parts.append(f"{len(kept)} of {len(result.fates)} layers kept")
    else:
        parts.append(f"{len(result.fates)} layers made")
    return " · ".join(parts)


def _new_layers(result: BuildResult) -> str:
    if result.reused or not result.new_layers:
        return ""
    return f" · {result.new_layers} new layer{'s' if result.new_layers != 1 else ''}"


def _run(arguments: argparse.Namespace, context: Context) -> int:
    if arguments.list_source:
        return _list_source(arguments, context)
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


def _list_source(arguments: argparse.Namespace, context: Context) -> int:
    from hakobune.builds.source import open_source
    from hakobune.builds.source_listing import list_source

    descriptor = Path(arguments.descriptor) if arguments.descriptor else None
    source = open_source(Path(arguments.path), descriptor)
    listing = list_source(source)
    for path, status in listing.entries:
        if status.st_mode & 0o170000 != 0o040000:
            print(path, file=context.out)
    print(f"{len(listing.left_out)} left out by {source.rules.origin}", file=context.err)
    for note in listing.notes:
        print(f"Warning: {note}", file=context.err)
    return 0


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


def _variables(arguments: argparse.Namespace, context: Context) -> dict[str, str]:
    from hakobune.builds.request import parse_env_file, parse_variable

    variables: dict[str, str] = {}
    for name in arguments.build_env_file or ():
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"cannot read {name}", why=str(error), fix="check --env-file"
            ) from error
        variables |= parse_env_file(text, context.env, name=name)
    for text in arguments.build_env or ():
        if pair := parse_variable(text, context.env):
            variables[pair[0]] = pair[1]
    return variables


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


def count_of(number: int, noun: str) -> str:
    """`1 file`, `12 files`."""
    return f"{number} {noun}{'s' if number != 1 else ''}"


def list_paths(folder: Path) -> tuple[str, ...]:
    """The files that a build of *folder* would take, relative to it."""
    from hakobune.builds.source import open_source
    from hakobune.builds.source_listing import list_source

    return tuple(path for path, _ in list_source(open_source(folder)).files)


def read_sources(folder: Path) -> dict[str, str]:
    """The text of the source files in which a server may be started, by path; not more than a few hundred."""
    paths = [p for p in list_paths(folder) if p.endswith((".py", ".js", ".mjs", ".cjs", ".ts"))]
    texts = {}
    for path in paths[:300]:
        try:
            with open(folder / path, encoding="utf-8", errors="replace") as file:
                texts[path] = file.read(256 << 10)
        except OSError:
            continue
    return texts


def with_tilde(path: Path) -> str:
    """A path as people write it: `~/src/shop`."""
    home = Path.home()
    return (
        f"~/{path.relative_to(home)}" if path != home and path.is_relative_to(home) else str(path)
    )
