"""What an app needs of its run image, as its buildpacks said, held against what is in it.

A buildpack says it in a label `com.hakobune.run-image.needs.NAME` of `launch.toml`, whose value is JSON:
`{"commands": ["bash"], "libraries": ["libpq.so.5"]}`. Commands start processes: without one the image is of no use. A library
may be optional to whoever loads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from hakobune.buildpack.launch import Label
from hakobune.errors import HakoError
from hakobune.oci.merged import find
from hakobune.oci.reference import Reference

LABEL_PREFIX: Final = "com.hakobune.run-image.needs."
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LIBRARY_FOLDERS: Final = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/lib",
    "/lib64",
    "/lib",
)

Exists = Callable[[str], bool]


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """Programs by name, shared libraries by soname."""

    commands: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()


def read_needs(labels: Iterable[Label]) -> Needs:
    """All that the labels ask for, each once. A label that is not such JSON asks for nothing."""
    commands: dict[str, None] = {}
    libraries: dict[str, None] = {}
    for label in labels:
        if not label.key.startswith(LABEL_PREFIX):
            continue
        try:
            needs = msgspec.json.decode(label.value, type=Needs)
        except msgspec.DecodeError:
            continue
        commands |= dict.fromkeys(needs.commands)
        libraries |= dict.fromkeys(needs.libraries)
    return Needs(commands=tuple(commands), libraries=tuple(libraries))


def missing_needs(needs: Needs, *, path: str, exists: Exists) -> Needs:
    """What is not there (pure).

    Args:
        path: the run image's `PATH`, empty for the usual one.
        exists: whether an absolute path is in the run image.
    """
    programs = [folder for folder in (path or _PATH).split(":") if folder.startswith("/")]
    return Needs(
        commands=_absent(needs.commands, programs, exists),
        libraries=_absent(needs.libraries, _LIBRARY_FOLDERS, exists),
    )


def check_needs(
    needs: Needs,
    trees: Sequence[Path],
    env: Mapping[str, str],
    run_image: Reference,
) -> str:
    """Hold *needs* against the run image.

    Args:
        trees: the run image's folders, uppermost first.
        env: the run image's variables.

    Returns:
        A sentence about libraries that it lacks, for a warning; empty if it lacks none.

    Raises:
        HakoError: a command is missing.
    """
    missing = missing_needs(
        needs,
        path=env.get("PATH", ""),
        exists=lambda path: find(trees, path.lstrip("/")) is not None,
    )
    if missing.commands:
        raise HakoError(
            f"the app cannot run on {run_image.short}",
            why=f"its start command needs {_listed(missing.commands)}, which that run image does not have",
            fix="choose a run image that has it (--run-image), or start without a shell "
            "(a Procfile command without variables, pipes and `&&`)",
        )
    if missing.libraries:
        return f"{run_image.short} lacks {_listed(missing.libraries)}: add the packages in a run.Dockerfile"
    return ""


def _absent(names: Iterable[str], folders: Sequence[str], exists: Exists) -> tuple[str, ...]:
    return tuple(
        name
        for name in names
        if not any(exists(f"{folder.rstrip('/')}/{name}") for folder in folders)
    )


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
