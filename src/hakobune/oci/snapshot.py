"""Snapshots: layers on disk as immutable directories for overlayfs, `snapshots/KEY/`.

A snapshot is one directory or a short stack of them; code asks for `lower_dirs()` and assumes no more.

Keys: `d-HEX` (diff_id) if the layer's tar names every parent directory, else `c-HEX` (chain_id), whose implied
parents are copied from what lies below; `kept-RANDOM` for a layer that a build keeps and no image has.

Beside each tree lie `layer.json` (what it is, and the boot that wrote it until a sync) and `lock`: whoever mounts
the tree holds a shared flock on it, so that the collector does not unlink a mounted lower.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from hakobune.errors import HakoError
from hakobune.oci.digest import Digest
from hakobune.support.files import write_atomically

TREE = "tree"
LOCK = "lock"
RECORD = "layer.json"
# Deeper stacks cost the mount and the collector, not the builds (facts: 18 lowers are as fast as one).
DEEPEST_STACK = 8


class SnapshotGoneError(HakoError):
    """A snapshot was collected before it could be held."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"the snapshot {key} is gone",
            why="nothing kept it when the store was cleaned",
            fix="run the command again: it is unpacked or built anew",
        )
        self.key = key


class SnapshotRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`layer.json`."""

    # The boot in which the tree was written and not yet synced; empty once it is on the disk.
    boot_id: str = ""
    diff_id: str = ""
    # Keys of the snapshots under this one, uppermost first: this tree is what changed on top of them.
    below: tuple[str, ...] = ()
    # Entries and bytes of regular files in this tree alone.
    entries: int = 0
    size_bytes: int = 0


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """An immutable layer on disk."""

    key: str
    directory: Path
    diff_id: Digest | None = None
    below: tuple[Snapshot, ...] = ()
    entries: int = 0
    size_bytes: int = 0

    @property
    def tree(self) -> Path:
        """The directory that is mounted; with `below`, only what differs from them."""
        return self.directory / TREE

    @property
    def levels(self) -> tuple[Snapshot, ...]:
        """This snapshot alone and those under it, uppermost first."""
        return (self, *self.below)

    def lower_dirs(self) -> tuple[Path, ...]:
        """The directories to mount, uppermost first."""
        return tuple(level.tree for level in self.levels)

    def locks(self) -> tuple[Path, ...]:
        """One lock file a directory: a shared flock on each keeps them from being unlinked."""
        return tuple(level.directory / LOCK for level in self.levels)

    def total_entries(self) -> int:
        """Entries of all levels together; what the merged tree has at most."""
        return sum(level.entries for level in self.levels)


def stacked_dirs(snapshots: Sequence[Snapshot]) -> tuple[Path, ...]:
    """The directories of an image's snapshots (base first) as a mount and `merged.find` take them: uppermost first."""
    return tuple(path for snapshot in reversed(snapshots) for path in snapshot.lower_dirs())


class Hold:
    """Shared flocks on snapshots, from `Store.hold`; released by `close` or the end of the last process that has them."""

    def __init__(self, fds: Sequence[int]) -> None:
        self.fds = tuple(fds)

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def make_inheritable(self) -> None:
        """Let programs that this process executes hold the snapshots too (and after it)."""
        for descriptor in self.fds:
            os.set_inheritable(descriptor, True)

    def close(self) -> None:
        fds, self.fds = self.fds, ()
        for descriptor in fds:
            os.close(descriptor)


def chain_ids(diff_ids: Iterable[Digest]) -> Iterator[Digest]:
    """The chain_id of each layer, base first (image-spec config.md "Layer ChainID")."""
    chain: Digest | None = None
    for diff_id in diff_ids:
        chain = Digest.of(f"{chain} {diff_id}".encode()) if chain else diff_id
        yield chain


def diff_key(diff_id: Digest) -> str:
    """The key of a layer whose tar names every parent directory."""
    return f"d-{diff_id.hex}"


def chain_key(chain_id: Digest) -> str:
    """The key of a layer whose tree depends on what lies below it."""
    return f"c-{chain_id.hex}"


