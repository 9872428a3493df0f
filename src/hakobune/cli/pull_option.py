"""`--pull` and `--platform` of commands that need an image: from here, or from its registry."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from hakobune.cli.main import Context
from hakobune.errors import HakoError

if TYPE_CHECKING:  # the parser alone, for another verb, needs none of it
    from hakobune.distribution.transfer import Policy
    from hakobune.oci.manifest import Image
    from hakobune.oci.platform import Platform
    from hakobune.oci.reference import Reference
    from hakobune.oci.store import Store
    from hakobune.progress import Progress

POLICIES = ("missing", "always", "never")


def add_pull(parser: argparse.ArgumentParser, *, platform: bool = True) -> None:
    parser.add_argument(
        "--pull",
        choices=POLICIES,
        default="missing",
        help="ask the registry for what is not here, for what is newer, or not at all (default: missing)",
    )
    if platform:
        parser.add_argument(
            "--platform", metavar="OS/ARCH", help="which image of several (default: this machine's)"
        )


def add_pull_policy(group: argparse._ActionsContainer) -> None:
    """`--pull-policy` as pack has it, for commands that need a builder and its images; `pull_policy` reads it."""
    group.add_argument(
        "--pull-policy",
        "--pull",
        dest="pull",
        choices=("if-not-present", *POLICIES),
        default="missing",
        help="when images are asked for at their registries (default: if-not-present)",
    )


def pull_policy(arguments: argparse.Namespace) -> Policy:
    """What `--pull-policy` says; pack's word for the default is understood, too."""
    policy: Policy = "missing" if arguments.pull == "if-not-present" else arguments.pull
    return policy


def get_image(store: Store, name: str, arguments: argparse.Namespace, context: Context) -> Image:
    """The image that a command names, pulled if `--pull` says so.

    Raises:
        HakoError: it cannot be had.
    """
    from hakobune.cli.terminal import BannerProgress
    from hakobune.oci.platform import Platform
    from hakobune.oci.reference import Reference

    said = getattr(arguments, "platform", None)
    wanted = Platform.parse(said) if said else None
    reference = Reference.parse(name)
    progress = BannerProgress(context.err, context.env)
    platform = wanted or Platform.host()
    image = have_image(store, reference, platform, context, progress, arguments.pull)
    check_platform(image, wanted, reference)
    return image


def have_image(
    store: Store,
    reference: Reference,
    platform: Platform,
    context: Context,
    progress: Progress,
    policy: Policy,
) -> Image:
    """As `find_or_pull`; hako's own images, which no registry has, are made when they are not here.

    Raises:
        HakoError: it cannot be had.
    """
    from hakobune.distribution.transfer import find_or_pull

    if policy != "never" and reference.short.startswith("hako/b"):
        from hakobune.builds.own_images import ensure_own_image  # few names need the builds

        if ensure_own_image(reference, store, context.settings.home, progress, platform):
            policy = "missing"
    return find_or_pull(store, reference, platform, progress, policy)


def check_platform(image: Image, wanted: Platform | None, name: Reference) -> None:
    """See that what runs is for the platform that was asked for; `None` is whatever the name has.

    Raises:
        HakoError: it is for another one.
    """
    if wanted is not None and str(image.platform) and not image.platform.matches(wanted):
        raise HakoError(
            f"{name.short} is for {image.platform}, not for {wanted}",
            why="the name has no other image here, and --platform asks for that one",
            fix=f"build it with --platform {wanted}, or leave --platform away",
        )
