"""What a build is asked for and what it gives, as values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from hakobune.buildpack.descriptor import GroupElement
from hakobune.errors import UsageError
from hakobune.lifecycle.fate import LayerFate
from hakobune.oci.manifest import Image
from hakobune.oci.reference import Reference

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """One build.

    Args:
        name: of the image; builds of one name share caches and wait for each other.
        builder, run_image: names of local images; empty: the project descriptor's, else the default ones.
        buildpacks: replace the builder's order with one group: `id`, `id@version` or a folder.
        env: for buildpacks (`/platform/env`), not for the image.
        tags: further names for the image.
        process_type: the default process; empty: what the buildpacks say.
        rebuild: build although nothing that goes in has changed.
        clear_cache: forget what the last build kept.
        created: `SOURCE_DATE_EPOCH`; `None` is 1980.
    """

    source: Path
    name: Reference
    builder: str = ""
    run_image: str = ""
    buildpacks: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[Reference, ...] = ()
    process_type: str = ""
    descriptor: Path | None = None
    rebuild: bool = False
    clear_cache: bool = False
    network: bool = True
    created: int | None = None
    report_to: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """A finished build.

    Args:
        fates: what became of each layer; empty if *reused*.
        changed: source paths that differ from the last build's.
        reused: nothing that goes in had changed: the image is the last build's.
    """

    image: Image
    reference: str
    group: tuple[GroupElement, ...] = ()
    fates: tuple[LayerFate, ...] = ()
    changed: tuple[str, ...] = ()
    seconds: float = 0.0
    reused: bool = False


def folder_name(reference: Reference) -> str:
    """The folder of an image's builds below `HAKO_HOME/builds`, readable and unambiguous."""
    return quote(str(reference), safe="")


def parse_variable(text: str, caller: Mapping[str, str]) -> tuple[str, str] | None:
    """`NAME=VALUE`, or `NAME` alone for the caller's value; `None` if the caller has none.

    Raises:
        UsageError: it is no variable.
    """
    name, equals, value = text.partition("=")
    if not _VARIABLE.fullmatch(name):
        raise UsageError(
            f"{text!r} is no variable", why="it must look like NAME=VALUE or NAME", fix="--env NAME=VALUE"
        )
    if equals:
        return name, value
    return (name, caller[name]) if name in caller else None


def parse_env_file(text: str, caller: Mapping[str, str], *, name: str) -> dict[str, str]:
    """Lines of `NAME=VALUE` or `NAME`, as docker reads them: no quotes, `#` starts a comment line.

    Raises:
        UsageError: a line is no variable; it is named with its number.
    """
    variables: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            pair = parse_variable(line.lstrip(), caller)
        except UsageError as error:
            raise UsageError(f"{name}:{number}: {error.what}", why=error.why) from error
        if pair:
            variables[pair[0]] = pair[1]
    return variables