class SnapshotFolder:
    """The folders `KEY/` below `snapshots/`. Knows nothing of images, roots or the store's lock."""

    def __init__(self, folder: Path, boot: str) -> None:
        self.folder = folder
        self.boot = boot
        self.new = folder / ".new"
        self.trash = folder / ".trash"

    def open(self, key: str) -> Snapshot | None:
        """The finished snapshot of that key; `None` if there is none that can be trusted.

        One that an older boot wrote and nobody synced is not trusted, and neither is one that lies on it.
        """
        record = self.read_record(key)
        if record is None or (record.boot_id and record.boot_id != self.boot):
            return None
        below = []
        for lower in record.below:
            snapshot = self.open(lower)
            if snapshot is None:
                return None
            below.append(_alone(snapshot))
        return self._snapshot(key, record, tuple(below))

    def read_record(self, key: str) -> SnapshotRecord | None:
        try:
            with open(f"{self.folder}/{key}/{RECORD}", "rb", buffering=0) as file:
                return msgspec.json.decode(file.read(), type=SnapshotRecord)
        except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
            return None  # a damaged record is as good as none: power was lost

    def begin(self, owner: str) -> Path:
        """A fresh folder with an empty `tree` in it; its name says whose it is (a lease's name)."""
        folder = self.new / f"{owner}.{os.urandom(4).hex()}"
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Setuid programs of images lie below with their real owners: only root may get there.
        try:
            (folder / TREE).mkdir(parents=True, mode=0o755)
        except OSError:
            with contextlib.suppress(OSError):  # the disk is full
                folder.rmdir()
            raise
        (folder / TREE).chmod(0o755)
        return folder

    def write_record(self, begun: Path, record: SnapshotRecord) -> None:
        """Complete a folder of `begin`; it becomes a snapshot by `publish`."""
        os.close(os.open(begun / LOCK, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        write_atomically(begun / RECORD, msgspec.json.encode(record), mode=0o600)

    def publish(self, begun: Path, key: str) -> Snapshot:
        """Give the completed folder its key; if another process was first, its snapshot is the answer."""
        target = self.folder / key
        while True:
            try:
                os.rename(begun, target)
            except OSError:
                if not target.exists():
                    raise
            snapshot = self.open(key)
            if snapshot is not None:
                if begun.exists():
                    self.discard(begun)
                return snapshot
            self.discard(target)  # left by an older boot

    def discard(self, folder: Path) -> None:
        """Move a folder out of the way; it is unlinked by a later `empty_trash`."""
        self.trash.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            os.rename(folder, self.trash / f"{folder.name}.{os.urandom(4).hex()}")
        except FileNotFoundError:
            return

    def empty_trash(self, removed: Callable[[], None]) -> int:
        """Unlink what nobody holds; gives how many folders stay because somebody does."""
        from shutil import rmtree

        held = 0
        for folder in _folders(self.trash):
            try:
                lock = _lock_alone(folder / LOCK)
            except FileNotFoundError:
                continue  # another collector has removed it
            if lock is None:
                held += 1
                continue
            try:
                rmtree(folder, ignore_errors=True)
                removed()
            finally:
                os.close(lock)
        return held

    def mark_synced(self, key: str) -> None:
        """The tree is on the disk: it outlives this boot."""
        record = self.read_record(key)
        if record is not None and record.boot_id == self.boot:
            synced = msgspec.structs.replace(record, boot_id="")
            write_atomically(self.folder / key / RECORD, msgspec.json.encode(synced), mode=0o600)

    def list_keys(self) -> tuple[str, ...]:
        """Every folder that has a key, finished or left by an older boot."""
        return tuple(f.name for f in _folders(self.folder) if not f.name.startswith("."))

    def begun(self) -> tuple[Path, ...]:
        """What processes are filling, or were when they were killed."""
        return _folders(self.new)

    def is_held(self, key: str) -> bool:
        """Whether a mount uses the snapshot. For the holder of the store's exclusive lock: nobody can begin meanwhile."""
        lock = _lock_alone(self.folder / key / LOCK)
        if lock is None:
            return True
        os.close(lock)
        return False

    def take_locks(self, snapshots: Iterable[Snapshot]) -> Hold:
        """Shared flocks on every directory of *snapshots*, each once.

        Raises:
            SnapshotGoneError: the collector was faster.
        """
        fds: list[int] = []
        try:
            for path in dict.fromkeys(lock for s in snapshots for lock in s.locks()):
                fds.append(_lock_shared(path))
        except BaseException:
            Hold(fds).close()
            raise
        return Hold(fds)

    def _snapshot(self, key: str, record: SnapshotRecord, below: tuple[Snapshot, ...]) -> Snapshot:
        return Snapshot(
            key=key,
            directory=self.folder / key,
            diff_id=Digest.parse(record.diff_id) if record.diff_id else None,
            below=below,
            entries=record.entries,
            size_bytes=record.size_bytes,
        )


def random_key() -> str:
    """A key for a layer that no image has."""
    return "kept-" + hashlib.sha256(os.urandom(32)).hexdigest()[:32]


def _alone(snapshot: Snapshot) -> Snapshot:
    return Snapshot(
        key=snapshot.key,
        directory=snapshot.directory,
        diff_id=snapshot.diff_id,
        entries=snapshot.entries,
        size_bytes=snapshot.size_bytes,
    )


def _lock_shared(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise SnapshotGoneError(path.parent.name) from error
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    if not _is_still(path, descriptor):
        os.close(descriptor)
        raise SnapshotGoneError(path.parent.name)
    return descriptor


def _lock_alone(path: Path) -> int | None:
    """The lock of a folder in the trash, made if it was never finished; `None` if somebody holds it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _folders(folder: Path) -> tuple[Path, ...]:
    try:
        return tuple(sorted(path for path in folder.iterdir() if path.is_dir()))
    except FileNotFoundError:
        return ()
