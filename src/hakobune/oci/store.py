"""The store of a `HAKO_HOME`: images (an OCI image layout that other tools read), snapshots, roots, collection.

Safe for concurrent processes and for `kill -9`: everything is complete under a temporary name and then
renamed (`commit_point`). Locks, in this order: `images/.hako/lock` (shared by whoever publishes, exclusive for the
collector), `images/.hako/names.lock` (changes of `index.json`), a snapshot's `lock`.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING

import msgspec

from hakobune.errors import HakoError
from hakobune.oci import descriptor as media
from hakobune.oci.blobs import BlobFolder, BlobUnknownError, BlobWriter, copy_stream, room_for
from hakobune.oci.collect import Collected, Marked, mark
from hakobune.oci.commit_point import CommitPoint, Reached, pass_by
from hakobune.oci.config import ImageConfig, RootFs, encode_config
from hakobune.oci.descriptor import Descriptor, encode_document
from hakobune.oci.digest import Digest
from hakobune.oci.lease import Lease, is_of, read_leases
from hakobune.oci.manifest import Image, ManifestError, decode_manifest, make_manifest
from hakobune.oci.merge import copy_directory_metadata
from hakobune.oci.merged import find
from hakobune.oci.names import EMPTY, NamesFile
from hakobune.oci.reference import Reference
from hakobune.oci.roots import Roots
from hakobune.oci.snapshot import (
    TREE,
    Hold,
    Snapshot,
    SnapshotFolder,
    SnapshotRecord,
    chain_ids,
    chain_key,
    diff_key,
    random_key,
)
from hakobune.oci.unsynced import Unsynced, boot_id
from hakobune.support.files import write_atomically
from hakobune.support.locks import exclusive, shared

if (
    TYPE_CHECKING
):  # what reads and writes layers is imported by whoever does it: the store opens in a millisecond
    from hakobune.oci.layer import Layer
    from hakobune.oci.unpack import Unpacked

FORMAT = 1
EMPTY_INDEX = encode_document(EMPTY)
_BLOB = "blob-"
_SNAPSHOT = "snapshot-"


class StoreFormatError(HakoError):
    """`HAKO_HOME` was written by another version."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that `verify` found: the thing, and what is wrong with it."""

    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.what}: {self.why}"


