"""Where blobs lie, and how one gets there so that it is whole or not there: a folder, or anything else that fits `Storage`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hakobune.registry.errors import RegistryError


@dataclass(frozen=True, slots=True)
class Stat:
    """A stored blob as the storage sees it; `modified_at` is in microseconds since 1970."""

    key: str
    size: int
    modified_at: int


class Storage(Protocol):
    """Blobs by storage key. Every method blocks (call it in a thread) unless it says otherwise; all raise OSError.

    A key is given by `put` and kept in the blob's row: `ALGORITHM/HH/HEX` of its digest, perhaps with a dot and more.
    """

    def put(self, staged: Path, digest: str) -> str:
        """Store the file *staged*, whose bytes have that digest, durably; its key. *staged* stays where it is.

        What is stored already under the same digest stays as it is, if it has as many bytes.
        """
        ...

    def is_there(self, key: str) -> bool:
        """Whether the blob is there. Called inside a transaction: answers within microseconds, without a network."""
        ...

    def local_path(self, key: str) -> Path | None:
        """The file to send from, without looking whether it is there; `None` if it is not on this machine. Does not block."""
        ...

    def presign(self, key: str, *, expires_s: int) -> str | None:
        """A URL where a client may GET the blob itself; `None` if there is no such thing. Does not block."""
        ...

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        """The bytes from *start* up to and without *end*, in pieces.

        Raises:
            FileNotFoundError: it is not there.
        """
        ...

    def stat(self, key: str) -> Stat | None:
        """What is stored there."""
        ...

    def retire(self, key: str) -> None:
        """Take a blob out of the way. Called inside a transaction that removes its row, perhaps more than once.

        Either a rename, done at once and harmless when it is done already, or nothing: then `delete` does it.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove a blob whose row is gone; nothing if it is not there."""
        ...

    def quarantine(self, key: str) -> str:
        """Take a blob with the wrong bytes out of the way, keeping it; where it is now, for people."""
        ...

    def list(self) -> Iterator[Stat]:
        """Everything that is stored, in no order."""
        ...


class BlobVanishedError(Exception):
    """The collector has taken a file away between its being put and its row being written: put it again."""


async def commit_blob(
    storage: Storage,
    link: Callable[[str], Awaitable[None]],
    staged: Path,
    digest: str,
    *,
    retire: Callable[[str], Awaitable[object]] | None = None,
    run: Callable[[Callable[[], str]], Awaitable[str]] = asyncio.to_thread,
) -> str:
    """Store a staged file, whose bytes have that digest, and its row; its key. *staged* is left to the caller.

    Durable on return: the file was synced, linked to its place and its folder synced before the row was written.

    Args:
        link: writes the row for a key: `partial(metadata.link_blob, repository, digest, size, upload=…,
            still_there=storage.is_there)` with the key as its last positional argument.
        retire: takes the file away if the row is refused: `partial(sweep.retire_unnamed, metadata, storage)`.
        run: calls a blocking function in a thread.

    Raises:
        RegistryError: the row is refused.
        OSError: the disk is full, or the storage does not answer.
    """
    while True:
        key = await run(lambda: storage.put(staged, digest))
        try:
            await link(key)
        except BlobVanishedError:
            continue  # the collector was just taking it away
        except RegistryError:
            if retire is not None:
                await retire(key)
            raise
        return key


class LocalStorage:
    """Files `blobs/ALGORITHM/HH/HEX` below a folder, read-only, each once for all repositories.

    Beside them: `uploads/` (staged), `incoming/` (hard links of this machine's own clients), `partial/`
    (fetches from upstreams), `trash/`, `quarantine/`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs = root / "blobs"
        self._prefix = f"{self._blobs}/"
        self.uploads = root / "uploads"
        self.incoming = root / "incoming"
        self.partial = root / "partial"
        self.trash = root / "trash"
        self.quarantined = root / "quarantine"

    def prepare(self) -> None:
        """Make the folders."""
        for folder in (
            self._blobs,
            self.uploads,
            self.incoming,
            self.partial,
            self.trash,
            self.quarantined,
        ):
            folder.mkdir(parents=True, exist_ok=True)

    def key(self, digest: str) -> str:
        """Where a digest lies: `sha256/4f/4f1c…`."""
        algorithm, _, hex_digits = digest.partition(":")
        return f"{algorithm}/{hex_digits[:2]}/{hex_digits}"

    def put(self, staged: Path, digest: str) -> str:
        """Sync the bytes, link them to their place, sync the folder: all that a 201 promises of the file."""
        descriptor = os.open(staged, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
            os.fchmod(descriptor, 0o444)
        finally:
            os.close(descriptor)
        key = self.key(digest)
        target = self._prefix + key
        folder = os.path.dirname(target)
        try:
            _link(staged, target)
        except FileNotFoundError:
            _make_durably(Path(folder))
            _link(staged, target)
        _sync_folder(folder)
        return key

    def is_there(self, key: str) -> bool:
        return os.path.exists(self._prefix + key)

    def local_path(self, key: str) -> Path | None:
        return self._blobs / key

    def presign(self, key: str, *, expires_s: int) -> str | None:
        return None

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        with open(self._prefix + key, "rb", buffering=0) as file:
            file.seek(start)
            while start < end and (piece := file.read(min(1 << 18, end - start))):
                start += len(piece)
                yield piece

    def stat(self, key: str) -> Stat | None:
        try:
            found = os.stat(self._prefix + key)
        except FileNotFoundError:
            return None
        return Stat(key, found.st_size, found.st_mtime_ns // 1000)

    def retire(self, key: str) -> None:
        try:
            os.rename(self._prefix + key, self.trash / f"{key.rpartition('/')[2]}.{os.getpid()}")
        except FileNotFoundError:
            pass

    def delete(self, key: str) -> None:
        """Nothing: `retire` has renamed it; `empty_trash` unlinks it."""

    def empty_trash(self) -> int:
        """Unlink what was retired; the bytes that this gave back. Transfers under way go on."""
        freed = 0
        for entry in os.scandir(self.trash):
            with contextlib.suppress(FileNotFoundError):  # two at once
                found = entry.stat(follow_symlinks=False)
                os.unlink(entry.path)
                freed += found.st_size if found.st_nlink == 1 else 0
        return freed

    def quarantine(self, key: str) -> str:
        target = self.quarantined / key.rpartition("/")[2]
        try:
            os.rename(self._prefix + key, target)
        except FileNotFoundError:
            pass
        return str(target)

    def list(self) -> Iterator[Stat]:
        for folder, _, names in os.walk(self._blobs):
            for name in names:
                key = f"{folder}/{name}".removeprefix(self._prefix)
                if (found := self.stat(key)) is not None:
                    yield found


def _link(staged: Path, target: str) -> None:
    """Give the file its place; one that has it already keeps it, unless it was cut or grew, which no digest allows."""
    try:
        os.link(staged, target)
    except FileExistsError:
        # Retired just now: who has linked it finds out.
        with contextlib.suppress(FileNotFoundError):
            if os.stat(target).st_size != os.stat(staged).st_size:
                _replace(staged, target)


def _replace(staged: Path, target: str) -> None:
    beside = f"{target}.{os.getpid()}.{threading.get_ident()}"
    os.link(staged, beside)
    os.rename(beside, target)


def _make_durably(folder: Path) -> None:
    missing = [p for p in (folder, *folder.parents) if not p.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        _sync_folder(made.parent)


def _sync_folder(folder: str | Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
