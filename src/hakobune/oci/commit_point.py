"""The moments at which a killed process would leave the store half-way, each with a name.

What is written is first complete under a temporary name, then visible at once. A test kills a child with
SIGKILL at each of these points and shows that the store is whole afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class CommitPoint(StrEnum):
    """Named in the order in which an image comes into being and goes."""

    BLOB_STARTED = "blob started"  # a temporary file with some of the bytes
    BLOB_WRITTEN = "blob written"  # all bytes, still under the temporary name
    BLOB_PUBLISHED = "blob published"  # under its digest, in no image yet
    MANIFEST_PUBLISHED = "manifest published"  # the image is complete, without a name
    NAMES_PUBLISHED = "names published"
    SNAPSHOT_STARTED = "snapshot started"  # an empty new folder
    SNAPSHOT_FILLED = "snapshot filled"  # the tree is complete, nothing says so yet
    SNAPSHOT_WRITTEN = "snapshot written"  # with its record, still in the new folder
    SNAPSHOT_PUBLISHED = "snapshot published"
    ROOT_PUBLISHED = "root published"
    GARBAGE_MARKED = "garbage marked"  # the collector has decided, nothing is moved
    GARBAGE_MOVED = "garbage moved"  # one thing is in the trash
    GARBAGE_REMOVED = "garbage removed"  # one thing of the trash is unlinked


Reached = Callable[[CommitPoint], None]


def pass_by(point: CommitPoint) -> None:
    """What usually happens at a commit point: nothing."""