class Store:
    """The images and snapshots below one `HAKO_HOME`; made if they are missing.

    What this object wrote or looked up is safe from the collector until `close` (or the process's end), so that
    an image can be built up before anything names it. Threads may share it.

    Args:
        home: `HAKO_HOME`.
        boot: the kernel's boot id; what an older boot left unsynced is checked or dropped.
        reached: called at each commit point, for tests that kill the process there.

    Raises:
        StoreFormatError: a newer version wrote this folder.
    """

    def __init__(self, home: Path, *, boot: str | None = None, reached: Reached = pass_by) -> None:
        self.home = home
        self.layout = home / "images"
        self._private = self.layout / ".hako"
        self._lock = self._private / "lock"
        self._reached = reached
        self._blobs = BlobFolder(self.layout / "blobs")
        self._names = NamesFile(self.layout / "index.json")
        self._roots = Roots(home / "roots")
        self._boot = boot or boot_id()
        self._unsynced = Unsynced(self._private / "unsynced", self._boot)
        self._snapshots = SnapshotFolder(home / "snapshots", self._boot)
        self._lease: Lease | None = None
        self._lease_lock = threading.Lock()
        _open_home(home, self._make_layout)
        if self._unsynced.older_boots():
            self._recover()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the collector have what no name and no root keeps."""
        with self._lease_lock:
            if self._lease is not None:
                self._lease.close()
                self._lease = None

    # Blobs

    def new_blob(self) -> BlobWriter:
        """A writer to be used in a `with`: `.write(data)`, `.commit(media_type)`; discarded if not committed.

        Raises:
            StoreFullError: from its methods, when the disk is full; nothing is left behind.
        """
        with self._publishing() as lease:
            temporary = self._private / "partial" / f"{lease.name}.{os.urandom(4).hex()}"
        with room_for("a blob", self.layout):
            temporary.parent.mkdir(parents=True, exist_ok=True)
            return BlobWriter(temporary, self._publish_blob, self._reached)

    def put_blob(self, data: bytes, media_type: str) -> Descriptor:
        """Store *data* as one blob."""
        with self.new_blob() as blob:
            blob.write(data)
            return blob.commit(media_type)

    def blob_path(self, digest: Digest) -> Path:
        """Where the blob's bytes are.

        Raises:
            BlobUnknownError: it is not there.
        """
        if not self._blobs.has(digest):
            raise BlobUnknownError(digest)
        return self._blobs.path(digest)

    def read_blob(self, digest: Digest) -> bytes:
        """The whole blob, checked against its name; for documents, not for layers.

        Raises:
            BlobUnknownError: it is not there.
            DigestError: its bytes are damaged.
        """
        return self._blobs.read(digest)

    def has_blob(self, digest: Digest) -> bool:
        return self._blobs.has(digest)

    @contextlib.contextmanager
    def spool(self, stream: IO[bytes]) -> Iterator[Path]:
        """A file with all that *stream* gives, gone afterwards; for what must be read more than once."""
        with self.new_blob() as blob:
            copy_stream(stream.read, blob)
            yield blob.temporary

    def _publish_blob(self, temporary: Path, digest: Digest) -> None:
        target = self._blobs.path(digest)
        with self._publishing() as lease:
            lease.add(str(digest))
            if target.exists():
                temporary.unlink()
                return
            self._unsynced.mark(_BLOB + digest.hex)
            os.rename(temporary, target)

    # Images

    def find_image(self, reference: Reference) -> Image | None:
        """The image of that digest, or else of that name; `None` if it is not here."""
        if reference.digest is not None:
            return self.read_image(reference.digest) if self.has_blob(reference.digest) else None
        digest = self._names.find(reference)
        return None if digest is None else self.read_image(digest)

    def read_image(self, digest: Digest) -> Image:
        """The image whose manifest has that digest.

        Raises:
            BlobUnknownError: its manifest or its config is not here.
            DocumentFormatError, ManifestError, DigestError: they are no manifest and config, or damaged.
        """
        raw = self.read_blob(digest)
        return Image.from_raw(raw, self.read_blob(decode_manifest(raw).config.digest))

    def publish_image(
        self,
        *,
        config: ImageConfig,
        layers: Sequence[Layer],
        names: Sequence[Reference] = (),
        annotations: Mapping[str, str] = {},
    ) -> Image:
        """Store config and manifest, then point *names* at the image. Equal arguments give the same digest.

        Args:
            config: its `rootfs` may be empty; it is filled from *layers*.
            layers: base first; their blobs are in the store.

        Raises:
            BlobUnknownError: a layer's blob is not here; no name has changed.
            ManifestError: the config lists other diff_ids than *layers* have.
        """
        raw_config = encode_config(_with_diff_ids(config, layers))
        config_blob = self.put_blob(raw_config, media.CONFIG)
        manifest = make_manifest(config_blob, [layer.blob for layer in layers], annotations)
        raw = encode_document(manifest)
        return self.put_image(raw, raw_config, names=names)

    def put_image(self, raw: bytes, raw_config: bytes, *, names: Sequence[Reference] = ()) -> Image:
        """Store a manifest and its config exactly as they are (a loaded image keeps its digest).

        Raises:
            BlobUnknownError: a layer's blob is not here; no name has changed.
        """
        image = Image.from_raw(raw, raw_config)
        self.put_blob(raw_config, image.manifest.config.media_type)
        media_type = image.manifest.media_type or media.MANIFEST
        with self._publishing() as lease:
            lease.add(*(str(layer.digest) for layer in image.manifest.layers))
            for layer in image.manifest.layers:
                if not self._blobs.has(layer.digest):
                    raise BlobUnknownError(layer.digest)
        self.put_blob(raw, media_type)
        self._reached(CommitPoint.MANIFEST_PUBLISHED)
        if names:
            entry = Descriptor(media_type=media_type, digest=image.digest, size=len(raw))
            self._change_names(entry, names)
        return image

    def tag(self, digest: Digest, name: Reference) -> None:
        """Point *name* at the image; another image that had the name loses it.

        Raises:
            BlobUnknownError: the image is not here.
        """
        image = self.read_image(digest)
        media_type = image.manifest.media_type or media.MANIFEST
        entry = Descriptor(media_type=media_type, digest=digest, size=len(image.raw))
        self._change_names(entry, (name,))

    def untag(self, name: Reference) -> bool:
        """Take the name away; `False` if no image had it. The image stays until a collection."""
        found = False

        def edit(names: dict[str, Descriptor]) -> None:
            nonlocal found
            found = names.pop(_name(name), None) is not None

        with self._changing_names():
            self._names.change(edit)
        return found

    def names(self) -> tuple[tuple[Reference, Digest], ...]:
        """Every name with its image's digest, sorted by name."""
        return self._names.names()

    def _change_names(self, entry: Descriptor, names: Sequence[Reference]) -> None:
        with self._changing_names(), room_for("an image's name", self.layout):
            self._names.change(lambda all_names: all_names.update({_name(n): entry for n in names}))
        self._reached(CommitPoint.NAMES_PUBLISHED)

    # Snapshots

    def snapshots(self, image: Image) -> tuple[Snapshot, ...]:
        """The image's layers as directories, base first; what is missing is unpacked.

        Processes that need the same layer at once unpack it once.

        Raises:
            BlobUnknownError: a layer's blob is not here.
            UnpackError: a layer is not what its manifest says, or does what a layer must not.
            StoreFullError: the disk is full; nothing is left behind.
        """
        chains = tuple(chain_ids(image.diff_ids))
        with self._publishing() as lease:
            known = [self._find_layer(*ids) for ids in zip(image.diff_ids, chains, strict=True)]
            lease.add(*(snapshot.key for snapshot in known if snapshot))
        found: list[Snapshot] = []
        layers = zip(known, image.manifest.layers, image.diff_ids, chains, strict=True)
        for snapshot, blob, diff_id, chain_id in layers:
            found.append(snapshot or self._unpack(blob, diff_id, chain_id, tuple(found)))
        return tuple(found)

    def open_snapshot(self, key: str) -> Snapshot | None:
        """The snapshot of that key, with what it lies on; `None` if it is not here or cannot be trusted."""
        with self._publishing() as lease:
            snapshot = self._snapshots.open(key)
            if snapshot is not None:
                lease.add(key)
        return snapshot

    def hold_image(self, image: Image) -> tuple[tuple[Snapshot, ...], Hold]:
        """The image's snapshots together with the locks that keep them; the caller closes the hold."""
        snapshots = self.snapshots(image)
        return snapshots, self.hold(snapshots)

    def hold(self, snapshots: Iterable[Snapshot]) -> Hold:
        """Shared flocks on every directory of *snapshots*, to be kept for the life of a mount.

        Raises:
            SnapshotGoneError: the collector was faster.
        """
        with shared(self._lock):
            return self._snapshots.take_locks(snapshots)

    def begin_snapshot(self) -> Path:
        """A fresh folder with an empty directory `tree` in it, for `finish_snapshot`.

        It belongs to this process; if the process ends before that, the collector removes it.
        """
        with self._publishing() as lease, room_for("a snapshot", self.home):
            begun = self._snapshots.begin(lease.name)
        self._reached(CommitPoint.SNAPSHOT_STARTED)
        return begun

    def finish_snapshot(
        self,
        begun: Path,
        *,
        diff_id: Digest | None = None,
        key: str | None = None,
        below: Sequence[Snapshot] = (),
        entries: int = 0,
        size_bytes: int = 0,
    ) -> Snapshot:
        """Publish a folder of `begin_snapshot`; its tree must be sealed, and nobody may write to it any more.

        Args:
            diff_id: of the tar that *tree* over *below* is; gives the key unless *key* does.
            key: by default the diff_id's, or a random one.
            below: the snapshots under it, uppermost first, each one directory.
        """
        self._reached(CommitPoint.SNAPSHOT_FILLED)
        key = key or (diff_key(diff_id) if diff_id else random_key())
        record = SnapshotRecord(
            boot_id=self._boot,
            diff_id=str(diff_id or ""),
            below=tuple(level.key for level in below),
            entries=entries,
            size_bytes=size_bytes,
        )
        with room_for("a snapshot", self.home):
            self._snapshots.write_record(begun, record)
            self._reached(CommitPoint.SNAPSHOT_WRITTEN)
            with self._publishing() as lease:
                lease.add(key)
                self._unsynced.mark(_SNAPSHOT + key)
                snapshot = self._snapshots.publish(begun, key)
        self._reached(CommitPoint.SNAPSHOT_PUBLISHED)
        return snapshot

    def discard_snapshot(self, begun: Path) -> None:
        """Give up a folder of `begin_snapshot`."""
        if begun.exists():
            self._snapshots.discard(begun)

    def adopt(
        self, tree: Path, diff_id: Digest, *, entries: int = 0, size_bytes: int = 0
    ) -> Snapshot:
        """Rename a finished, sealed directory in as the layer of that diff_id.

        *tree* is a whole root (`tree/layers/…`) on the store's file system, and the layer's tar names every parent
        directory. If the layer is here already, *tree* goes to the trash.
        """
        begun = self.begin_snapshot()
        try:
            (begun / TREE).rmdir()
            os.rename(tree, begun / TREE)
            return self.finish_snapshot(
                begun, diff_id=diff_id, entries=entries, size_bytes=size_bytes
            )
        finally:
            self.discard_snapshot(begun)

    def _find_layer(self, diff_id: Digest, chain_id: Digest) -> Snapshot | None:
        return self._snapshots.open(diff_key(diff_id)) or self._snapshots.open(chain_key(chain_id))

    def _unpack(
        self, blob: Descriptor, diff_id: Digest, chain_id: Digest, below: Sequence[Snapshot]
    ) -> Snapshot:
        """Unpack a layer once, whoever asks.

        Args:
            below: the snapshots of the layers under it, base first.
        """
        path = self.blob_path(blob.digest)
        with exclusive(self._private / "unpacking" / diff_id.hex[:2]):
            with self._publishing() as lease:
                snapshot = self._find_layer(diff_id, chain_id)
                if snapshot is not None:
                    lease.add(snapshot.key)
                    return snapshot
            begun = self.begin_snapshot()
            try:
                with room_for(f"the layer {diff_id} of an image", self.home):
                    unpacked = _unpack_checked(path, begun / TREE, diff_id)
                    _take_parents_from_below(begun / TREE, unpacked.implied_parents, below)
                return self.finish_snapshot(
                    begun,
                    diff_id=diff_id,
                    key=None if unpacked.complete_parents else chain_key(chain_id),
                    entries=unpacked.entries,
                    size_bytes=unpacked.size_bytes,
                )
            finally:
                self.discard_snapshot(begun)

    # Roots

    def set_root(self, room: str, name: str, digests: Iterable[Digest | str]) -> None:
        """Keep these digests (images, blobs, diff_ids) and snapshot keys, with all they need, until `drop_root`."""
        with self._publishing(), room_for("a root", self.home):
            self._roots.set(room, name, (str(digest) for digest in digests))
        self._reached(CommitPoint.ROOT_PUBLISHED)

    def drop_root(self, room: str, name: str) -> None:
        """Keep them no longer; nothing happens if there is no such root."""
        self._roots.drop(room, name)

    def root(self, room: str, name: str) -> tuple[str, ...] | None:
        """What a root keeps; `None` if there is no such root."""
        return self._roots.get(room, name)

    def is_rooted(self, digest: Digest) -> bool:
        """Whether a root lists this very digest: a service, a container or a build uses it."""
        return any(token == str(digest) for token, _ in self._roots.tokens())

    # Cleaning

    def collect(self) -> Collected:
        """Remove what no name, no root and no living process's lease needs.

        Waits for publishers (each holds the lock for less than a millisecond). Not right before or during an unpack:
        ext4 is slow at creating files after many deletions.
        """
        with exclusive(self._lock):
            leases = read_leases(self._private / "leases")  # before names and roots
            marked = self._mark(leases)
            self._reached(CommitPoint.GARBAGE_MARKED)
            blobs, size = self._discard_blobs(marked)
            keys, held = self._discard_snapshots(marked)
            self._discard_temporaries(leases)
        self._empty_blob_trash()
        held += self._snapshots.empty_trash(lambda: self._reached(CommitPoint.GARBAGE_REMOVED))
        return Collected(blobs=blobs, snapshots=keys, size_bytes=size, held=held)

    def verify(self) -> tuple[Problem, ...]:
        """Read everything again; gives what is not as it should be (nothing, usually)."""
        damaged = [
            Problem(f"blob {digest}", "its bytes are not what its name says")
            for digest in self._blobs.list()
            if not self._blobs.is_intact(digest)
        ]
        unnamed = [
            Problem(f"image {name or digest}", why)
            for name, digest in self._names.entries()
            if (why := self._incomplete(digest))
        ]
        unusable = [
            Problem(f"snapshot {key}", "it, or one that it lies on, cannot be used")
            for key in self._snapshots.list_keys()
            if self._snapshots.open(key) is None
        ]
        return (*damaged, *unnamed, *unusable)

    def sync(self) -> None:
        """Bring all to the disk, so that it outlives a power loss. Takes as long as the disk does."""
        self._keep_copy_of_names()
        names = self._unsynced.sync()
        for name in names:
            if name.startswith(_SNAPSHOT):
                self._snapshots.mark_synced(name.removeprefix(_SNAPSHOT))
        self._unsynced.clear(names)

    def sync_later(self) -> None:
        """`sync` in a process of its own that nobody waits for; without it, this boot's work is done again after a power loss."""
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            return
        with contextlib.suppress(BaseException):
            if os.fork() == 0:
                os.setsid()
                os.closerange(0, 65536)  # pipes that somebody reads, and locks of the parent
                self.sync()
        os._exit(0)

    def _mark(self, leases: Mapping[str, tuple[str, ...]]) -> Marked:
        tokens = [token for token, _ in self._roots.tokens()]
        tokens += [str(digest) for _, digest in self._names.entries()]
        tokens += [token for lines in leases.values() for token in lines]
        return mark(tokens, read=self._read_document, below=self._keys_below)

    def _read_document(self, digest: Digest, limit: int) -> bytes | None:
        size = self._blobs.size(digest)
        if size is None or size > limit:
            return None
        return self._blobs.path(digest).read_bytes()

    def _keys_below(self, key: str) -> tuple[str, ...]:
        record = self._snapshots.read_record(key)
        return () if record is None else record.below

    def _discard_blobs(self, marked: Marked) -> tuple[tuple[Digest, ...], int]:
        trash = self._private / "trash"
        trash.mkdir(parents=True, exist_ok=True)
        gone, size = [], 0
        for digest in self._blobs.list():
            if digest not in marked.blobs:
                size += self._blobs.size(digest) or 0
                os.rename(self._blobs.path(digest), trash / digest.hex)
                self._reached(CommitPoint.GARBAGE_MOVED)
                gone.append(digest)
        return tuple(gone), size

    def _discard_snapshots(self, marked: Marked) -> tuple[tuple[str, ...], int]:
        gone, held = [], 0
        for key in self._snapshots.list_keys():
            if key in marked.snapshots:
                continue
            if self._snapshots.is_held(key):
                held += 1
                continue
            self._snapshots.discard(self._snapshots.folder / key)
            self._reached(CommitPoint.GARBAGE_MOVED)
            gone.append(key)
        return tuple(gone), held

    def _discard_temporaries(self, leases: Mapping[str, object]) -> None:
        for begun in self._snapshots.begun():
            if not is_of(begun.name, leases):
                self._snapshots.discard(begun)
        for partial in (self._private / "partial").glob("*"):
            if not is_of(partial.name, leases):
                partial.unlink(missing_ok=True)
        for unfinished in self.layout.glob(".index.json.*"):
            unfinished.unlink(missing_ok=True)

    def _empty_blob_trash(self) -> None:
        for path in (self._private / "trash").glob("*"):
            path.unlink(missing_ok=True)
            self._reached(CommitPoint.GARBAGE_REMOVED)

    # After a power loss

    def _recover(self) -> None:
        """Check what an older boot wrote and did not sync; drop what is damaged, and names of incomplete images."""
        with exclusive(self._lock), exclusive(self._private / "names.lock"):
            boots = self._unsynced.older_boots()
            if not self._names.is_readable():
                self._restore_names()
            for name in (name for boot in boots for name in self._unsynced.of_boot(boot)):
                self._recheck(name)
            self._names.change(self._drop_incomplete)
            for boot in boots:
                self._unsynced.forget_boot(boot)

    def _recheck(self, name: str) -> None:
        if name.startswith(_BLOB):
            digest = Digest("sha256", name.removeprefix(_BLOB))
            if not self._blobs.is_intact(digest):
                self._blobs.path(digest).unlink(missing_ok=True)
            else:
                self._unsynced.mark(name)
        else:
            key = name.removeprefix(_SNAPSHOT)
            if self._snapshots.open(key) is None:
                self._snapshots.discard(self._snapshots.folder / key)

    def _drop_incomplete(self, names: dict[str, Descriptor]) -> None:
        for name, entry in tuple(names.items()):
            if self._incomplete(entry.digest):
                del names[name]

    def _incomplete(self, digest: Digest) -> str:
        """Why the image cannot be used; empty if it can."""
        try:
            image = self.read_image(digest)
        except HakoError as error:
            return error.what
        missing = [lay.digest for lay in image.manifest.layers if not self._blobs.has(lay.digest)]
        return f"its layer {missing[0]} is not here" if missing else ""

    def _keep_copy_of_names(self) -> None:
        """Let `index.json` as it is now be found again if a power loss tears its successor."""
        temporary = self._private / f"names.{os.urandom(4).hex()}"
        try:
            os.link(self.layout / "index.json", temporary)
            os.rename(temporary, self._private / "index.synced.json")
        except FileNotFoundError:
            pass
        finally:
            # rename(2) of two links to one file does nothing at all
            temporary.unlink(missing_ok=True)

    def _restore_names(self) -> None:
        copy = self._private / "index.synced.json"
        index = copy.read_bytes() if copy.exists() else EMPTY_INDEX
        write_atomically(self.layout / "index.json", index, durable=True)

    # Locks

    @contextlib.contextmanager
    def _publishing(self) -> Iterator[Lease]:
        """Keep the collector out for a moment; the lease keeps what is published meanwhile."""
        with shared(self._lock):
            with self._lease_lock:
                if self._lease is None:
                    self._lease = Lease(self._private / "leases")
            yield self._lease

    @contextlib.contextmanager
    def _changing_names(self) -> Iterator[None]:
        with shared(self._lock), exclusive(self._private / "names.lock"):
            yield

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


