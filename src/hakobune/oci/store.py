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
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from hakobune.errors import HakoError
from hakobune.oci import descriptor as media
from hakobune.oci.blobs import BlobUnknownError, BlobWriter, copy_stream, room_for
from hakobune.oci.commit_point import CommitPoint, Reached, pass_by
from hakobune.oci.config import ImageConfig, RootFs, encode_config
from hakobune.oci.descriptor import Descriptor, encode_document
from hakobune.oci.digest import Digest
from hakobune.oci.lease import Lease
from hakobune.oci.manifest import (
    Image,
    Index,
    ManifestError,
    decode_index,
    is_index,
    make_manifest,
    media_type_of,
)
from hakobune.oci.merged import find
from hakobune.oci.names import EMPTY, SOURCE
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.snapshot import (
    TREE,
    Hold,
    Snapshot,
    SnapshotRecord,
    chain_ids,
    chain_key,
    diff_key,
    random_key,
    stacked_dirs,
)
from hakobune.oci.store_parts import StoreParts, blob_mark, snapshot_mark
from hakobune.oci.unsynced import boot_id
from hakobune.support.files import write_atomically
from hakobune.support.locks import exclusive, shared

# What reads, writes, collects and repairs is imported by whoever does it: the store opens in a millisecond.
if TYPE_CHECKING:
    from hakobune.oci.collect import Collected
    from hakobune.oci.layer import Layer
    from hakobune.oci.partial_blob import PartialBlob
    from hakobune.oci.receive import Arrived
    from hakobune.oci.recovery import Problem
    from hakobune.oci.unpack import Unpacked

FORMAT = 1
EMPTY_INDEX = encode_document(EMPTY)


class StoreFormatError(HakoError):
    """`HAKO_HOME` was written by another version."""


