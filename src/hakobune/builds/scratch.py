"""Folders for work that is thrown away, also that of killed processes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch(parent: Path, name: str) -> Iterator[Path]:
    """A fresh folder below *parent*, gone afterwards.

    Folders of that name that killed processes left are removed: the caller holds the lock for *name*.
    """
    for left in parent.glob(f".{name}.*"):
        shutil.rmtree(left, ignore_errors=True)
    folder = parent / f".{name}.{os.getpid()}.{os.urandom(4).hex()}"
    folder.mkdir(parents=True, mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
