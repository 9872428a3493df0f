"""`hako builder create|inspect`: builders from a builder.toml, and what one holds; flags mean what they mean to pack."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hakobune.cli.assignments import parse_pairs, parse_variables
from hakobune.cli.main import Context
from hakobune.cli.output import add_format, print_document
from hakobune.cli.pull_option import add_pull_policy, pull_policy
from hakobune.cli.table import print_table

if TYPE_CHECKING:  # what makes a builder takes longer to import than `--help` may
    from hakobune.builds.builder_bases import CreationRequest
    from hakobune.oci.digest import Digest
    from hakobune.oci.manifest import Image
    from hakobune.oci.platform import Platform
    from hakobune.oci.reference import Reference
    from hakobune.progress import Progress


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    _configure_create(verbs.add_parser("create", help="make a builder as a builder.toml says"))
    inspect = verbs.add_parser("inspect", help="what a builder holds, and in which order it tries")
    inspect.add_argument("image", metavar="IMAGE", nargs="?", help="default: hako's own builder")
    inspect.add_argument("--platform", metavar="OS/ARCH", help="which image of several")
    add_pull_policy(inspect)
    add_format(inspect)
    inspect.set_defaults(run=_inspect)


def _configure_create(create: argparse.ArgumentParser) -> None:
    create.add_argument("image", metavar="IMAGE", help="the name of the builder")
    create.add_argument(
        "-c", "--config", default="builder.toml", metavar="FILE", help="default: builder.toml"
    )
    create.add_argument(
        "-t", "--tag", action="append", default=[], metavar="NAME", help="another name for it"
    )
    create.add_argument(
        "--build-dockerfile", metavar="FILE",
        help="make the build image from it; [build] image is how it is called",
    )  # fmt: skip
    create.add_argument(
        "--run-dockerfile", metavar="FILE",
        help="make the first run image from it; [[run.images]] image is how it is called",
    )  # fmt: skip
    create.add_argument(
        "--build-target", default="", metavar="STAGE", help="the stage that is the build image"
    )
    create.add_argument(
        "--run-target", default="", metavar="STAGE", help="the stage that is the run image"
    )
    create.add_argument(
        "--build-arg", action="append", default=[], metavar="K[=V]",
        help="the value of an ARG of the Dockerfiles; K alone copies the caller's variable",
    )  # fmt: skip
    create.add_argument(
        "-l", "--label", action="append", default=[], metavar="K=V", help="add a label"
    )
    create.add_argument(
        "--platform", metavar="OS/ARCH[,…]",
        help="what the builder runs on (default: this machine); several make an index",
    )  # fmt: skip
    create.add_argument(
        "--network", choices=("default", "none"), default="default",
        help="what RUN of the Dockerfiles can reach",
    )  # fmt: skip
    add_pull_policy(create)
    create.add_argument(
        "--publish", action="store_true", help="push it to the registry in its name, too"
    )
    create.add_argument("-q", "--quiet", action="store_true", help="print the result alone")
    create.set_defaults(run=_create)


def _create(arguments: argparse.Namespace, context: Context) -> int:
    from hakobune.cli.platforms import parse_platforms
    from hakobune.cli.terminal import BannerProgress
    from hakobune.oci.reference import Reference

    names = tuple(map(Reference.parse, (arguments.image, *arguments.tag)))
    progress = BannerProgress(context.err, context.env, quiet=arguments.quiet)
    platforms = parse_platforms(arguments.platform)
    requests = [_request(arguments, context, names, platform) for platform in platforms]
    digest = _make(requests, context, progress)
    if arguments.publish:
        _publish(names, digest, context, progress)
    progress.finish("builder made")
    progress.note(f"use it with `hako build IMAGE --builder {names[0].short}`")
    print(names[0].with_digest(digest), file=context.out)
    return 0


def _request(
    arguments: argparse.Namespace,
    context: Context,
    names: tuple[Reference, ...],
    platform: Platform,
) -> CreationRequest:
    from hakobune.builds.builder_bases import CreationRequest

    files = {
        kind: Path(text) if (text := getattr(arguments, f"{kind}_dockerfile")) else None
        for kind in ("build", "run")
    }
    return CreationRequest(
        config=Path(arguments.config),
        names=names,
        platform=platform,
        build_dockerfile=files["build"],
        build_target=arguments.build_target,
        run_dockerfile=files["run"],
        run_target=arguments.run_target,
        args=parse_variables(arguments.build_arg, context.env, "--build-arg"),
        labels=parse_pairs(arguments.label, "--label"),
        pull=pull_policy(arguments),
        network=arguments.network != "none",
    )


def _make(requests: list[CreationRequest], context: Context, progress: Progress) -> Digest:
    """One builder a platform; of several, the index of them alone gets the names."""
    from msgspec.structs import replace

    from hakobune.builds.builder_creation import create_builder
    from hakobune.builds.request import World
    from hakobune.cli.platforms import publish_index
    from hakobune.oci.store import Store

    with Store(context.settings.home) as store:
        world = World(store=store, settings=context.settings, env=context.env)
        if len(requests) == 1:
            digest = create_builder(requests[0], world, progress).image.digest
        else:
            images = []
            for request in requests:
                progress.phase("Platform", str(request.platform))
                images.append(create_builder(replace(request, names=()), world, progress).image)
            digest = publish_index(store, images, requests[0].names)
        store.sync_later()
    return digest


def _publish(
    names: Sequence[Reference], digest: Digest, context: Context, progress: Progress
) -> None:
    from hakobune.distribution.transfer import push
    from hakobune.oci.store import Store

    with Store(context.settings.home) as store:
        for name in names:
            progress.phase("Publishing", name.short)
            push(store, digest, name, progress)


def _inspect(arguments: argparse.Namespace, context: Context) -> int:
    from hakobune.buildpack.builder_labels import read_builder_labels
    from hakobune.cli.builder_description import describe, order_lines, summary_lines

    name, image = _find(arguments, context)
    labels = read_builder_labels(image.config.labels, image=name)
    shown = describe(name, image, labels)
    if arguments.format != "table":
        print_document(shown, arguments.format, context.out)
        return 0
    for line in summary_lines(shown):
        print(line, file=context.out)
    print("\nBuildpacks:", file=context.out)
    rows = [(one["id"], one["version"], one["homepage"] or "-") for one in shown["buildpacks"]]
    print_table(("ID", "VERSION", "HOMEPAGE"), rows, context.out)
    print("\nDetection order:", file=context.out)
    for line in order_lines(labels):
        print(line, file=context.out)
    return 0


def _find(arguments: argparse.Namespace, context: Context) -> tuple[str, Image]:
    """The builder and how it is called; our own is made if it is not here yet."""
    from hakobune.builds.default_builder import ensure_default_builder
    from hakobune.builds.request import DEFAULT_BUILDER
    from hakobune.cli.platforms import parse_platforms
    from hakobune.cli.terminal import BannerProgress
    from hakobune.distribution.transfer import find_or_pull
    from hakobune.oci.reference import Reference
    from hakobune.oci.store import Store

    name = Reference.parse(arguments.image) if arguments.image else DEFAULT_BUILDER
    (platform,) = parse_platforms(arguments.platform)
    progress = BannerProgress(context.err, context.env)
    home = context.settings.home
    with Store(home, platform=platform) as store:
        if name == DEFAULT_BUILDER:
            return name.short, ensure_default_builder(
                store, home, progress, platform=platform
            ).image
        return name.short, find_or_pull(store, name, platform, progress, pull_policy(arguments))
