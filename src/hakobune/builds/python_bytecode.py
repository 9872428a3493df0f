"""Bytecode of a buildpack's Python files, made by the interpreter of the image that they are for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hakobune.builds.machine_tool import ALONE, run_tool

_COMPILE = """
mount --make-rprivate /
mount -t tmpfs tmpfs "$MERGED"
mkdir "$MERGED/upper" "$MERGED/work" "$MERGED/root"
mount -t overlay overlay -o "lowerdir=$LOWERS,upperdir=$MERGED/upper,workdir=$MERGED/work" "$MERGED/root"
mkdir -p "$MERGED/root$PLACE"
mount --bind "$FILES" "$MERGED/root$PLACE"
exec chroot "$MERGED/root" /usr/bin/python3 -m compileall -q --invalidation-mode unchecked-hash "$PLACE"
"""


def compile_python(lowers: Sequence[Path], files: Path, place: Path, folder: Path) -> None:
    """Compile the Python files below *files* with the interpreter of an image, as if they lay at *place* in it.

    The bytecode carries the source's hash, not its time: it stays valid in a layer, where every file is of 1980.

    Args:
        lowers: the image's directories, uppermost first.
        folder: a scratch folder.
    """
    merged = folder / "merged"
    merged.mkdir()
    run_tool(
        [*ALONE, "/bin/sh", "-eu", "-c", _COMPILE],
        {
            "LOWERS": ":".join(map(str, lowers)),
            "FILES": str(files),
            "PLACE": str(place),
            "MERGED": str(merged),
            "PYTHONHASHSEED": "0",
        },
        0,
        "cannot compile the buildpacks' Python files",
    )
