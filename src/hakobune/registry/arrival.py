"""A blob on its way in from an upstream: one process fetches it, readers in all processes follow the file.

`partial/ALGO-HEX` has the bytes; `partial/ALGO-HEX.state` says how far they are to be believed. The fetching process holds
an exclusive flock on the state file until the blob is committed; each reader holds a shared one on the bytes, so that the
fetcher knows whether anybody is left. Both end with their process.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

from hakobune.oci.digest import Digest

TAIL_SIZE: Final = 32 << 10  # withheld from readers until the digest matches
COPY_SIZE: Final = 1 << 20
_RECORD: Final = struct.Struct("<Iqqq")  # phase, size, received, repository id
_NOTE_AT: Final = 64
_NOTE_LIMIT: Final = 3000
# Readers wake up at each publishing: TLS gives 16 KiB at a time, which is too little for that.
_PUBLISH_SIZE: Final = 256 << 10
_PUBLISH_S: Final = 0.005


class Phase(IntEnum):
    """How far a fetch is."""

    BEGUN = 0  # the upstream has not answered yet
    FLOWING = 1  # it has: the size is known
    VERIFIED = 2  # all bytes are there, and are what the digest says
    FAILED = 3


@dataclass(frozen=True, slots=True)
class State:
    """What the state file says.

    Attributes:
        size: of the whole blob; -1 if the upstream did not say.
        received: bytes that may be read.
        repository: id of the repository for which it is fetched.
        note: why it failed, as `upstream_errors` wrote it.
    """

    phase: Phase
    size: int
    received: int
    repository: int
    note: str = ""

    @property
    def sendable(self) -> int:
        """How many bytes a client may be given: all but the tail, until the digest matches."""
        if self.phase is Phase.VERIFIED:
            return self.received
        return max(0, min(self.received, self.size - TAIL_SIZE))


def read_state(descriptor: int) -> State:
    """The state as it is now."""
    data = os.pread(descriptor, _NOTE_AT + _NOTE_LIMIT, 0)
    if len(data) < _RECORD.size:
        return State(Phase.BEGUN, -1, 0, 0)
    phase, size, received, repository = _RECORD.unpack_from(data)
    return State(Phase(phase), size, received, repository, data[_NOTE_AT:].decode(errors="replace"))


def arriving_size(folder: Path, digest: Digest, repository: int) -> int | None:
    """The size of a blob that is arriving for *repository* just now, if its upstream has said it."""
    try:
        descriptor = os.open(state_path(folder, digest), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        state = read_state(descriptor)
    finally:
        os.close(descriptor)
    flows = state.phase in (Phase.FLOWING, Phase.VERIFIED) and state.size >= 0
    return state.size if flows and state.repository == repository else None


def data_path(folder: Path, digest: Digest) -> Path:
    """Where the bytes arrive."""
    return folder / f"{digest.algorithm}-{digest.hex}"


def state_path(folder: Path, digest: Digest) -> Path:
    """Where it says how far they are."""
    return folder / f"{digest.algorithm}-{digest.hex}.state"


class Arrival:
    """The fetching side. Made by `begin_arrival`; `end` or `fail` ends it. Not thread-safe, but may change threads."""

    def __init__(self, folder: Path, digest: Digest, state: int, repository: int) -> None:
        self.digest = digest
        self.path = data_path(folder, digest)
        self._state_path = state_path(folder, digest)
        self._state = state
        self._repository = repository
        self._data = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._hash = hashlib.new(digest.algorithm)
        self.size = -1
        self.received = 0
        self._published = 0
        self._published_at = 0.0
        self.phase = Phase.BEGUN
        self._since = time.monotonic()
        self._write_state()

    def resume(self) -> None:
        """Hash what an earlier fetch has left; `received` says how much that is."""
        while data := os.read(self._data, COPY_SIZE):
            self._hash.update(data)
            self.received += len(data)

    def flow(self, size: int) -> None:
        """The upstream has answered: from now on there are readers. *size* is of the whole blob, -1 if it did not say."""
        if self.phase is Phase.BEGUN:
            self.size = size
            self.phase = Phase.FLOWING
            self._since = time.monotonic()
            self.publish()
            self._published_at = 0.0  # the first bytes are told at once

    def write(self, data: bytes) -> None:
        """Append *data*.

        Raises:
            OSError: the disk is full.
        """
        self._hash.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._data, view) :]
        self.received += len(data)
        if (
            self.received - self._published >= _PUBLISH_SIZE
            or time.monotonic() - self._published_at >= _PUBLISH_S
        ):
            self.publish()

    def publish(self) -> None:
        """Tell readers about what has come."""
        self._published = self.received
        self._published_at = time.monotonic()
        self._write_state()

    def restart(self) -> None:
        """Forget what an earlier fetch has left; only before `flow`: readers have seen nothing of it."""
        os.ftruncate(self._data, 0)
        os.lseek(self._data, 0, os.SEEK_SET)
        self._hash = hashlib.new(self.digest.algorithm)
        self.received = self._published = 0

    def matches(self) -> bool:
        """Whether the bytes are what the digest says."""
        return self._hash.hexdigest() == self.digest.hex

    def verified(self) -> None:
        """Let readers have everything."""
        self.phase, self.size = Phase.VERIFIED, self.received
        self.publish()

    def deserted(self, grace_s: float) -> bool:
        """Whether nobody reads any more, after *grace_s* seconds in which readers may come."""
        if time.monotonic() - self._since < grace_s:
            return False
        with suppress(FileNotFoundError):
            probe = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            finally:
                os.close(probe)
        return True

    def fail(self, note: str, *, forget: bool) -> None:
        """End it for all readers. What has come stays for the next try, unless it is to be forgotten (it is wrong)."""
        self.phase = Phase.FAILED
        if forget:
            self.path.unlink(missing_ok=True)
        self._write_state(note.encode()[:_NOTE_LIMIT])
        self.end()

    def end(self) -> None:
        """Close; the next request finds the blob where it was committed, or begins anew."""
        if self._state < 0:
            return
        if self.phase is Phase.VERIFIED:
            self.path.unlink(missing_ok=True)  # it was linked to where committed blobs are
        self._state_path.unlink(missing_ok=True)
        os.close(self._data)
        os.close(self._state)  # last: it has the lock
        self._state = self._data = -1

    def leave(self) -> None:
        """Close without an end: whoever waits for the rest takes over, in another process."""
        if self._state >= 0:
            self.publish()
            os.close(self._data)
            os.close(self._state)
            self._state = self._data = -1

    def _write_state(self, note: bytes = b"") -> None:
        record = _RECORD.pack(self.phase, self.size, self.received, self._repository)
        if note:
            record = record.ljust(_NOTE_AT, b"\0") + note
        os.pwrite(self._state, record, 0)


def begin_arrival(folder: Path, digest: Digest, repository: int) -> Arrival | None:
    """The right to fetch *digest*; `None` if another holds it, in whatever process."""
    folder.mkdir(parents=True, exist_ok=True)
    path = state_path(folder, digest)
    while True:
        state = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(state, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.stat(path), os.fstat(state)):
                return Arrival(folder, digest, state, repository)
        except BlockingIOError:
            os.close(state)
            return None
        except FileNotFoundError:
            pass
        os.close(state)
