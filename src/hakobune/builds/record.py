"""What the last successful build of an image left: one file, replaced in one rename, is the build's commit."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from hakobune.oci.digest import Digest
from hakobune.support.files import write_atomically

_RECORD: Final = "record.json"
_SOURCE: Final = "source."
_TEMPORARY: Final = ("top.", "source.", "added.")


class BuildRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The last successful build.

    Args:
        inputs: the digest of everything that went in.
        image: the digest of what came out.
        source: the folder of the source copy that went in.
        parts: the digests behind *inputs*, by name, to say what differs.
        glance: what `glance_at` saw at that time.
        uid, gid: of the build user, who owns the source copy.
        kept: `lifecycle.documents.KeptLayers`, read by whoever needs it.
    """

    inputs: str
    image: str
    source: str
    parts: dict[str, str]
    glance: str
    uid: int
    gid: int
    kept: msgspec.Raw


class BuildFolder(msgspec.Struct, frozen=True):
    """`HAKO_HOME/builds/IMAGE`. Everything but the lock belongs to the holder of the lock."""

    path: Path

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    def read_record(self) -> BuildRecord | None:
        """The last build's record; `None` if there is none or it cannot be read."""
        try:
            data = (self.path / _RECORD).read_bytes()
            return msgspec.json.decode(data, type=BuildRecord)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None

    def write_record(self, record: BuildRecord) -> None:
        """Commit a build: from now on the next one starts from it."""
        write_atomically(self.path / _RECORD, msgspec.json.encode(record))

    def write_report(self, report: bytes) -> None:
        write_atomically(self.path / "report.toml", report)

    def source_of(self, record: BuildRecord | None) -> Path | None:
        """The last source copy, if it is there."""
        if record is None or not record.source.startswith(_SOURCE) or "/" in record.source:
            return None
        path = self.path / record.source
        return path if path.is_dir() else None

    def clean(self, record: BuildRecord | None) -> None:
        """Remove what builds left that did not come to their end, and source copies that were replaced."""
        keep = record.source if record else ""
        with os.scandir(self.path) as entries:
            left = [e.path for e in entries if e.name.startswith(_TEMPORARY) and e.name != keep]
        for path in left:
            shutil.rmtree(path, ignore_errors=True)

    def new_source(self) -> Path:
        """A fresh folder for a source copy; `clean` removes it unless a record names it."""
        return self._fresh(_SOURCE)

    @contextmanager
    def scratch(self, kind: str) -> Iterator[Path]:
        """A fresh folder, gone at the end of the block."""
        path = self._fresh(f"{kind}.")
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def _fresh(self, prefix: str) -> Path:
        path = self.path / f"{prefix}{os.urandom(6).hex()}"
        path.mkdir(parents=True)
        return path


def inputs_digest(parts: Mapping[str, str]) -> str:
    """One digest for everything that goes into a build."""
    text = "\0".join(f"{name}={parts[name]}" for name in sorted(parts))
    return str(Digest.of(text.encode("utf-8", "surrogateescape")))


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """The names of the parts that are not what they were, sorted."""
    return tuple(n for n in sorted({*before, *now}) if before.get(n) != now.get(n))
