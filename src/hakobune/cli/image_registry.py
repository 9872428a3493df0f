"""`hako image pull|push`: images between this machine and registries."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from hakobune.cli.main import Context
from hakobune.cli.terminal import BannerProgress
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]


def configure(verbs: Verbs) -> None:
    pull = verbs.add_parser("pull", help="bring an image here from its registry")
    pull.add_argument("name", metavar="NAME", help="for example debian:13, or HOST/REPOSITORY:TAG")
    pull.add_argument(
        "--platform", metavar="OS/ARCH", help="which image of several (default: this machine's)"
    )
    pull.set_defaults(run=_pull)

    push = verbs.add_parser("push", help="send an image to the registry in its name")
    push.add_argument("name", metavar="NAME", help="an image that is here")
    push.add_argument("target", nargs="?", metavar="TARGET", help="another name to push it under")
    push.set_defaults(run=_push)


def _pull(arguments: argparse.Namespace, context: Context) -> int:
    from hakobune.distribution.transfer import pull

    platform = Platform.parse(arguments.platform) if arguments.platform else Platform.host()
    progress = BannerProgress(context.err, context.env)
    with Store(context.settings.home) as store:
        image = pull(store, Reference.parse(arguments.name), platform, progress)
        store.sync_later()
    print(f"{Reference.parse(arguments.name).short}@{image.digest}", file=context.out)
    return 0


def _push(arguments: argparse.Namespace, context: Context) -> int:
    from hakobune.cli.image import find_image
    from hakobune.distribution.transfer import push

    target = Reference.parse(arguments.target or arguments.name)
    progress = BannerProgress(context.err, context.env)
    with Store(context.settings.home) as store:
        digest = push(store, find_image(store, arguments.name), target, progress)
    print(f"{target.short}@{digest}", file=context.out)
    return 0
