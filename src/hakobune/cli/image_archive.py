"""`hako image save|load`: images as files."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING

from hakobune.cli.image_choice import find_image, parse_new_name
from hakobune.cli.main import Context
from hakobune.errors import HakoError, UsageError
from hakobune.oci.digest import Digest
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]


def configure(verbs: Verbs) -> None:
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
        store.tag(loaded[0].digest, parse_new_name(arguments.name))
    for item in loaded:
        names = [arguments.name] if arguments.name else [name.short for name in item.names]
        tell(item.digest, names, context)
    store.sync_later()
    return 0