class Store:
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
        self.home = home
        self._platform = platform
        self.layout = home / "images"
        self._reached = reached
        self._parts = StoreParts.of(home, boot or boot_id())
        self._lease: Lease | None = None
        self._lease_lock = threading.Lock()
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

    def close(self) -> None:
        """Let the collector have what no name and no root keeps."""
        with self._lease_lock:
            if self._lease is not None:
                self._lease.close()
                self._lease = None

    # Blobs

    def new_blob(self, algorithm: str = "sha256") -> BlobWriter:
        """A writer to be used in a `with`: `.write(data)`, `.commit(media_type)`; discarded if not committed.

        Raises:
            StoreFullError: from its methods, when the disk is full; nothing is left behind.
        """
        with room_for("a blob", self.layout):
            return BlobWriter(self._temporary(), self._publish_blob, self._reached, algorithm)

    def put_blob(self, data: bytes, media_type: str, *, algorithm: str = "sha256") -> Descriptor:
        """Store *data* as one blob, named by that algorithm's digest."""
        with self.new_blob(algorithm) as blob:
            blob.write(data)
            return blob.commit(media_type)

    def blob_path(self, digest: Digest) -> Path:
        """Where the blob's bytes are.

        Raises:
            BlobUnknownError: it is not there.
        """
        if not self._parts.blobs.has(digest):
            raise BlobUnknownError(digest)
        return self._parts.blobs.path(digest)

    def read_blob(self, digest: Digest) -> bytes:
        """The whole blob, checked against its name; for documents, not for layers.

        Raises:
            BlobUnknownError: it is not there.
            DigestError: its bytes are damaged.
        """
        return self._parts.blobs.read(digest)

    def has_blob(self, digest: Digest) -> bool:
        return self._parts.blobs.has(digest)

    def partial_blob(self, digest: Digest) -> PartialBlob:
        """A blob to be fetched, with what an earlier attempt has left of it; waits while another process fetches it."""
        from hakobune.oci.partial_blob import PartialBlob

        return PartialBlob(self._parts.arriving, digest, self._publish_blob, self._reached)

    def keep_blob(self, digest: Digest) -> bool:
        """Keep the blob from the collector, like what this object wrote; `False` if it is not here."""
        with self._publishing() as lease:
            lease.add(str(digest))
            return self._parts.blobs.has(digest)

    def link_blob(self, path: Path, digest: Digest) -> bool:
        """Take over a file whose bytes are known to be *digest* and never change, by a link; `False` if that cannot be.

        Kept from the collector, like what this object wrote.
        """
        temporary = self._temporary()
        try:
            os.link(path, temporary)
        except OSError:  # another file system, gone meanwhile, or not this user's
            return False
        try:
            self._publish_blob(temporary, digest)
        finally:
            temporary.unlink(missing_ok=True)
        return True

    @contextlib.contextmanager
    def spool(self, stream: IO[bytes]) -> Iterator[Path]:
        """A file with all that *stream* gives, gone afterwards; for what must be read more than once."""
        with self.new_blob() as blob:
            copy_stream(stream.read, blob)
            yield blob.temporary

    def _temporary(self) -> Path:
        """A name for a blob to come, which is removed when this process has ended."""
        with self._publishing() as lease:
            name = f"{lease.name}.{os.urandom(4).hex()}"
        self._parts.partial.mkdir(parents=True, exist_ok=True)
        return self._parts.partial / name

    def _publish_blob(self, temporary: Path, digest: Digest) -> None:
        target = self._parts.blobs.path(digest)
        with self._publishing() as lease:
            lease.add(str(digest))
            if target.exists():
                temporary.unlink()
                return
            self._parts.unsynced.mark(blob_mark(digest))
            target.parent.mkdir(exist_ok=True)  # of another algorithm than sha256
            os.rename(temporary, target)

    # Images

    def find_image(self, reference: Reference, platform: Platform | None = None) -> Image | None:
        """The image of that digest, or else of that name; `None` if it is not here.

        Args:
            platform: which image of an index; this machine's by default.

        Raises:
            PlatformUnknownError: the name is of an index that has none for the platform.
        """
        digest = self.find_digest(reference)
        return None if digest is None else self.read_image(digest, platform)

    def find_digest(self, reference: Reference) -> Digest | None:
        """What the name, or the digest in it, stands for here: a manifest or an index; `None` if it is not here."""
        if reference.digest is None:
            return self._parts.names.find(reference)
        found = self._parts.names.find(replace(reference, tag=None))
        return found or (reference.digest if self.has_blob(reference.digest) else None)

    def read_image(self, digest: Digest, platform: Platform | None = None) -> Image:
        """The image whose manifest has that digest, or the one for *platform* (this machine's) in the index that has it.

        Raises:
            BlobUnknownError: its manifest or its config is not here.
            PlatformUnknownError: the index has none for the platform.
            DocumentFormatError, ManifestError, DigestError: they are no manifest and config, or damaged.
        """
        return self._parts.read_image(digest, platform or self._platform)

    def find_index(self, reference: Reference) -> Index | None:
        """The index that the name stands for; `None` if it is an image's, or not here."""
        digest = self.find_digest(reference)
        raw = None if digest is None else self.read_blob(digest)
        return decode_index(raw) if raw is not None and is_index(raw) else None

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

    def put_image(
        self,
        raw: bytes,
        raw_config: bytes,
        *,
        names: Sequence[Reference] = (),
        algorithm: str = "sha256",
    ) -> Image:
        """Store a manifest and its config exactly as they are (a loaded image keeps its digest).

        Args:
            algorithm: of the digest that the image is known by.

        Raises:
            BlobUnknownError: a layer's blob is not here; no name has changed.
        """
        image = Image.from_raw(raw, raw_config, algorithm=algorithm)
        config = image.manifest.config
        self.put_blob(raw_config, config.media_type, algorithm=config.digest.algorithm)
        media_type = image.manifest.media_type or media.MANIFEST
        with self._publishing() as lease:
            lease.add(*(str(layer.digest) for layer in image.manifest.layers))
            for layer in image.manifest.layers:
                if not self._parts.blobs.has(layer.digest):
                    raise BlobUnknownError(layer.digest)
        self.put_blob(raw, media_type, algorithm=algorithm)
        self._reached(CommitPoint.MANIFEST_PUBLISHED)
        if names:
            entry = Descriptor(media_type=media_type, digest=image.digest, size=len(raw))
            self._change_names(entry, names)
        return image

    def put_index(
        self, raw: bytes, *, names: Sequence[Reference] = (), algorithm: str = "sha256"
    ) -> Digest:
        """Store an index exactly as it is; what it lists is here already.

        Raises:
            BlobUnknownError: a manifest or index that it lists is not here; no name has changed.
        """
        with self._publishing() as lease:
            for child in decode_index(raw).manifests:
                lease.add(str(child.digest))
                if not self._parts.blobs.has(child.digest):
                    raise BlobUnknownError(child.digest)
        digest = self.put_blob(raw, media.INDEX, algorithm=algorithm).digest
        for name in names:
            self.tag(digest, name)
        return digest

    def tag(self, digest: Digest, name: Reference, *, source: Digest | None = None) -> None:
        """Point *name* at the image or index; another one that had the name loses it.

        Args:
            source: what the name stands for in its registry, if that is an index of which this is one image.

        Raises:
            BlobUnknownError: the image is not here.
        """
        with self._publishing() as lease:  # else the collector may take it before it has its name
            lease.add(str(digest))
            raw = self.read_blob(digest)
        if not is_index(raw):
            self.read_image(digest)
        notes = {} if source is None else {SOURCE: str(source)}
        entry = Descriptor(
            media_type=media_type_of(raw), digest=digest, size=len(raw), annotations=notes
        )
        self._change_names(entry, (name,))

    def source(self, name: Reference) -> Digest | None:
        """What *name* stood for in its registry when it was pulled; `None` if it was not pulled."""
        return self._parts.names.source(name)

    def untag(self, name: Reference) -> bool:
        """Take the name away; `False` if no image had it. The image stays until a collection."""
        found = False

        def edit(names: dict[str, Descriptor]) -> None:
            nonlocal found
            found = names.pop(_name(name), None) is not None

        with self._changing_names():
            self._parts.names.change(edit)
        return found

    def has_name(self, name: Reference) -> bool:
        """Whether something here is called so; a digest is a name if the image was pulled by it."""
        return self._parts.names.find(name) is not None

    def names(self) -> tuple[tuple[Reference, Digest], ...]:
        """Every name with its image's digest, sorted by name."""
        return self._parts.names.names()

    def _change_names(self, entry: Descriptor, names: Sequence[Reference]) -> None:
        with self._changing_names(), room_for("an image's name", self.layout):
            self._parts.names.change(
                lambda all_names: all_names.update({_name(n): entry for n in names})
            )
        self._reached(CommitPoint.NAMES_PUBLISHED)

    # Snapshots

    def snapshots(
        self, image: Image, *, arrived: Mapping[Digest, Arrived] = {}
    ) -> tuple[Snapshot, ...]:
        """The image's layers as directories, base first; what is missing is unpacked.

        Processes that need the same layer at once unpack it once.

        Args:
            arrived: layers that were unpacked while they came, by diff_id.

        Raises:
            BlobUnknownError: a layer's blob is not here.
            UnpackError: a layer is not what its manifest says, or does what a layer must not.
            StoreFullError: the disk is full; nothing is left behind.
        """
        return self.layer_snapshots(image.manifest.layers, image.diff_ids, arrived=arrived)

    def layer_snapshots(
        self,
        blobs: Sequence[Descriptor],
        diff_ids: Sequence[Digest],
        *,
        arrived: Mapping[Digest, Arrived] = {},
    ) -> tuple[Snapshot, ...]:
        """The same for layers that no image has yet; base first."""
        chains = tuple(chain_ids(diff_ids))
        with self._publishing() as lease:
            known = [self._find_layer(*ids) for ids in zip(diff_ids, chains, strict=True)]
            lease.add(*(snapshot.key for snapshot in known if snapshot))
        found: list[Snapshot] = []
        for snapshot, blob, diff_id, chain_id in zip(known, blobs, diff_ids, chains, strict=True):
            found.append(
                snapshot
                or self._unpack(blob, diff_id, chain_id, tuple(found), arrived.get(diff_id))
            )
        return tuple(found)

    def use_layer(self, blob: Descriptor, diff_id: Digest) -> bool:
        """Whether the layer's blob is here; if so, it stays until `close`, and its snapshot if there is one."""
        with self._publishing() as lease:
            if not self._parts.blobs.has(blob.digest):
                return False
            lease.add(str(blob.digest), str(diff_id))
            return True

    def find_layer(self, diff_id: Digest, chain_id: Digest) -> Snapshot | None:
        """The layer if it is unpacked already; it stays until `close` then."""
        with self._publishing() as lease:
            snapshot = self._find_layer(diff_id, chain_id)
            if snapshot is not None:
                lease.add(snapshot.key)
        return snapshot

    def open_snapshot(self, key: str) -> Snapshot | None:
        """The snapshot of that key, with what it lies on; `None` if it is not here or cannot be trusted."""
        with self._publishing() as lease:
            snapshot = self._parts.snapshots.open(key)
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
        with shared(self._parts.lock):
            return self._parts.snapshots.take_locks(snapshots)

    def begin_snapshot(self) -> Path:
        """A fresh folder with an empty directory `tree` in it, for `finish_snapshot`.

        It belongs to this process; if the process ends before that, the collector removes it.
        """
        with self._publishing() as lease, room_for("a snapshot", self.home):
            begun = self._parts.snapshots.begin(lease.name)
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
            boot_id=self._parts.snapshots.boot,
            diff_id=str(diff_id or ""),
            below=tuple(level.key for level in below),
            entries=entries,
            size_bytes=size_bytes,
        )
        with room_for("a snapshot", self.home):
            self._parts.snapshots.write_record(begun, record)
            self._reached(CommitPoint.SNAPSHOT_WRITTEN)
            with self._publishing() as lease:
                lease.add(key)
                self._parts.unsynced.mark(snapshot_mark(key))
                snapshot = self._parts.snapshots.publish(begun, key)
        self._reached(CommitPoint.SNAPSHOT_PUBLISHED)
        return snapshot

    def discard_snapshot(self, begun: Path) -> None:
        """Give up a folder of `begin_snapshot`."""
        if begun.exists():
            self._parts.snapshots.discard(begun)

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
        return self._parts.snapshots.open(diff_key(diff_id)) or self._parts.snapshots.open(
            chain_key(chain_id)
        )

    def _unpack(
        self,
        blob: Descriptor,
        diff_id: Digest,
        chain_id: Digest,
        below: Sequence[Snapshot],
        arrived: Arrived | None,
    ) -> Snapshot:
        """Unpack a layer once, whoever asks.

        Args:
            below: the snapshots of the layers under it, base first.
        """
        path = self.blob_path(blob.digest)
        with exclusive(self._parts.private / "unpacking" / diff_id.hex[:2]):
            if snapshot := self.find_layer(diff_id, chain_id):
                return snapshot
            begun = arrived.folder if arrived else self.begin_snapshot()
            try:
                with room_for(f"the layer {diff_id} of an image", self.home):
                    unpacked = (
                        arrived.unpacked
                        if arrived
                        else _unpack_checked(path, begun / TREE, diff_id)
                    )
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

    # Locks

    @contextlib.contextmanager
    def _publishing(self) -> Iterator[Lease]:
        """Keep the collector out for a moment; the lease keeps what is published meanwhile."""
        with shared(self._parts.lock):
            with self._lease_lock:
                if self._lease is None:
                    self._lease = Lease(self._parts.leases)
            yield self._lease

    @contextlib.contextmanager
    def _changing_names(self) -> Iterator[None]:
        with shared(self._parts.lock), exclusive(self._parts.names_lock):
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
    from hakobune.oci.receive import check_diff_id
    from hakobune.oci.unpack import unpack_layer

    unpacked = unpack_layer(blob, into, privileged=os.geteuid() == 0)
    check_diff_id(unpacked, diff_id)
    return unpacked


def _take_parents_from_below(
    tree: Path, implied_parents: Iterable[str], below: Sequence[Snapshot]
) -> None:
    """Let directories that a layer uses without naming them be as they are in the layers under it.

    Otherwise a layer holding `tmp/x` turns the base's /tmp from 1777 into 0755.
    """
    trees = stacked_dirs(below)
    for path in reversed(tuple(implied_parents)):
        shown = find(trees, path)
        if shown is not None and shown.is_directory:
            from hakobune.oci.merge import copy_directory_metadata

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
    """How the image is called in `index.json`: a digest is a name only where there is no tag."""
    return str(reference if reference.tag is None else replace(reference, digest=None))
