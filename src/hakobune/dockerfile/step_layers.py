"""The layers of stages while they are built: what lies under a step, the top that it writes, the layer made of that.

A step's top is the next step's lower at once; its digest, and the compressed blob if an image needs it, are made in the
background meanwhile.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from msgspec import Struct

from hakobune.dockerfile.errors import DockerfileError
from hakobune.errors import HakoError
from hakobune.oci.descriptor import Descriptor
from hakobune.oci.digest import Digest
from hakobune.oci.manifest import Image, Layer
from hakobune.oci.snapshot import LOCK, TREE, Snapshot, diff_key
from hakobune.oci.store import Store

if TYPE_CHECKING:  # a build that finds everything in its cache writes no layer
    from concurrent.futures import Future, ThreadPoolExecutor

    from hakobune.dockerfile.instructions import Position
    from hakobune.oci.seal import Sealed

Written = Callable[[Descriptor | None, Digest], None]


class StepLayer(Struct, eq=False):
    """One layer of a stage. Made by `StageLayers`.

    Attributes:
        created: when its step ran (RFC 3339); empty for a base image's.
        at: the step's instruction; `None` for a base image's.
        blob: `None` while it is being written, and for good if no image has it.
    """

    created: str = ""
    at: Position | None = None
    blob: Descriptor | None = None
    diff_id: Digest | None = None
    snapshot: Snapshot | None = None
    # While it is being written: its top, and who waits for the end.
    tree: Path | None = None
    writing: Future[None] | None = None

    @property
    def is_known(self) -> bool:
        """Whether its digests are known already."""
        return self.diff_id is not None

    def wait(self) -> Digest:
        """Its diff_id, when all of it is there.

        Raises:
            DockerfileError, OSError: it could not be written.
        """
        if self.writing is not None:
            try:
                self.writing.result()
            except DockerfileError:  # of a layer under it
                raise
            except HakoError as error:
                assert self.at is not None
                raise DockerfileError.at(self.at, error) from error
        assert self.diff_id is not None
        return self.diff_id

    def wait_for_blob(self) -> Layer:
        """The layer of an image, when it is there.

        Raises:
            DockerfileError, OSError: it could not be written.
        """
        diff_id = self.wait()
        assert self.blob is not None
        return Layer(self.blob, diff_id)


class Top(Struct, frozen=True):
    """A fresh top for one step; `folder` is for the mount, `up` has what is written."""

    begun: Path

    @property
    def folder(self) -> Path:
        return self.begun / "top"

    @property
    def up(self) -> Path:
        return self.folder / "up"

    @property
    def scratch(self) -> Path:
        """A folder beside it for what a step needs meanwhile; it goes with the top."""
        path = self.begun / "scratch"
        path.mkdir(exist_ok=True, mode=0o700)
        return path


class StageLayers:
    """Makes the layers of one build; threads may share it. Close it.

    Args:
        epoch: times after it become it (seconds since 1970; reproducible builds).
    """

    def __init__(self, store: Store, *, epoch: int | None = None) -> None:
        self._store = store
        self._epoch = epoch
        # One layer at a time: each is hashed and compressed by several threads.
        self._writer: ThreadPoolExecutor | None = None
        self._moving = Lock()
        self._of_images: dict[Digest, tuple[StepLayer, ...]] = {}
        self._holds: list[int] = []

    def of_image(self, image: Image) -> tuple[StepLayer, ...]:
        """A base image's layers: the same objects each time."""
        with self._moving:
            if image.digest not in self._of_images:
                pairs = zip(image.manifest.layers, image.diff_ids, strict=True)
                layers = tuple(StepLayer(blob=blob, diff_id=diff_id) for blob, diff_id in pairs)
                self._of_images[image.digest] = layers
            return self._of_images[image.digest]

    def of_record(
        self,
        blob: Descriptor | None,
        diff_id: Digest,
        *,
        created: str,
        at: Position,
        completed: Written | None,
    ) -> StepLayer:
        """A layer that an earlier build has made.

        Args:
            at: the instruction that needs it.
            completed: an image needs its blob, which is made if it is missing, and this called as in `keep`.
        """
        layer = StepLayer(created=created, at=at, blob=blob, diff_id=diff_id)
        if blob is None and completed is not None:
            layer.writing = self._threads().submit(self._complete, layer, completed)
        return layer

    @contextmanager
    def lowers(self, layers: Sequence[StepLayer]) -> Iterator[tuple[Path, ...]]:
        """The directories of *layers* (base first), uppermost first, at least one; they stay where they are in the block.

        Raises:
            HakoError: a layer cannot be unpacked.
        """
        self._unpack(layers)
        with self._moving:
            found: list[Path] = []
            for layer in reversed(layers):
                if layer.snapshot is not None:
                    found += layer.snapshot.lower_dirs()
                else:
                    assert layer.tree is not None
                    found.append(layer.tree)
            yield tuple(found) or (self._nothing(),)

    def new_top(self) -> Top:
        """A top that belongs to this process; give it to `keep` or `discard`."""
        return Top(self._store.begin_snapshot())

    def discard(self, top: Top) -> None:
        """Throw a top away, with what a failed step wrote."""
        self._store.discard_snapshot(top.begun)

    def keep(
        self, top: Top, *, created: str, at: Position, in_image: bool, written: Written
    ) -> StepLayer:
        """Make the layer of a top whose mount is gone; it can be a lower at once.

        Args:
            at: the instruction that wrote it.
            in_image: it needs a blob, not only a name.
            written: called, in another thread, when the layer is in the store; layers given before are there by then.
        """
        from hakobune.oci.seal import seal

        tree = top.begun / TREE
        tree.rmdir()
        os.rename(top.up, tree)
        sealed = seal(str(tree), None, stacked=True)
        if self._epoch is not None:
            _clamp_times(str(tree), self._epoch * 10**9)
        # Should the same layer be there already, this tree goes to the trash, and may be a lower still.
        lock = os.open(top.begun / LOCK, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_SH)
        self._holds.append(lock)
        layer = StepLayer(created=created, at=at, tree=tree)
        layer.writing = self._threads().submit(
            self._write, layer, top, sealed, written, in_image=in_image
        )
        return layer

    def close(self) -> None:
        """Wait for what is being written."""
        if self._writer is not None:
            self._writer.shutdown()
        for lock in self._holds:
            os.close(lock)
        self._holds.clear()

    def _threads(self) -> ThreadPoolExecutor:
        from concurrent.futures import ThreadPoolExecutor

        with self._moving:
            self._writer = self._writer or ThreadPoolExecutor(1, thread_name_prefix="layers")
            return self._writer

    def _write(
        self, layer: StepLayer, top: Top, sealed: Sealed, written: Written, *, in_image: bool
    ) -> None:
        from shutil import rmtree

        from hakobune.oci.base_layer import digest_base_layer, write_base_layer

        assert layer.tree is not None
        blob = None
        if in_image:
            made = write_base_layer(
                self._store, layer.tree, latest_mtime=self._epoch, bare=sealed.bare
            )
            blob, diff_id = made.blob, made.diff_id
        else:
            diff_id = digest_base_layer(layer.tree, latest_mtime=self._epoch, bare=sealed.bare)
        rmtree(top.folder, ignore_errors=True)
        rmtree(top.begun / "scratch", ignore_errors=True)
        with self._moving:
            layer.snapshot = self._store.finish_snapshot(
                top.begun,
                diff_id=diff_id,
                entries=sealed.entries,
                size_bytes=sealed.size_bytes,
            )
            layer.tree = None
        layer.blob, layer.diff_id = blob, diff_id
        written(blob, diff_id)

    def _complete(self, layer: StepLayer, completed: Written) -> None:
        """Make the blob of a layer that has only a snapshot."""
        from hakobune.oci.base_layer import write_base_layer

        self._unpack([layer])
        assert layer.snapshot is not None
        made = write_base_layer(self._store, layer.snapshot.tree, latest_mtime=self._epoch)
        if made.diff_id != layer.diff_id:
            raise HakoError(
                "a layer of an earlier build cannot be used",
                why=f"the files in {layer.snapshot.tree} were changed since",
                fix="build with --no-cache",
            )
        layer.blob = made.blob
        completed(made.blob, made.diff_id)

    def _unpack(self, layers: Sequence[StepLayer]) -> None:
        """Find or make the snapshots of the layers that are in the store.

        Those of a base image may need what lies under them; those of steps stand alone.
        """
        base = [layer for layer in layers if not layer.created]
        if any(layer.snapshot is None for layer in base):
            self._find(base)
        for layer in layers[len(base) :]:
            if layer.tree is None and layer.snapshot is None:  # in this order: it moves meanwhile
                self._find([layer])

    def _find(self, layers: Sequence[StepLayer]) -> None:
        if layers[0].blob is None:  # found by its snapshot, which is kept since
            assert layers[0].diff_id is not None
            layers[0].snapshot = self._store.open_snapshot(diff_key(layers[0].diff_id))
            return
        blobs = [layer.blob for layer in layers if layer.blob is not None]
        diff_ids = [layer.diff_id for layer in layers if layer.diff_id is not None]
        for layer, snapshot in zip(
            layers, self._store.layer_snapshots(blobs, diff_ids), strict=True
        ):
            layer.snapshot = snapshot

    def _nothing(self) -> Path:
        """An empty directory, for stages that begin from scratch: an overlay needs a lower."""
        path = self._store.home / "dockerfile" / "nothing"
        path.mkdir(parents=True, exist_ok=True, mode=0o755)
        return path


def _clamp_times(directory: str, latest_ns: int) -> None:
    """Give what is younger that time, as `--timestamp` promises."""
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False):
            _clamp_times(entry.path, latest_ns)
        else:
            _clamp(entry.path, entry.stat(follow_symlinks=False), latest_ns)
    _clamp(directory, os.lstat(directory), latest_ns)


def _clamp(path: str, status: os.stat_result, latest_ns: int) -> None:
    whiteout = stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
    if status.st_mtime_ns > latest_ns and not whiteout:
        os.utime(path, ns=(latest_ns, latest_ns), follow_symlinks=False)
