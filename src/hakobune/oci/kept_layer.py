"""A build's top becomes snapshots: what the build kept, made of what it wrote over what it had.

How a build uses it (each step in its place; `layers/BP/NAME` is the layer from the root, without a leading slash)::

    # restore: what the last build kept, mounted under the new top
    kept = store.open_snapshot(key)             # None: gone, build the layer anew
    rootfs = RootFs(lowers=(*kept.lower_dirs(), …, *image layers), top=top, redirect_dir=True)
    hold = store.hold([kept, …])                # until the overlay is gone

    # export: nobody writes any more, the merged view is still there
    settled = settle(top / "up", "layers/BP/NAME", kept, launch=True)
    # UNCHANGED: the last image's Layer again. REMOVED: no layer. CHANGED, UNSURE: write_layer(...) reads the merged
    # view; if the diff_id is the last one's after all, it is unchanged too.

    # afterwards: the overlay is gone, all layers at once, the unchanged ones too
    snapshots = keep_layers(store, top / "up", [
        BuiltLayer(path="layers/BP/NAME", kept=kept, changed=True, launch=True, diff_id=layer.diff_id),
        BuiltLayer(path="layers/BP/cache", kept=old_cache, changed=True, launch=False),
    ], owner=Owner(1001, 1000), lowers=rootfs.lowers)
    store.set_root("builds", name, [s.key for s in snapshots if s])      # before the store is closed
    # one answer a layer, in order; None: there is no such layer (any more). The top can be thrown away.

Rules (facts/overlay.md 4-6, 10): launch layers are sealed to what their tar says; others keep their times. Copies
that equal what lies below are dropped, or become links to it. No redirect and no overlay attribute but "opaque"
leaves the top. Stacks that are 8 deep, or heavier than their base, are merged by hard links.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hakobune.oci.blobs import room_for
from hakobune.oci.digest import Digest
from hakobune.oci.merge import merge
from hakobune.oci.merged import find, is_opaque
from hakobune.oci.seal import SEALED_NS, Sealed, seal
from hakobune.oci.settle import InTop, find_in_top, metadata_difference
from hakobune.oci.snapshot import DEEPEST_STACK, TREE, Snapshot
from hakobune.oci.top_change import (
    EqualCopies,
    Inode,
    Redirects,
    link_to_originals,
    note_originals,
)

if TYPE_CHECKING:
    from hakobune.oci.layer import Owner
    from hakobune.oci.store import Store

# Of the directories above a layer, as the export writes them into every tar.
PARENT_MODE = 0o755


class BuiltLayer(msgspec.Struct, frozen=True, kw_only=True):
    """One layer of a build that has ended."""

    path: str
    # What was mounted below for this layer.
    kept: Snapshot | None
    # What `settle` and the export found; an unchanged layer keeps its snapshot.
    changed: bool
    launch: bool
    # Of a launch layer, as it was exported.
    diff_id: Digest | None = None


def keep_layers(
    store: Store,
    upper: Path,
    layers: Sequence[BuiltLayer],
    *,
    owner: Owner,
    lowers: Sequence[Path],
) -> tuple[Snapshot | None, ...]:
    """Turn a top's layer directories into snapshots, one answer a layer in order; `None` where there is no layer.

    The overlay must be gone and *upper* on the store's file system; the directories of changed layers are moved out.
    Old snapshots stay as they are, except that a file of a cache-only layer may get a newer time, or be sealed when
    a launch layer shares it. If this fails or is killed, the old snapshots are whole and the new ones unreachable.

    Args:
        owner: of everything in launch layers, and of the directories above each layer.
        lowers: everything that was mounted under the top, uppermost first; moved directories are found there.

    Raises:
        StoreFullError: the disk is full.
    """
    work = [_Work.of(upper, layer) for layer in layers]
    shareable = {str(t) for layer in layers if layer.kept for t in layer.kept.lower_dirs()}
    redirects = Redirects(lowers, shareable)
    originals: dict[Inode, str] = {}
    with room_for("the layers of the build", store.home):
        for item in work:
            item.resolve(redirects)
        newer = [item.drop_equal(originals) for item in work]
        for item in work:
            item.link_shared(originals)
        for times in newer:
            _set_times(times)
        return tuple(item.keep(store, owner) for item in work)


class _Work(msgspec.Struct, frozen=True):
    """A layer on its way from the top into the store."""

    layer: BuiltLayer
    top: InTop
    # What the kept snapshot has at the layer's path, uppermost first.
    below: tuple[str, ...]

    @classmethod
    def of(cls, upper: Path, layer: BuiltLayer) -> _Work:
        shown = find(layer.kept.lower_dirs(), layer.path) if layer.kept else None
        return cls(layer, find_in_top(upper, layer.path), shown.merged if shown else ())

    def resolve(self, redirects: Redirects) -> None:
        if self.layer.changed and self.top.directory:
            redirects.resolve(self.top.directory, f"/{self.layer.path}", self.below)

    def drop_equal(self, originals: dict[Inode, str]) -> dict[str, int]:
        """Leave in the top what differs; gives files below that are to have a newer time."""
        if not self.top.directory:
            return {}
        if not self.layer.changed:
            note_originals(self.top.directory, self.below, originals)
            return {}
        copies = EqualCopies(launch=self.layer.launch, originals=originals)
        copies.drop(self.top.directory, self.below, hidden=self.top.hidden)
        return copies.newer

    def link_shared(self, originals: dict[Inode, str]) -> None:
        if originals and self.layer.changed and self.top.directory:
            link_to_originals(self.top.directory, originals)

    def keep(self, store: Store, owner: Owner) -> Snapshot | None:
        kept, directory = self.layer.kept, self.top.directory
        if not self.layer.changed:
            return kept
        if directory is None and (self.top.hidden or not self.below):
            return None
        if kept is not None and not self._is_different(directory, kept):
            return kept
        begun = store.begin_snapshot()
        try:
            target = _make_parents(begun / TREE, self.layer.path, owner)
            below, sealed = self._fill(target, owner if self.layer.launch else None)
            _seal_parents(begun / TREE, self.layer.path)
            return store.finish_snapshot(
                begun,
                diff_id=self.layer.diff_id,
                below=below,
                entries=sealed.entries,
                size_bytes=sealed.size_bytes,
            )
        finally:
            store.discard_snapshot(begun)

    def _is_different(self, directory: str | None, kept: Snapshot) -> bool:
        """Whether anything is left in the top now that equal copies are gone (or the layer gets another identity)."""
        if self.layer.launch:
            return kept.diff_id != self.layer.diff_id
        if directory is None:
            return False
        if not self.below or is_opaque(directory) or os.listdir(directory):
            return True
        difference = metadata_difference(
            os.lstat(directory), os.lstat(self.below[0]), launch=self.layer.launch
        )
        return difference is not None

    def _fill(self, target: str, owner: Owner | None) -> tuple[tuple[Snapshot, ...], Sealed]:
        """Make *target* the new snapshot's layer; gives what it lies on and what it holds."""
        directory, kept = self.top.directory, self.layer.kept
        if directory is None:
            merge(self.below, target)
            return (), seal(target, owner, stacked=False)
        if kept is None or not self.below or is_opaque(directory):
            os.rename(directory, target)
            return (), seal(target, owner, stacked=False)
        sealed = seal(directory, owner, stacked=True)
        if _should_merge(kept, sealed, launch=self.layer.launch):
            merge((directory, *self.below), target)
            return (), seal(target, owner, stacked=False)
        os.rename(directory, target)
        return kept.levels, sealed


