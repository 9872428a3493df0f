"""A real overlay for tests: a detached mount that lives as long as its descriptor, so nothing needs an unmount."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hakobune.oci.kept_layer import BuiltLayer, keep_layers
from hakobune.oci.layer import Owner
from hakobune.oci.seal import seal
from hakobune.oci.settle import Settled, settle
from hakobune.oci.snapshot import TREE, Snapshot
from hakobune.oci.store import Store

_libc = ctypes.CDLL(None, use_errno=True)
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6
_CLOEXEC = 1

OWNER = Owner(1001, 1000)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


@contextmanager
def overlay(lowers: Sequence[Path], top: Path) -> Iterator[Path]:
    """The merged view of *lowers* (uppermost first) under `top/up`, with the options of a build's top."""
    (top / "up").mkdir(parents=True, exist_ok=True)
    (top / "wk").mkdir()
    fs = _call(_FSOPEN, b"overlay", _CLOEXEC)
    try:
        for lower in lowers:
            _call(_FSCONFIG, fs, _SET_STRING, b"lowerdir+", os.fsencode(lower), 0)
        options = {
            "upperdir": str(top / "up"),
            "workdir": str(top / "wk"),
            "redirect_dir": "on",
            "metacopy": "off",
            "index": "off",
            "xino": "off",
        }
        for key, value in options.items():
            _call(_FSCONFIG, fs, _SET_STRING, key.encode(), value.encode(), 0)
        _call(_FSCONFIG, fs, _SET_FLAG, b"volatile", None, 0)
        _call(_FSCONFIG, fs, _CREATE, None, None, 0)
        mount = _call(_FSMOUNT, fs, _CLOEXEC, 0)
    finally:
        os.close(fs)
    try:
        yield Path(f"/proc/{os.getpid()}/fd/{mount}")
    finally:
        os.close(mount)


def run(merged: Path, script: str) -> None:
    """Run a shell script in the merged view."""
    subprocess.run(["sh", "-euc", script], cwd=merged, check=True)


@dataclass
class Bench:
    """A store, a base directory, and layers that are built over each other."""

    store: Store
    folder: Path
    builds: int = 0

    @property
    def base(self) -> Path:
        """What a build image has: /layers and /workspace."""
        base = self.folder / "base"
        if not base.exists():
            for name in ("layers", "workspace", "usr"):
                (base / name).mkdir(parents=True)
            (base / "usr" / "tool").write_text("from the image")
        return base

    def build(
        self, script: str | Callable[[Path], None], kept: dict[str, Snapshot], launch: dict[str, bool]
    ) -> Build:
        """Mount what was kept, run *script* in it, settle; then the overlay is gone."""
        self.builds += 1
        top = self.folder / f"top{self.builds}"
        lowers = [*(d for s in kept.values() for d in s.lower_dirs()), self.base]
        with overlay(lowers, top) as merged:
            if callable(script):
                script(merged)
            else:
                run(merged, script)
            settled = {
                path: settle(top / "up", path, kept.get(path), launch=is_launch)
                for path, is_launch in launch.items()
            }
            shown = {path: picture(merged / path) for path in launch if (merged / path).is_dir()}
        return Build(self, top, kept, launch, settled, shown, tuple(lowers))


@dataclass
class Build:
    bench: Bench
    top: Path
    kept: dict[str, Snapshot]
    launch: dict[str, bool]
    settled: dict[str, Settled]
    # What each layer looked like in the merged view.
    shown: dict[str, dict[str, tuple[object, ...]]]
    lowers: tuple[Path, ...]

    def keep(self, *, unchanged: Sequence[str] = ()) -> dict[str, Snapshot]:
        """Make snapshots of everything but *unchanged*; those that exist, by path."""
        from hakobune.oci.digest import Digest

        layers = [
            BuiltLayer(
                path=path,
                kept=self.kept.get(path),
                changed=path not in unchanged,
                launch=is_launch,
                diff_id=Digest.of(repr((path, self.shown.get(path))).encode()) if is_launch else None,
            )
            for path, is_launch in self.launch.items()
        ]
        done = keep_layers(
            self.bench.store, self.top / "up", layers, owner=OWNER, lowers=self.lowers
        )
        return {
            path: snapshot for path, snapshot in zip(self.launch, done, strict=True) if snapshot
        }


def picture(directory: Path) -> dict[str, tuple[object, ...]]:
    """Everything below *directory* by name: kind, mode, and content, target or nothing."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        content: object = None
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = path.read_bytes()
        found[str(path.relative_to(directory))] = (oct(status.st_mode), content)
    return found


def mounted_picture(
    bench: Bench, snapshots: Sequence[Snapshot], path: str
) -> dict[str, tuple[object, ...]]:
    """What a container sees at *path* with these snapshots mounted over the base."""
    bench.builds += 1
    lowers = [*(d for s in snapshots for d in s.lower_dirs()), bench.base]
    with overlay(lowers, bench.folder / f"view{bench.builds}") as merged:
        return picture(merged / path)


__all__ = ["OWNER", "TREE", "Bench", "Build", "mounted_picture", "overlay", "picture", "run", "seal", "shutil"]