def _unpack_checked(blob: Path, into: Path, diff_id: Digest) -> Unpacked:
    from hakobune.oci.unpack import UnpackError, unpack_layer

    unpacked = unpack_layer(blob, into, privileged=os.geteuid() == 0)
    if unpacked.diff_id != diff_id:
        raise UnpackError(
            f"the layer {diff_id} is damaged",
            why=f"its tar has the digest {unpacked.diff_id}",
            fix="pull or load the image again",
        )
    return unpacked


def _take_parents_from_below(
    tree: Path, implied_parents: Iterable[str], below: Sequence[Snapshot]
) -> None:
    """Let directories that a layer uses without naming them be as they are in the layers under it.

    Otherwise a layer holding `tmp/x` turns the base's /tmp from 1777 into 0755.
    """
    trees = [str(lower) for snapshot in reversed(below) for lower in snapshot.lower_dirs()]
    for path in reversed(tuple(implied_parents)):
        shown = find(trees, path)
        if shown is not None and shown.is_directory:
            copy_directory_metadata(shown, f"{tree}/{path}")


def _with_diff_ids(config: ImageConfig, layers: Sequence[Layer]) -> ImageConfig:
    diff_ids = tuple(layer.diff_id for layer in layers)
    if config.rootfs.diff_ids and config.rootfs.diff_ids != diff_ids:
        raise ManifestError(
            "the image contradicts itself",
            why="its config lists other diff_ids than its layers have",
        )
    return msgspec.structs.replace(config, rootfs=RootFs(diff_ids=diff_ids))


def _name(reference: Reference) -> str:
    """How the image is called in `index.json`: a digest is no part of a name."""
    return str(replace(reference, digest=None))