def _should_merge(kept: Snapshot, top: Sealed, *, launch: bool) -> bool:
    """Whether one more level would make the stack too deep, or heavier than what it changes (Rule 10)."""
    if launch and kept.diff_id is None:
        return True  # what was not launched before is not sealed
    *changes, base = kept.levels
    changed = top.size_bytes + sum(level.size_bytes for level in changes)
    return len(kept.levels) >= DEEPEST_STACK or changed > base.size_bytes


def _make_parents(tree: Path, path: str, owner: Owner) -> str:
    """Make the directories above the layer, as its tar has them; gives where the layer itself belongs."""
    for relative in _parents(path):
        directory = f"{tree}/{relative}"
        os.mkdir(directory)
        os.chown(directory, owner.uid, owner.gid)
        os.chmod(directory, PARENT_MODE)
    return f"{tree}/{path}"


def _seal_parents(tree: Path, path: str) -> None:
    """Set their times, now that the layer is in its place."""
    for relative in _parents(path):
        os.utime(f"{tree}/{relative}", ns=(SEALED_NS, SEALED_NS))


def _parents(path: str) -> tuple[str, ...]:
    """The directories above *path*, outermost first."""
    names = path.split("/")
    return tuple("/".join(names[:i]) for i in range(1, len(names)))


def _set_times(times: dict[str, int]) -> None:
    for path, mtime_ns in times.items():
        os.utime(path, ns=(mtime_ns, mtime_ns))
