"""`hako image history|export`: how an image came to be, and what is in it."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from hakobune.cli.main import Context
from hakobune.cli.output import add_format, print_document
from hakobune.cli.table import print_table
from hakobune.cli.terminal import human_size
from hakobune.errors import HakoError, UsageError
from hakobune.oci.manifest import Image
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.snapshot import stacked_dirs
from hakobune.oci.store import Store

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]

_SHORT = 60


def configure(verbs: Verbs) -> None:
    history = verbs.add_parser("history", help="the steps an image was made by, newest first")
    history.add_argument("image", metavar="IMAGE")
    history.add_argument("--platform", metavar="OS/ARCH", help="which image of an index")
    history.add_argument("--no-trunc", action="store_true", help="the steps in full")
    add_format(history)
    history.set_defaults(run=_history)

    export = verbs.add_parser(
        "export", help="the file system of an image as one tar, without layers"
    )
    export.add_argument("image", metavar="IMAGE")
    export.add_argument("--platform", metavar="OS/ARCH", help="which image of an index")
    export.add_argument(
        "-o", "--output", default="-", metavar="FILE", help="a file, or - for stdout (default)"
    )
    export.set_defaults(run=_export)


@dataclass(frozen=True, slots=True)
class Step:
    """One entry of the history; *size_bytes* is the compressed layer's, 0 without one."""

    created: str
    created_by: str
    size_bytes: int
    comment: str
    digest: str


def steps_of(image: Image) -> tuple[Step, ...]:
    """The history, oldest first, with the layers that belong to it; layers that nobody explains follow."""
    layers = list(zip(image.manifest.layers, image.diff_ids, strict=True))
    steps = []
    for entry in image.config.history:
        blob, diff_id = (None, None) if entry.empty_layer or not layers else layers.pop(0)
        steps.append(
            Step(
                entry.created,
                entry.created_by,
                blob.size if blob else 0,
                entry.comment,
                str(diff_id or ""),
            )
        )
    steps += [Step("", "", blob.size, "", str(diff_id)) for blob, diff_id in layers]
    return tuple(steps)


def _find(store: Store, arguments: argparse.Namespace) -> Image:
    from hakobune.cli.image_choice import find_image

    if arguments.platform and not arguments.image.startswith("sha256:"):
        platform = Platform.parse(arguments.platform)
        image = store.find_image(Reference.parse(arguments.image), platform)
        if image is not None and image.platform.matches(platform):
            return image
        if image is not None:
            raise HakoError(f"{arguments.image} is for {image.platform}, not for {platform}")
    return find_image(store, arguments.image)


def _history(arguments: argparse.Namespace, context: Context) -> int:
    with Store(context.settings.home) as store:
        steps = tuple(reversed(steps_of(_find(store, arguments))))
    if arguments.format != "table":
        document = [
            {
                "created": step.created,
                "createdBy": step.created_by,
                "size": step.size_bytes,
                "comment": step.comment,
                "diffId": step.digest,
            }
            for step in steps
        ]
        print_document(document, arguments.format, context.out)
        return 0
    rows = [
        (
            step.created[:19].replace("T", " ") or "-",
            _shown(step.created_by, whole=arguments.no_trunc) or "-",
            human_size(step.size_bytes) if step.digest else "-",
            step.comment,
        )
        for step in steps
    ]
    print_table(("CREATED", "CREATED BY", "SIZE", "COMMENT"), rows, context.out)
    return 0


def _shown(text: str, *, whole: bool) -> str:
    """On one line, without control characters of whoever made the image."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if whole or len(line) <= _SHORT else line[: _SHORT - 1] + "…"


def _export(arguments: argparse.Namespace, context: Context) -> int:
    if arguments.output == "-" and sys.stdout.isatty():
        raise UsageError("an archive is no text for a terminal", fix="-o FILE, or a pipe")
    with Store(context.settings.home) as store:
        image = _find(store, arguments)
        if arguments.output == "-":
            _write(store, image, sys.stdout.buffer)
        else:
            _write_file(store, image, Path(arguments.output))
    return 0


def _write_file(store: Store, image: Image, output: Path) -> None:
    """Beside the file, then by rename: an interrupted export leaves what was there."""
    from hakobune.oci.blobs import room_for

    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with room_for(f"the archive {output}", output.absolute().parent):
            with open(temporary, "wb") as file:
                _write(store, image, file)
        os.rename(temporary, output)
    except OSError as error:
        if isinstance(error, PermissionError) and error.filename is None:
            raise  # it is not about the file: looking into an image needs root
        raise HakoError(f"cannot write {output}", why=error.strerror or str(error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _write(store: Store, image: Image, out: IO[bytes]) -> None:
    """Mount the layers as a container would see them, and read that."""
    from hakobune.oci.base_layer import write_tree
    from hakobune.runtime.mount import RootFs, TmpfsTop, overlay

    snapshots, hold = store.hold_image(image)
    with hold, contextlib.ExitStack() as undo:
        lowers = stacked_dirs(snapshots)
        tree = overlay(RootFs(lowers=lowers, top=TmpfsTop(1 << 20)), None)
        undo.callback(os.close, tree)
        write_tree(out, tree)
