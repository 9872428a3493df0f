"""The key of a step, and where its layer is found again.

A key is the digest of everything that a step's result depends on: the layers under it, its instruction with variables
replaced, and the content of what it reads (mode, owner, bytes; never times). A secret counts with its id alone.

A record is one file, `dockerfile/steps/KEY`; a root of the same name keeps the layer from the collector.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from hakobune.oci.descriptor import (
    Descriptor,
    DocumentFormatError,
    document_decoder,
    encode_document,
)
from hakobune.oci.digest import Digest
from hakobune.oci.snapshot import diff_key
from hakobune.oci.store import Store
from hakobune.support.files import write_atomically

ROOM = "dockerfile"
# What no build has used for so long is forgotten by the next build that adds something.
KEPT_FOR_S = 30 * 24 * 3600
_TOUCH_AFTER_S = 3600
_VERSION = 2

Inputs = Mapping[str, object]


class StepRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a step gave.

    Attributes:
        layer: its blob; `None` if no image has needed one: its snapshot is all there is then.
        created: when it ran (RFC 3339).
        what: the instruction, for people.
    """

    layer: Descriptor | None = None
    diff_id: Digest
    created: str
    what: str = ""


_decode = document_decoder(StepRecord, "record of a step")


def step_key(below: Iterable[Digest], inputs: Inputs) -> str:
    """The key of a step over the layers *below* (diff_ids, base first); hexadecimal.

    Args:
        inputs: everything else that its result depends on, as JSON would hold it.
    """
    document = {"version": _VERSION, "below": [str(digest) for digest in below], **inputs}
    return hashlib.sha256(msgspec.json.encode(document, order="deterministic")).hexdigest()


class StepCache:
    """The records of one store. Threads may share it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._folder = store.home / ROOM / "steps"

    def find(self, key: str) -> StepRecord | None:
        """The step's record, if its layer is still here; it will be there until this process ends."""
        path = self._folder / key
        try:
            with open(path, "rb", buffering=0) as file:
                record = _decode(file.read())
                age = time.time() - os.fstat(file.fileno()).st_mtime
        except (FileNotFoundError, DocumentFormatError):
            return None  # a damaged record is as good as none: power was lost
        if not self._is_here(record):
            return None
        if age > _TOUCH_AFTER_S:
            with contextlib.suppress(FileNotFoundError):  # forgotten by another process meanwhile
                os.utime(path)
        return record

    def put(self, key: str, record: StepRecord) -> None:
        """Keep the step's layer for later builds."""
        blob = () if record.layer is None else (record.layer.digest,)
        self._store.set_root(ROOM, key, (*blob, record.diff_id))
        write_atomically(self._folder / key, encode_document(record))

    def records(self) -> Iterator[tuple[str, StepRecord, float]]:
        """Every key with its record and when it was last used (seconds since 1970)."""
        for path in _files(self._folder):
            try:
                record = _decode(path.read_bytes())
                yield path.name, record, path.stat().st_mtime
            except (FileNotFoundError, DocumentFormatError):
                continue

    def forget(self, *, unused_for_s: float = 0) -> int:
        """Drop the records that were not used for that long; gives how many. The layers go with the next collection."""
        limit = time.time() - unused_for_s
        dropped = 0
        for path in _files(self._folder):
            try:
                if path.stat().st_mtime > limit:
                    continue
                path.unlink()
            except FileNotFoundError:
                continue  # another process forgets, too
            self._store.drop_root(ROOM, path.name)
            dropped += 1
        return dropped

    def _is_here(self, record: StepRecord) -> bool:
        if record.layer is None:
            return self._store.open_snapshot(diff_key(record.diff_id)) is not None
        return self._store.use_layer(record.layer, record.diff_id)


def _files(folder: Path) -> Iterator[Path]:
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return
    for name in names:
        if not name.startswith("."):
            yield folder / name
