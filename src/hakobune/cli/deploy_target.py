"""What a deploy is about: which folder or image, and which service."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from hakobune.cli.client import Document, short_name
from hakobune.cli.service_document import (
    SOURCE_ANNOTATION,
    default_service_name,
    parse_service_name,
)
from hakobune.errors import UsageError


def read_target(
    target: str | None, *, source: str | None, image: str | None, is_folder: Callable[[str], bool]
) -> tuple[str | None, Path | None]:
    """The service's name and the folder that the command line means; the folder is `None` for an image.

    A target with a slash, or one that is a folder here, is the folder; with `--source` or `--image` it is a name.

    Raises:
        UsageError: it is neither a folder nor a service's name.
    """
    if target is None or source is not None or image is not None:
        name = None if target is None else parse_service_name(target)
        return name, None if image is not None else _absolute(source or ".")
    if "/" in target or is_folder(target):
        return None, _absolute(target)
    return parse_service_name(target), _absolute(".")


def _absolute(folder: str) -> Path:
    return Path(os.path.abspath(folder))


def require_folder(folder: Path) -> None:
    """Refuse early what cannot be a source.

    Raises:
        UsageError: there is no such folder, or it is a file.
    """
    if folder.is_dir():
        return
    why = "it is a file" if folder.exists() else "there is no such folder"
    raise UsageError(f"cannot deploy {folder}", why=why, fix="hako deploy --source FOLDER")


def choose_service(given: str | None, folder: Path | None, services: Sequence[Document]) -> str:
    """The short name of the service to deploy (pure).

    A name given wins; else the service that was deployed from this folder; else the folder's own name, if no
    other folder's service has it.

    Raises:
        UsageError: a name must be given.
    """
    if given:
        return given
    if folder is None:
        raise UsageError(
            "hako deploy --image needs the service's name", fix="hako deploy NAME --image IMAGE"
        )
    sources = {
        short_name(s["name"]): s.get("annotations", {}).get(SOURCE_ANNOTATION) for s in services
    }
    same = [name for name, source in sources.items() if source == str(folder)]
    if len(same) > 1:
        raise UsageError(
            f"several services were deployed from {folder}: {', '.join(sorted(same))}",
            fix=f"hako deploy {sorted(same)[0]}",
        )
    if same:
        return same[0]
    name = default_service_name(folder)
    if name in sources:
        owner = sources[name] or "an image"
        raise UsageError(
            f"the service {name} is there already, deployed from {owner}",
            why=f"{folder} would take its place",
            fix=f"hako deploy {name} (to replace it) or hako deploy ANOTHER-NAME",
        )
    return name
