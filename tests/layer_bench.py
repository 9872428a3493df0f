"""Layers that are built over each other on a real overlay, for tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hakobune.oci.digest import Digest
from hakobune.oci.kept_layer import BuiltLayer, keep_layers
from hakobune.oci.layer import Owner
from hakobune.oci.settle import Outcome, Settled, settle
from hakobune.oci.snapshot import Snapshot
from hakobune.oci.store import Store
from tests.mounts import overlay

# `$PYTHON`: whatever `python3` on PATH is may need a current directory that has a name.
_ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHON": sys.executable}
OWNER = Owner(1001, 1000)
Picture = dict[str, tuple[object, ...]]


@dataclass
class Bench:
    """A store, a base directory with /layers, /workspace and /usr/tool, and what builds make of them."""

    store: Store
    folder: Path
    mounts: int = 0

    def __post_init__(self) -> None:
        self.base = self.folder / "base"
        for name in ("layers", "workspace", "usr"):
            (self.base / name).mkdir(parents=True)
        (self.base / "usr" / "tool").write_text("from the image")

    def build(
        self,
        tool: str | Callable[[Path], None],
        kept: Mapping[str, Snapshot],
        launch: Mapping[str, bool],
    ) -> Build:
        """Mount what was kept, run a shell script (or a function) in the root, settle; then the overlay is gone.

        Args:
            launch: the layers by path, and whether each is launched.
        """
        lowers = [*(d for s in kept.values() for d in s.lower_dirs()), self.base]
        top = self._new_top()
        with overlay(lowers, top) as merged:
            if callable(tool):
                tool(merged)
            else:
                subprocess.run(["sh", "-euc", tool], cwd=merged, check=True, env=_ENVIRONMENT)
            settled = {
                path: settle(top / "up", path, kept.get(path), launch=launched)
                for path, launched in launch.items()
            }
            shown = {path: picture(merged / path) for path in launch}
        return Build(self, top, kept, launch, settled, shown, lowers)

    def look(self, snapshots: Collection[Snapshot], path: str) -> Picture:
        """What a container sees at *path* with these snapshots over the base."""
        lowers = [*(d for s in snapshots for d in s.lower_dirs()), self.base]
        with overlay(lowers, self._new_top()) as merged:
            return picture(merged / path)

    def _new_top(self) -> Path:
        self.mounts += 1
        return self.folder / f"top{self.mounts}"


@dataclass
class Build:
    """A build that has ended."""

    bench: Bench
    top: Path
    kept: Mapping[str, Snapshot]
    launch: Mapping[str, bool]
    settled: dict[str, Settled]
    shown: dict[str, Picture]
    lowers: Sequence[Path]

    def keep(self) -> dict[str, Snapshot]:
        """The snapshots of the layers that exist now, by path."""
        layers = [self._built(path) for path in self.launch]
        done = keep_layers(
            self.bench.store, self.top / "up", layers, owner=OWNER, lowers=self.lowers
        )
        return {path: made for path, made in zip(self.launch, done, strict=True) if made}

    def _built(self, path: str) -> BuiltLayer:
        kept, unchanged = self.kept.get(path), self.settled[path].outcome == Outcome.UNCHANGED
        # Stands for the digest of the exported tar: equal pictures have equal ones.
        picture_id = Digest.of(repr((path, self.shown[path])).encode())
        return BuiltLayer(
            path=path,
            kept=kept,
            changed=not unchanged,
            launch=self.launch[path],
            diff_id=picture_id if self.launch[path] else None,
        )


def picture(directory: Path) -> Picture:
    """Everything below *directory* by name: kind and mode, and the content or target."""
    found: Picture = {}
    for path in sorted(directory.rglob("*")):
        content: object = None
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = path.read_bytes()
        found[str(path.relative_to(directory))] = (oct(path.lstat().st_mode), content)
    return found


def files_in(snapshot: Snapshot) -> list[str]:
    """What a snapshot's own tree holds, except directories, from the root."""
    return sorted(
        str(path.relative_to(snapshot.tree))
        for path in snapshot.tree.rglob("*")
        if path.is_symlink() or not path.is_dir()
    )
