"""`hako image pull|push|copy|tags|referrers|delete`: images between this machine and registries, and other places."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from hakobune.cli.main import Context
from hakobune.cli.output import add_format, print_document
from hakobune.cli.progress_option import add_progress, make_progress
from hakobune.cli.table import print_table
from hakobune.cli.terminal import human_size
from hakobune.errors import HakoError, UsageError
from hakobune.oci.digest import Digest
from hakobune.oci.manifest import is_index
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]

_REACHED: Final = (
    "Registries are reached as registries.conf, the logins of docker and podman, and HTTPS_PROXY, HTTP_PROXY and "
    "NO_PROXY say; a proxy's URL may be https:// and hold USER:PASSWORD@."
)


def configure(verbs: Verbs) -> None:
    pull = verbs.add_parser(
        "pull",
        help="bring an image here from its registry",
        description=f"Bring an image here from its registry. {_REACHED}",
    )
    pull.add_argument(
        "name",
        metavar="NAME",
        help="for example debian:13, HOST/REPOSITORY:TAG, docker-daemon:NAME, oci-archive:FILE:NAME",
    )
    which = pull.add_mutually_exclusive_group()
    which.add_argument(
        "--platform", metavar="OS/ARCH", help="which image of several (default: this machine's)"
    )
    which.add_argument(
        "--all-platforms", action="store_true", help="all of them, under one name, as an index"
    )
    add_progress(pull)
    pull.set_defaults(run=_pull)

    push = verbs.add_parser(
        "push",
        help="send an image or index to the registry in its name",
        description=f"Send an image or index to the registry in its name. {_REACHED}",
    )
    push.add_argument("name", metavar="NAME", help="an image that is here")
    push.add_argument(
        "target",
        nargs="?",
        metavar="TARGET",
        help="another name to push it under, or docker-daemon:NAME, docker-archive:FILE, oci-archive:FILE, oci:FOLDER",
    )
    push.add_argument(
        "--platform", metavar="OS/ARCH", help="of an index, only the image for this platform"
    )
    push.add_argument(
        "--compression-format",
        choices=("gzip", "zstd", "uncompressed"),
        help="compress the layers in this way (default: as they are; another way gives another digest)",
    )
    add_progress(push)
    push.set_defaults(run=_push)

    copy = verbs.add_parser(
        "copy",
        help="copy between registries, docker-daemon:NAME, docker-archive:FILE:NAME, oci-archive:FILE:NAME, oci:FOLDER:NAME",
    )
    copy.add_argument("source", metavar="SOURCE")
    copy.add_argument("target", metavar="TARGET")
    copy.add_argument(
        "--platform", metavar="OS/ARCH", help="only this one (default: an index is copied whole)"
    )
    copy.add_argument(
        "--referrers",
        action="store_true",
        help="between registries: also what refers to it (signatures, SBOMs), as `oras copy -r`",
    )
    add_progress(copy)
    copy.set_defaults(run=_copy)

    tags = verbs.add_parser("tags", help="the tags of a repository in its registry")
    tags.add_argument("repository", metavar="REPOSITORY", help="for example debian")
    add_format(tags)
    tags.set_defaults(run=_tags)

    referrers = verbs.add_parser(
        "referrers", help="what refers to an image in its registry: signatures, SBOMs"
    )
    referrers.add_argument("name", metavar="NAME")
    referrers.add_argument("--artifact-type", default="", metavar="TYPE", help="only these")
    add_format(referrers)
    referrers.set_defaults(run=_referrers)

    delete = verbs.add_parser("delete", help="remove a tag, or an image by digest, from a registry")
    delete.add_argument("name", metavar="NAME", help="with its tag, or its digest (all its tags)")
    delete.set_defaults(run=_delete)


def _platform(text: str | None) -> Platform:
    return Platform.parse(text) if text else Platform.host()


def _pull(arguments: argparse.Namespace, context: Context) -> int:
    from hakobune.distribution.place import parse_place
    from hakobune.distribution.transfer import pull

    source = parse_place(arguments.name)
    if not source.is_registry:
        from hakobune.cli import image_places

        return image_places.pull(source, arguments, context)
    name = source.reference
    with Store(context.settings.home) as store:
        image = pull(
            store,
            name,
            _platform(arguments.platform),
            make_progress(arguments, context),
            all_platforms=arguments.all_platforms,
        )
        digest = store.find_digest(name) or image.digest
        store.sync_later()
    print(_with_digest(name, digest), file=context.out)
    return 0


def _push(arguments: argparse.Namespace, context: Context) -> int:
    from hakobune.distribution.place import parse_place
    from hakobune.distribution.transfer import push

    place = parse_place(arguments.target or arguments.name)
    if not place.is_registry:
        from hakobune.cli import image_places

        with Store(context.settings.home) as store:
            return image_places.push(_to_push(store, arguments), place, arguments, context)
    target = place.reference
    with Store(context.settings.home) as store:
        digest = push(store, _to_push(store, arguments), target, make_progress(arguments, context))
    print(_with_digest(target, digest), file=context.out)
    return 0


def _to_push(store: Store, arguments: argparse.Namespace) -> Digest:
    """The image or index to push, compressed as is asked for.

    Raises:
        HakoError: it is not here; an index is not compressed anew.
    """
    digest = _find(store, arguments)
    if not arguments.compression_format:
        return digest
    from hakobune.oci.recompress import Compression, recompress

    if is_index(store.read_blob(digest)):
        raise HakoError(
            f"cannot compress {arguments.name} anew",
            why="it is an index of several images",
            fix="--platform OS/ARCH pushes one of them",
        )
    return recompress(
        store, store.read_image(digest), Compression(arguments.compression_format)
    ).digest


def _find(store: Store, arguments: argparse.Namespace) -> Digest:
    """The image or index to push.

    Raises:
        HakoError: it is not here.
    """
    from hakobune.cli.image_choice import find_image

    if arguments.platform:
        image = store.find_image(
            Reference.parse(arguments.name), Platform.parse(arguments.platform)
        )
        if image is not None:
            return image.digest
    if not arguments.name.startswith("sha256:"):
        digest = store.find_digest(Reference.parse(arguments.name))
        if digest is not None:
            return digest
    return find_image(store, arguments.name).digest


def _copy(arguments: argparse.Namespace, context: Context) -> int:
    from hakobune.distribution.place import parse_place
    from hakobune.distribution.transfer import copy

    source, place = parse_place(arguments.source), parse_place(arguments.target)
    if not (source.is_registry and place.is_registry):
        from hakobune.cli import image_places

        if arguments.referrers:
            raise UsageError(
                "hako image copy: --referrers is for copies between registries",
                why="archives, layouts and docker's daemon keep images alone",
            )
        return image_places.copy(source, place, arguments, context)
    target = place.reference
    digest = copy(
        source.reference,
        target,
        make_progress(arguments, context),
        home=context.settings.home,
        platform=Platform.parse(arguments.platform) if arguments.platform else None,
        referrers=arguments.referrers,
    )
    print(_with_digest(target, digest), file=context.out)
    return 0


def _with_digest(name: Reference, digest: Digest) -> str:
    return f"{name.short.partition('@')[0]}@{digest}"


def _tags(arguments: argparse.Namespace, context: Context) -> int:
    from hakobune.distribution.transfer import open_repository
    from hakobune.progress import SilentProgress

    name = Reference.parse(arguments.repository)
    what = f"cannot list the tags of {name.short.partition('@')[0].removesuffix(f':{name.tag}')}"
    with open_repository(
        name, SilentProgress(), home=context.settings.home, what=what
    ) as repository:
        tags = sorted(repository.tags())
    if arguments.format != "table":
        print_document(tags, arguments.format, context.out)
    else:
        for tag in tags:
            print(tag, file=context.out)
    return 0


def _referrers(arguments: argparse.Namespace, context: Context) -> int:
    from hakobune.distribution.transfer import open_repository
    from hakobune.progress import SilentProgress

    name = Reference.parse(arguments.name)
    with open_repository(
        name,
        SilentProgress(),
        home=context.settings.home,
        what=f"cannot list what refers to {name.short}",
    ) as repository:
        head = name.digest or repository.get_manifest(str(name.tag)).digest
        found = repository.referrers(head, artifact_type=arguments.artifact_type)
    if arguments.format != "table":
        print_document(
            [
                {
                    "digest": str(item.digest),
                    "artifactType": item.artifact_type,
                    "mediaType": item.media_type,
                    "size": item.size,
                    "annotations": dict(item.annotations),
                }
                for item in found
            ],
            arguments.format,
            context.out,
        )
    else:
        rows = [(str(i.digest), i.artifact_type or i.media_type, human_size(i.size)) for i in found]
        print_table(("DIGEST", "TYPE", "SIZE"), rows, context.out)
    return 0


def _delete(arguments: argparse.Namespace, context: Context) -> int:
    from hakobune.distribution.errors import RegistryError
    from hakobune.distribution.transfer import open_repository
    from hakobune.progress import SilentProgress

    name = Reference.parse(arguments.name)
    if name.digest is None and not arguments.name.endswith(f":{name.tag}"):
        raise UsageError(
            f"hako image delete {arguments.name}: which one?",
            why="a deletion is not guessed",
            fix=f"{arguments.name}:TAG, or {arguments.name}@DIGEST",
        )
    what = f"cannot delete {arguments.name}"
    with open_repository(
        name,
        SilentProgress(),
        home=context.settings.home,
        what=what,
        actions="pull,push,delete",
    ) as repository:
        try:
            repository.delete_manifest(str(name.digest or name.tag))
        except RegistryError as error:
            if name.digest is not None or error.status not in (400, 405):
                raise
            head = repository.get_manifest(str(name.tag)).digest
            raise HakoError(
                what,
                why=f"{repository.host} deletes no single tags",
                fix=f"hako image delete {name.name}@{head} (all its tags go with it)",
            ) from error
    print(f"deleted {arguments.name}", file=context.err)
    return 0
