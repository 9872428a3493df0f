"""The store of a `HAKO_HOME`: images (an OCI image layout that other tools read), snapshots, roots, collection.

Safe for concurrent processes and for `kill -9`: everything is complete under a temporary name and then
renamed (`commit_point`), under the locks of `publishing`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from hakobune.errors import HakoError
from hakobune.oci.blobs import room_for
from hakobune.oci.commit_point import CommitPoint, Reached, pass_by
from hakobune.oci.descriptor import encode_document
from hakobune.oci.digest import Digest
from hakobune.oci.image_store import ImageStore
from hakobune.oci.names import EMPTY
from hakobune.oci.platform import Platform
from hakobune.oci.snapshot_store import SnapshotStore
from hakobune.oci.store_parts import StoreParts
from hakobune.oci.unsynced import boot_id
from hakobune.support.files import write_atomically

# What reads, writes, collects and repairs is imported by whoever does it: the store opens in a millisecond.
if TYPE_CHECKING:
    from hakobune.oci.collect import Collected
    from hakobune.oci.recovery import Problem

FORMAT = 1
EMPTY_INDEX = encode_document(EMPTY)


class StoreFormatError(HakoError):
    """`HAKO_HOME` was written by another version."""


class Store(ImageStore, SnapshotStore):
    """The images and snapshots below one `HAKO_HOME`; made if they are missing.

    What this object wrote or looked up is safe from the collector until `close` (or the process's end), so that
    an image can be built up before anything names it. Threads may share it.

    Args:
        home: `HAKO_HOME`.
        platform: whose image of an index is meant where nobody says; this machine's by default.
        boot: the kernel's boot id; what an older boot left unsynced is checked or dropped.
        reached: called at each commit point, for tests that kill the process there.

    Raises:
        StoreFormatError: a newer version wrote this folder.
    """

    def __init__(
        self,
        home: Path,
        *,
        platform: Platform | None = None,
        boot: str | None = None,
        reached: Reached = pass_by,
    ) -> None:
        super().__init__(home, StoreParts.of(home, boot or boot_id()), reached, platform)
        self._syncs: list[int] = []
        _open_home(home, self._make_layout)
        if self._parts.unsynced.older_boots():
            from hakobune.oci.recovery import recover

            recover(self._parts)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # Roots

    def set_root(self, room: str, name: str, digests: Iterable[Digest | str]) -> None:
        """Keep these digests (images, blobs, diff_ids) and snapshot keys, with all they need, until `drop_root`."""
        with self._publishing(), room_for("a root", self.home):
            self._parts.roots.set(room, name, (str(digest) for digest in digests))
        self._reached(CommitPoint.ROOT_PUBLISHED)

    def drop_root(self, room: str, name: str) -> None:
        """Keep them no longer; nothing happens if there is no such root."""
        self._parts.roots.drop(room, name)

    def root(self, room: str, name: str) -> tuple[str, ...] | None:
        """What a root keeps; `None` if there is no such root."""
        return self._parts.roots.get(room, name)

    def is_rooted(self, digest: Digest) -> bool:
        """Whether a root lists this very digest: a service, a container or a build uses it."""
        return any(token == str(digest) for token, _ in self._parts.roots.tokens())

    # Cleaning

    def collect(self) -> Collected:
        """Remove what no name, no root and no living process's lease needs.

        Waits for publishers (each holds the lock for less than a millisecond). Not right before or during an unpack:
        ext4 is slow at creating files after many deletions.
        """
        from hakobune.oci.collect import collect

        return collect(self._parts, self._reached)

    def verify(self) -> tuple[Problem, ...]:
        """Read everything again; gives what is not as it should be (nothing, usually)."""
        from hakobune.oci.recovery import find_problems

        return find_problems(self._parts)

    def sync(self) -> None:
        """Bring all to the disk, so that it outlives a power loss. Takes as long as the disk does."""
        from hakobune.oci.recovery import sync

        sync(self._parts)

    def sync_later(self) -> None:
        """`sync` in a process of its own that nobody waits for; without it, this boot's work is done again after a power loss."""
        self._reap_syncs()
        child = os.fork()
        if child:
            self._syncs.append(child)
            return
        with contextlib.suppress(BaseException):
            os.setsid()
            os.closerange(0, 65536)  # pipes that somebody reads, and locks of the parent
            self.sync()
        os._exit(0)

    def _reap_syncs(self) -> None:
        """Forget processes that have ended, in a process that lives longer than they."""
        for child in tuple(self._syncs):
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(child, os.WNOHANG) == (0, 0):
                    continue
            self._syncs.remove(child)

    def _make_layout(self) -> None:
        (self.layout / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        write_atomically(self.layout / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        if not (self.layout / "index.json").exists():
            write_atomically(self.layout / "index.json", EMPTY_INDEX)


def _open_home(home: Path, make_layout: Callable[[], None]) -> None:
    """Check `HAKO_HOME/format`; a folder without one is new."""
    path = home / "format"
    try:
        text = path.read_text()
    except FileNotFoundError:
        with room_for("a new store", home):
            make_layout()
            write_atomically(path, f"{FORMAT}\n".encode())
        return
    if text.strip() != str(FORMAT):
        raise StoreFormatError(
            f"cannot open {home}",
            why=f"its format is {text.strip()!r}, this version reads {FORMAT}",
            fix="use the newer version of hako that wrote it, or set HAKO_HOME to another folder",
        )
