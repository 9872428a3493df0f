"""`hako image pull|push|copy` where a place is no registry's: docker's daemon, archives, layouts."""

from __future__ import annotations

import argparse

from hakobune.cli.main import Context
from hakobune.cli.progress_option import make_progress
from hakobune.distribution.place import Place
from hakobune.distribution.places import Taken, name_in, put, take
from hakobune.errors import HakoError
from hakobune.oci.digest import Digest
from hakobune.oci.manifest import is_index
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store


def pull(source: Place, arguments: argparse.Namespace, context: Context) -> int:
    """Every image of the source, under the names that it has there."""
    with Store(context.settings.home) as store:
        taken = take(
            store,
            source,
            _platform(arguments.platform),
            make_progress(arguments, context),
            env=context.env,
            all_platforms=arguments.all_platforms,
        )
        for item in taken:
            for name in item.names:
                store.tag(item.digest, name)
            tell(item.digest, [name.short for name in item.names], context)
        store.sync_later()
    return 0


def tell(digest: Digest, names: list[str], context: Context) -> None:
    """The line for an image that is here now, and what to do about one without a name."""
    print(f"{', '.join(names) or '(no name)'}@{digest}", file=context.out)
    if not names:
        print(
            f"it has no name: `hako image tag {digest} NAME` before the next prune",
            file=context.err,
        )


def push(digest: Digest, target: Place, arguments: argparse.Namespace, context: Context) -> int:
    """An image or index of the store to a place."""
    name = None if arguments.name.startswith("sha256:") else Reference.parse(arguments.name)
    with Store(context.settings.home) as store:
        place = name_in(target, name)
        sent = put(
            store,
            digest,
            place,
            _platform(arguments.platform),
            make_progress(arguments, context),
            env=context.env,
        )
    print(f"{place}@{sent}", file=context.out)
    return 0


def copy(source: Place, target: Place, arguments: argparse.Namespace, context: Context) -> int:
    """Through the store, where it gets no name; the next prune takes it away again."""
    progress = make_progress(arguments, context)
    platform = _platform(arguments.platform)
    with Store(context.settings.home) as store:
        taken = take(
            store,
            source,
            platform,
            progress,
            env=context.env,
            # docker's places know no indexes; elsewhere they are kept whole, as between registries
            all_platforms=not arguments.platform and not target.transport.startswith("docker-"),
        )
        item = _only(taken, source)
        place = name_in(target, item.names[0] if item.names else None)
        if is_index(store.read_blob(item.digest)) and arguments.platform:
            item = Taken(store.read_image(item.digest, platform).digest, item.names)
        sent = put(store, item.digest, place, platform, progress, env=context.env)
    print(f"{place}@{sent}", file=context.out)
    return 0


def _only(taken: tuple[Taken, ...], source: Place) -> Taken:
    if len(taken) == 1:
        return taken[0]
    names = [name.short for item in taken for name in item.names]
    raise HakoError(
        f"{source} has {len(taken)} images",
        why=", ".join(names) or "none of them has a name",
        fix=f"{source}:NAME",
    )


def _platform(text: str | None) -> Platform:
    return Platform.parse(text) if text else Platform.host()
