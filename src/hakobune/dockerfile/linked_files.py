"""Files that several layers may have: a step's copy gives what is unchanged another name, no second place on the disk.

In one image no file should be there twice as one file, which `cp -a` or `tar` would keep together: an image that is pulled
has two. It still is if both layers were made before, by builds that had only one of them: a layer has one snapshot.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence


class LinkedFiles:
    """The files with several names in some layers; looked for when they are first asked for.

    Args:
        folders: open directories, which stay open meanwhile.
    """

    def __init__(self, folders: Sequence[int]) -> None:
        self._folders = folders
        self._known: frozenset[tuple[int, int]] | None = None

    def has(self, status: os.stat_result) -> bool:
        """Whether the file of that `stat` is one of them."""
        if self._known is None:
            found: set[tuple[int, int]] = set()
            for folder in self._folders:
                _collect(folder, found)
            self._known = frozenset(found)
        return (status.st_dev, status.st_ino) in self._known


def _collect(folder: int, found: set[tuple[int, int]]) -> None:
    from hakobune.oci.tree_walk import walk

    for _, _, _, status in walk(folder, b""):
        if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
            found.add((status.st_dev, status.st_ino))
