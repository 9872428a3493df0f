"""`hako image index create`: one name for the images of several platforms."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hakobune.cli.main import Context
from hakobune.errors import HakoError, UsageError
from hakobune.oci.descriptor import Descriptor, encode_document
from hakobune.oci.manifest import decode_index, is_index, make_index, media_type_of
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]


def configure(verbs: Verbs) -> None:
    index = verbs.add_parser("index", help="make one name of images for several platforms")
    kinds = index.add_subparsers(required=True, metavar="VERB")
    create = kinds.add_parser("create", help="an index of images that are here")
    create.add_argument("name", metavar="NAME", help="how the index is called")
    create.add_argument("images", nargs="+", metavar="IMAGE", help="images, or indexes of them")
    create.add_argument(
        "--annotation", action="append", default=[], metavar="KEY=VALUE", help="noted in the index"
    )
    create.set_defaults(run=_create)


def _create(arguments: argparse.Namespace, context: Context) -> int:
    name = Reference.parse(arguments.name)
    if name.digest is not None:
        raise UsageError(
            f"{arguments.name!r} is no name", why="an index gets its digest from its content"
        )
    with Store(context.settings.home) as store:
        entries = [entry for text in arguments.images for entry in _entries(store, text)]
        _check_platforms(entries)
        index = make_index(entries, dict(map(_parse_annotation, arguments.annotation)))
        digest = store.put_index(encode_document(index), names=(name,))
        store.sync_later()
    print(f"{name.short}@{digest}", file=context.out)
    for entry in entries:
        print(f"  {entry.platform}  {entry.digest.short}", file=context.err)
    return 0


def _entries(store: Store, text: str) -> Iterator[Descriptor]:
    """The descriptors that an image, or all of an index, contributes."""
    from hakobune.cli.image_choice import find_image

    digest = None if text.startswith("sha256:") else store.find_digest(Reference.parse(text))
    if digest is None:
        digest = find_image(store, text).digest
    raw = store.read_blob(digest)
    if is_index(raw):
        yield from decode_index(raw).manifests
        return
    image = store.read_image(digest)
    yield Descriptor(
        media_type=media_type_of(raw), digest=digest, size=len(raw), platform=image.platform
    )


def _check_platforms(entries: list[Descriptor]) -> None:
    seen: dict[str, Descriptor] = {}
    for entry in entries:
        platform = str(entry.platform)
        other = seen.setdefault(platform, entry)
        if other.digest != entry.digest and not platform.startswith("unknown/"):
            raise HakoError(
                f"two images are for {platform}",
                why=f"{other.digest.short} and {entry.digest.short}; a reader would take the first",
                fix="name one of them",
            )


def _parse_annotation(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise UsageError(f"--annotation {text!r} is not KEY=VALUE")
    return key, value
