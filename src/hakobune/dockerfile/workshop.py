"""What all steps of one build share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from msgspec import Struct, field

from hakobune.dockerfile.cache import StepCache
from hakobune.dockerfile.instructions import Network, Run
from hakobune.dockerfile.report import Report
from hakobune.dockerfile.request import DockerfileRequest
from hakobune.dockerfile.rooms import Rooms
from hakobune.dockerfile.shared_steps import SharedSteps
from hakobune.dockerfile.source_tree import SourceTree
from hakobune.dockerfile.stage_state import StageState
from hakobune.dockerfile.step_layers import StageLayers, StepLayer
from hakobune.errors import HakoError
from hakobune.oci.store import Store
from hakobune.settings import Settings

if TYPE_CHECKING:  # a build that finds everything in its cache opens no sandbox
    from hakobune.dockerfile.add_url import Download
    from hakobune.runtime.sandbox import Sandbox


class CancelledError(HakoError):
    """Another stage has failed; this one was ended."""

    def __init__(self) -> None:
        super().__init__("the build was ended")


class Workshop(Struct, eq=False):
    """Threads, one a stage, share it.

    Attributes:
        context: the build context, without what its ignore file leaves out.
        find_source: the stage, or the image as a stage, that a `from` names; waits until it is built.
        cancelled: set when the build has failed elsewhere.
        running: sandboxes in which something runs now.
        downloaded: by URL, what this build has asked for already.
        made: how many layers this build has made.
        shared: the steps that stages have in common.
    """

    request: DockerfileRequest
    store: Store
    settings: Settings
    cache: StepCache
    layers: StageLayers
    report: Report
    rooms: Rooms
    context: SourceTree
    find_source: Callable[[str], StageState]
    cancelled: Event = field(default_factory=Event)
    running: set[Sandbox] = field(default_factory=set)
    downloaded: dict[str, Download] = field(default_factory=dict)
    made: int = 0
    shared: SharedSteps = field(default_factory=SharedSteps)

    def now(self) -> str:
        """The time for what is made now (RFC 3339, UTC)."""
        epoch = self.request.epoch
        if epoch is not None:
            return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))
        nanoseconds = time.time_ns()
        whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(nanoseconds // 10**9))
        return f"{whole}.{nanoseconds % 10**9:09d}Z"

    def has_network(self, run: Run) -> bool:
        """Whether the command reaches the outside."""
        if run.network is not None:
            return run.network is Network.DEFAULT
        return self.request.network == "default"

    def check_cancelled(self) -> None:
        """Go no further if another stage has failed.

        Raises:
            CancelledError: one has.
        """
        if self.cancelled.is_set():
            raise CancelledError

    @contextmanager
    def open_tree(
        self, name: str, *, apart_from: Sequence[StepLayer] | None = None
    ) -> Iterator[SourceTree]:
        """The merged root of the stage or image that a `from` names.

        Args:
            apart_from: folders may be read in the layers themselves, if these are others: else a file could be in an
                image twice as one file.
        """
        from hakobune.runtime import mount
        from hakobune.runtime.mount import RootFs, TmpfsTop

        stage = self.find_source(name)
        with ExitStack() as undo:
            with self.layers.lowers(stage.layers) as lowers:
                root = mount.overlay(RootFs(lowers=lowers, top=TmpfsTop(1 << 20)), None)
                undo.callback(os.close, root)
                opened = [] if apart_from is None else [hold(path, undo) for path in lowers]
            with self.layers.lowers(apart_from or ()) as others:
                known = {_inode(os.stat(path)) for path in others}
            own = frozenset(_name(fd) for fd in opened if _inode(os.fstat(fd)) not in known)
            yield SourceTree(root, lowers=tuple(map(_name, opened)), own=own)


def _name(fd: int) -> str:
    return f"/proc/self/fd/{fd}"


def _inode(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def hold(path: Path, undo: ExitStack) -> int:
    """The open directory, wherever it is moved meanwhile; *undo* closes it."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    undo.callback(os.close, fd)
    return fd
