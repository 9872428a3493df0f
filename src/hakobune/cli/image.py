"""`hako image ls|inspect|tag|rm|prune|save|load`: the images of this machine."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from hakobune.cli.main import Context
from hakobune.cli.output import add_format, print_document
from hakobune.cli.table import print_table
from hakobune.cli.terminal import human_size
from hakobune.errors import HakoError, UsageError
from hakobune.oci.digest import Digest
from hakobune.oci.manifest import Image
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store

if TYPE_CHECKING:
    from hakobune.oci.collect import Collected

_SHORTEST_ID = 4


def configure(parser: argparse.ArgumentParser) -> None:
    from hakobune.cli import image_content, image_index, image_registry

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

    save = verbs.add_parser("save", help="write images as an OCI archive or folder")
    save.add_argument("images", nargs="+", metavar="IMAGE")
    save.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="PATH",
        help="a file, a new folder, or - for stdout",
    )
    save.add_argument(
        "--format",
        choices=("oci-archive", "oci-dir", "docker-archive"),
        default="oci-archive",
        help="one tar, an OCI layout in a folder, or docker's own tar (default: oci-archive, which docker loads, too)",
    )
    save.add_argument(
        "--platform", metavar="OS/ARCH", help="of an index, only the image for this platform"
    )
    save.set_defaults(run=_save)

    load = verbs.add_parser("load", help="read an OCI archive or folder, or what docker saved")
    load.add_argument(
        "-i", "--input", default="-", metavar="PATH", help="a file, a folder, or - for stdin"
    )
    load.add_argument("--name", metavar="NAME", help="how the (only) image shall be called")
    which = load.add_mutually_exclusive_group()
    which.add_argument(
        "--platform", metavar="OS/ARCH", help="which image of several (default: this machine's)"
    )
    which.add_argument(
        "--all-platforms", action="store_true", help="all of them, under one name, as an index"
    )
    load.set_defaults(run=_load)


# Listing and inspecting


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


def find_image(store: Store, text: str) -> Image:
    """The image of that name, digest, or beginning of a digest.

    Raises:
        HakoError: there is none, or more than one begins so.
    """
    if image := _find_by_id(store, text):
        return image
    image = store.find_image(Reference.parse(text))
    if image is None:
        raise HakoError(
            f"there is no image {text!r} here",
            fix="`hako image ls` lists them, `hako image pull` and `hako build` add one",
        )
    return image


def _find_by_id(store: Store, text: str) -> Image | None:
    if text.startswith("sha256:"):
        text = text.removeprefix("sha256:")
    elif store.find_image(Reference.parse(text)) is not None:
        return None
    if len(text) < _SHORTEST_ID or not set(text) <= set("0123456789abcdef"):
        return None
    named = {digest for _, digest in store.names()}
    found = sorted(digest for digest in named if digest.hex.startswith(text))
    if len(found) > 1:
        raise HakoError(
            f"{text!r} is not one image",
            why=f"{len(found)} digests begin so",
            fix="write more of it",
        )
    if not found and len(text) == 64 and store.has_blob(Digest("sha256", text)):
        found = [Digest("sha256", text)]
    return store.read_image(found[0]) if found else None


# Names


def _tag(arguments: argparse.Namespace, context: Context) -> int:
    store = Store(context.settings.home)
    name = _parse_name(arguments.name)
    whole = None
    if not arguments.image.startswith("sha256:"):
        whole = store.find_digest(Reference.parse(arguments.image))
    store.tag(whole or find_image(store, arguments.image).digest, name)
    print(name.short, file=context.out)
    return 0


def _parse_name(text: str) -> Reference:
    name = Reference.parse(text)
    if name.digest is not None:
        raise UsageError(f"{text!r} is no name", why="a digest cannot be given to an image")
    return name


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


# Saving and loading


def _save(arguments: argparse.Namespace, context: Context) -> int:
    from hakobune.oci.archive_save import save_archive, save_docker_archive, save_folder

    store = Store(context.settings.home)
    docker = arguments.format == "docker-archive"
    chosen = {
        _save_name(text): _find_chosen(store, text, arguments.platform, whole=not docker)
        for text in arguments.images
    }
    output = Path(arguments.output)

    def write(out: IO[bytes]) -> None:
        if docker:
            images = {name: store.read_image(digest) for name, digest in chosen.items()}
            save_docker_archive(store, images, out)
        else:
            save_archive(store, chosen, out)

    if arguments.format == "oci-dir":
        save_folder(store, chosen, output)
    elif arguments.output == "-":
        if sys.stdout.isatty():
            raise UsageError("an archive is no text for a terminal", fix="-o FILE, or a pipe")
        write(sys.stdout.buffer)
    else:
        _save_file(write, output)
    return 0


def _find_chosen(store: Store, text: str, platform: str | None, *, whole: bool) -> Digest:
    """The image, or the whole index if no platform is asked for."""
    from hakobune.oci.platform import Platform

    digest = None if text.startswith("sha256:") else store.find_digest(Reference.parse(text))
    if digest is None:
        return find_image(store, text).digest
    if platform is None and whole:
        return digest
    return store.read_image(digest, Platform.parse(platform) if platform else None).digest


def _save_name(text: str) -> Reference:
    """The name in the archive; an image given by its digest gets one made of it."""
    if text.startswith("sha256:"):
        return Reference.parse(f"image:{text.removeprefix('sha256:')[:12]}")
    name = Reference.parse(text)
    return (
        name
        if name.tag
        else Reference.parse(f"{name.name}:{name.digest.short if name.digest else 'latest'}")
    )


def _save_file(write: Callable[[IO[bytes]], None], output: Path) -> None:
    """Write beside the file and rename: an interrupted save leaves what was there."""
    from hakobune.oci.blobs import room_for

    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with room_for(f"the archive {output}", output.absolute().parent):
            with open(temporary, "wb") as file:
                write(file)
        os.rename(temporary, output)
    except OSError as error:
        raise HakoError(f"cannot write {output}", why=error.strerror or str(error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _load(arguments: argparse.Namespace, context: Context) -> int:
    from hakobune.cli.image_places import tell
    from hakobune.oci.archive import load_images
    from hakobune.oci.platform import Platform

    platform = Platform.parse(arguments.platform) if arguments.platform else Platform.host()
    store = Store(context.settings.home)
    with contextlib.ExitStack() as undo:
        path = Path(arguments.input)
        if arguments.input == "-":
            path = undo.enter_context(store.spool(sys.stdin.buffer))
        loaded = load_images(store, path, platform, all_platforms=arguments.all_platforms)
    if arguments.name:
        if len(loaded) != 1:
            raise UsageError(
                f"--name {arguments.name} fits one image", why=f"{len(loaded)} were loaded"
            )
        store.tag(loaded[0].digest, _parse_name(arguments.name))
    for item in loaded:
        names = [arguments.name] if arguments.name else [name.short for name in item.names]
        tell(item.digest, names, context)
    store.sync_later()
    return 0
