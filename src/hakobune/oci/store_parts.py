"""What a store consists of, for the modules that work on all of it: publishing, collecting, recovering."""

from __future__ import annotations

from pathlib import Path

import msgspec

from hakobune.errors import HakoError
from hakobune.oci.blobs import BlobFolder
from hakobune.oci.digest import HEX_LENGTHS, Digest
from hakobune.oci.manifest import (
    Image,
    PlatformUnknownError,
    decode_index,
    decode_manifest,
    is_index,
)
from hakobune.oci.names import NamesFile
from hakobune.oci.platform import Platform
from hakobune.oci.roots import Roots
from hakobune.oci.snapshot import SnapshotFolder
from hakobune.oci.unsynced import Unsynced


class StoreParts(msgspec.Struct, frozen=True, kw_only=True):
    """The parts below one `HAKO_HOME`. What is ours alone lies in `images/.hako`, where other tools do not look."""

    layout: Path
    private: Path
    blobs: BlobFolder
    names: NamesFile
    roots: Roots
    snapshots: SnapshotFolder
    unsynced: Unsynced

    @classmethod
    def of(cls, home: Path, boot: str) -> StoreParts:
        """The parts of the store in *home*, seen in the boot of that id."""
        layout = home / "images"
        private = layout / ".hako"
        return cls(
            layout=layout,
            private=private,
            blobs=BlobFolder(layout / "blobs"),
            names=NamesFile(layout / "index.json"),
            roots=Roots(home / "roots"),
            snapshots=SnapshotFolder(home / "snapshots", boot),
            unsynced=Unsynced(private / "unsynced", boot),
        )

    @property
    def lock(self) -> Path:
        """Shared by whoever publishes, exclusive for the collector."""
        return self.private / "lock"

    @property
    def names_lock(self) -> Path:
        """Exclusive for changes of `index.json`; taken after `lock`."""
        return self.private / "names.lock"

    @property
    def leases(self) -> Path:
        return self.private / "leases"

    @property
    def partial(self) -> Path:
        """Blobs that are being written."""
        return self.private / "partial"

    @property
    def arriving(self) -> Path:
        """Blobs that are being fetched, or whose fetching was cut off."""
        return self.private / "arriving"

    @property
    def trash(self) -> Path:
        """Blobs that nothing needs any more."""
        return self.private / "trash"

    def read_image(self, digest: Digest, platform: Platform | None = None) -> Image:
        """See `Store.read_image`."""
        raw = self.blobs.read(digest)
        if is_index(raw):
            index, platform = decode_index(raw), platform or Platform.host()
            chosen = index.select(platform)
            if chosen is None:
                raise PlatformUnknownError(f"the index {digest.short}", platform, index)
            return self.read_image(chosen.digest, platform)
        raw_config = self.blobs.read(decode_manifest(raw).config.digest)
        return Image.from_raw(raw, raw_config, algorithm=digest.algorithm)

    def why_incomplete(self, digest: Digest) -> str:
        """Why the image, or an image of the index, cannot be used; empty if all can."""
        try:
            raw = self.blobs.read(digest)
            if is_index(raw):
                children = [
                    self.why_incomplete(child.digest) for child in decode_index(raw).manifests
                ]
                return next(filter(None, children), "")
            manifest = decode_manifest(raw)
            self.blobs.read(manifest.config.digest)
        except HakoError as error:
            return error.what
        missing = [layer.digest for layer in manifest.layers if not self.blobs.has(layer.digest)]
        return f"its layer {missing[0]} is not here" if missing else ""


def blob_mark(digest: Digest) -> str:
    """How an unsynced blob is marked."""
    return f"blob-{digest.hex}"


def snapshot_mark(key: str) -> str:
    """How an unsynced snapshot is marked."""
    return f"snapshot-{key}"


def parse_mark(mark: str) -> Digest | str:
    """The blob or the snapshot's key that a mark is of."""
    kind, _, name = mark.partition("-")
    if kind != "blob":
        return name
    return Digest("sha512" if len(name) == HEX_LENGTHS["sha512"] else "sha256", name)
