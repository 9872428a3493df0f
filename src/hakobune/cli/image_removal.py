"""`hako image rm|prune`: names taken away, and what nothing needs then."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from hakobune.cli.main import Context
from hakobune.cli.output import add_format, print_document
from hakobune.cli.terminal import human_size
from hakobune.errors import HakoError
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store

if TYPE_CHECKING:
    from hakobune.oci.collect import Collected

    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]


def configure(verbs: Verbs) -> None:
    remove = verbs.add_parser("rm", help="take names away, and what nothing else needs with them")
    remove.add_argument("names", nargs="+", metavar="NAME")
    remove.set_defaults(run=_remove)

    prune = verbs.add_parser("prune", help="remove what no name, build, service or container needs")
    prune.add_argument(
        "--all", action="store_true", help="also the names of images that nothing uses"
    )
    prune.add_argument(
        "--build-cache",
        action="store_true",
        help="also what builds from Dockerfiles keep (steps, cache mounts, downloads), and downloaded buildpacks",
    )
    add_format(prune)
    prune.set_defaults(run=_prune)


def _remove(arguments: argparse.Namespace, context: Context) -> int:
    store = Store(context.settings.home)
    digests = dict(store.names())
    for text in arguments.names:
        name = Reference.parse(text)
        if not store.untag(name):
            raise HakoError(
                f"there is no image {text!r} here", fix="`hako image ls` lists the names"
            )
        print(f"removed {text}", file=context.err)
        if name in digests and store.is_rooted(digests[name]):
            print("its content stays: a service, a container or a build uses it", file=context.err)
    store.close()
    _say_collected(store.collect(), context)
    return 0


def _prune(arguments: argparse.Namespace, context: Context) -> int:
    store = Store(context.settings.home)
    if arguments.all:
        for name, digest in store.names():
            if not store.is_rooted(digest):
                store.untag(name)
                print(f"removed {name.short}", file=context.err)
    if arguments.build_cache:
        from shutil import rmtree

        from hakobune.builds.buildpack_sources import DOWNLOADS
        from hakobune.dockerfile.prune import forget_build_cache

        rmtree(context.settings.home / DOWNLOADS, ignore_errors=True)
        print(f"forgot {forget_build_cache(store)} steps of Dockerfiles", file=context.err)
    store.close()
    collected = store.collect()
    if arguments.format != "table":
        document = {
            "blobs": [str(digest) for digest in collected.blobs],
            "snapshots": list(collected.snapshots),
            "bytes": collected.size_bytes,
        }
        print_document(document, arguments.format, context.out)
    else:
        _say_collected(collected, context)
    return 0


def _say_collected(collected: Collected, context: Context) -> None:
    print(
        f"freed {human_size(collected.size_bytes)}: {len(collected.blobs)} blobs, "
        f"{len(collected.snapshots)} unpacked layers",
        file=context.err,
    )
    if collected.held:
        print(f"{collected.held} unpacked layers are in use and stay until then", file=context.err)
