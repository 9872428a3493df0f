"""`hako image ls|inspect|tag`, and the other verbs of its group: the images of this machine."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from hakobune.cli.image_choice import find_image, parse_new_name
from hakobune.cli.main import Context
from hakobune.cli.output import add_format, print_document
from hakobune.cli.table import print_table
from hakobune.cli.terminal import human_size
from hakobune.errors import HakoError
from hakobune.oci.digest import Digest
from hakobune.oci.manifest import Image
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store


def configure(parser: argparse.ArgumentParser) -> None:
    from hakobune.cli import (
        image_archive,
        image_content,
        image_index,
        image_registry,
        image_removal,
    )

    verbs = parser.add_subparsers(required=True, metavar="VERB")
    image_registry.configure(verbs)
    image_index.configure(verbs)
    image_content.configure(verbs)

    listing = verbs.add_parser("ls", help="one line a name: digest, platform, size")
    add_format(listing)
    listing.set_defaults(run=_list)

    inspect = verbs.add_parser("inspect", help="manifest, config and names of an image")
    inspect.add_argument("image", metavar="IMAGE", help="a name, or a digest")
    add_format(inspect)
    inspect.set_defaults(run=_inspect)

    tag = verbs.add_parser("tag", help="give an image another name")
    tag.add_argument("image", metavar="IMAGE")
    tag.add_argument("name", metavar="NAME")
    tag.set_defaults(run=_tag)

    image_removal.configure(verbs)
    image_archive.configure(verbs)


def _list(arguments: argparse.Namespace, context: Context) -> int:
    store = Store(context.settings.home)
    images = [(name, _read_if_whole(store, digest), digest) for name, digest in store.names()]
    if arguments.format != "table":
        print_document(
            [_summary(name, digest, image) for name, image, digest in images],
            arguments.format,
            context.out,
        )
        return 0
    rows = [
        (
            name.short,
            digest.short,
            _platforms(store, name) or (str(image.platform) if image else "damaged"),
            human_size(size_of(image)) if image else "-",
            image.config.created[:19].replace("T", " ") if image else "",
        )
        for name, image, digest in images
    ]
    print_table(("IMAGE", "DIGEST", "PLATFORM", "SIZE", "CREATED"), rows, context.out)
    return 0


def _platforms(store: Store, name: Reference) -> str:
    """What an index is for; empty if the name is an image's."""
    try:
        index = store.find_index(name)
    except HakoError:
        return ""
    return (
        ", ".join(sorted({str(e.platform) for e in index.manifests if e.platform})) if index else ""
    )


def _read_if_whole(store: Store, digest: Digest) -> Image | None:
    """The image; `None` if it cannot be read, since one damaged image must not hide the others."""
    try:
        return store.read_image(digest)
    except HakoError:
        return None


def _summary(name: Reference, digest: Digest, image: Image | None) -> dict[str, Any]:
    summary: dict[str, Any] = {"name": str(name), "digest": str(digest)}
    if image is not None:
        summary |= {
            "platform": str(image.platform),
            "size": size_of(image),
            "created": image.config.created,
        }
    return summary


def size_of(image: Image) -> int:
    """The bytes that a registry would hold for it: manifest, config and compressed layers."""
    layers = sum(layer.size for layer in image.manifest.layers)
    return layers + image.manifest.config.size + len(image.raw)


def _inspect(arguments: argparse.Namespace, context: Context) -> int:
    store = Store(context.settings.home)
    image = find_image(store, arguments.image)
    names = [str(name) for name, digest in store.names() if digest == image.digest]
    if arguments.format != "table":
        document = {
            "names": names,
            "digest": str(image.digest),
            "size": size_of(image),
            "manifest": json.loads(image.raw),
            "config": json.loads(image.raw_config),
        }
        print_document(document, arguments.format, context.out)
    else:
        print("\n".join(description(image, names)), file=context.out)
    return 0


def description(image: Image, names: Sequence[str]) -> list[str]:
    """The lines that `inspect` prints."""
    config = image.config.config
    rows = [
        *(("name", name) for name in names),
        ("digest", str(image.digest)),
        ("platform", str(image.platform)),
        ("size", human_size(size_of(image))),
        ("created", image.config.created or "-"),
        ("user", config.user or "root"),
        ("entrypoint", json.dumps(config.entrypoint) if config.entrypoint else "-"),
        ("cmd", json.dumps(config.cmd) if config.cmd else "-"),
        ("directory", config.working_dir or "/"),
        *(("env", entry) for entry in config.env),
        *(("label", f"{key}={_shortened(config.labels[key])}") for key in sorted(config.labels)),
        *(
            ("layer", f"{diff_id.short}  {human_size(layer.size)}")
            for diff_id, layer in zip(image.diff_ids, image.manifest.layers, strict=True)
        ),
    ]
    return [f"{name:<10} {value}" for name, value in rows]


def _shortened(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:100]}… ({len(text)} characters)"


def _tag(arguments: argparse.Namespace, context: Context) -> int:
    store = Store(context.settings.home)
    name = parse_new_name(arguments.name)
    whole = None
    if not arguments.image.startswith("sha256:"):
        whole = store.find_digest(Reference.parse(arguments.image))
    store.tag(whole or find_image(store, arguments.image).digest, name)
    print(name.short, file=context.out)
    return 0
