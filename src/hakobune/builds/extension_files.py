"""The files beside a source that extend its images: their names, and whether a glance can tell that they did not change."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

RUN_FILE: Final = "run.Dockerfile"
BUILD_FILE: Final = "build.Dockerfile"

_READS_CONTEXT = re.compile(rb"^\s*(?:ONBUILD\s+)?(?:COPY|ADD|RUN\s.*--mount)\b", re.I | re.M)


def extension_files(folder: Path) -> tuple[Path, ...]:
    """Those that are there."""
    return tuple(p for p in (folder / BUILD_FILE, folder / RUN_FILE) if p.is_file())


def reads_context(file: Path) -> bool:
    """Whether it may read other files of the folder, also such as the source copy leaves out."""
    return _READS_CONTEXT.search(file.read_bytes()) is not None
