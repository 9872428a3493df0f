"""Images as files: OCI layouts in a folder or a tar, and docker's archives (image-spec image-layout.md).

An OCI archive has docker's `manifest.json` too, so that `docker load` of any age reads it. A docker archive has plain
layers, as docker and skopeo write it: old readers know no zstd.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import tarfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, cast

from hakobune.oci import descriptor as media
from hakobune.oci.archive_source import ArchiveError
from hakobune.oci.blobs import COPY_SIZE
from hakobune.oci.descriptor import REF_NAME, Descriptor, encode_document
from hakobune.oci.digest import Digest
from hakobune.oci.inflate import TarBytes, UnpackError
from hakobune.oci.manifest import (
    Image,
    Index,
    PlatformUnknownError,
    decode_index,
    is_index,
    make_index,
    media_type_of,
)
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from hakobune.support.files import write_atomically

LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_MOST_LAYER_BYTES = 1 << 40
_DEEPEST = 4

# By name: in full, or as somebody wants it spelled in the file.
Chosen = Mapping[Reference, Digest | Image] | Mapping[str, Digest | Image]


def save_archive(store: Store, images: Chosen, out: IO[bytes]) -> None:
    """Write images and indexes with their names as one OCI archive. Equal images give equal bytes.

    Raises:
        BlobUnknownError: something of them is not in the store.
    """
    entries = _entries(store, images)
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        _add_bytes(tar, "oci-layout", LAYOUT)
        _add_bytes(tar, "index.json", encode_document(make_index(entries, {})))
        _add_bytes(tar, "manifest.json", _manifest_of_archive(store, images))
        for digest in _blobs_of(store, entries):
            with open(store.blob_path(digest), "rb") as file:
                entry = tarfile.TarInfo(_blob_name(digest))
                entry.size = os.fstat(file.fileno()).st_size
                tar.addfile(entry, file)


def save_folder(store: Store, images: Mapping[Reference, Digest | Image], folder: Path) -> None:
    """Write the images with their names as an OCI layout into *folder*, which is empty or new.

    Raises:
        ArchiveError: something is there.
        BlobUnknownError: something of them is not in the store.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ArchiveError(
            f"cannot save to {folder}", why="the folder is not empty", fix="name a new one"
        )
    _write_layout(store, _entries(store, images), folder)


def add_to_folder(store: Store, digest: Digest, name: str, folder: Path) -> None:
    """Put an image or index into the OCI layout in *folder*, made if it is missing; *name* becomes this one's there.

    Raises:
        ArchiveError: something else than a layout is there.
        BlobUnknownError: something of it is not in the store.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()) and not (folder / "oci-layout").exists():
        raise ArchiveError(f"cannot write to {folder}", why="it is no OCI layout, and not empty")
    entry = _entry(store, digest, {REF_NAME: name} if name else {})
    _write_layout(store, (entry,), folder)


def save_docker_archive(
    store: Store,
    images: Mapping[Reference, Image],
    out: IO[bytes],
    *,
    without: Collection[Digest] = (),
) -> None:
    """Write images as docker does: config, plain layers, `manifest.json`.

    Args:
        without: diff_ids of layers that the reader has already; their names stand in the archive, their bytes do not.

    Raises:
        BlobUnknownError: a layer is not in the store.
        UnpackError: one is damaged.
    """
    written: set[Digest] = set()
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for image in images.values():
            config = image.manifest.config.digest
            if config not in written:
                written.add(config)
                _add_bytes(tar, f"{config.hex}.json", image.raw_config)
            for diff_id, layer in zip(image.diff_ids, image.manifest.layers, strict=True):
                if diff_id not in written and diff_id not in without:
                    _add_plain_layer(tar, store, layer, diff_id)
                written.add(diff_id)
        entries = [
            {
                "Config": f"{image.manifest.config.digest.hex}.json",
                "RepoTags": [str(name)],
                "Layers": [f"{diff_id.hex}.tar" for diff_id in image.diff_ids],
            }
            for name, image in images.items()
        ]
        _add_bytes(tar, "manifest.json", json.dumps(entries).encode())


def _add_plain_layer(
    tar: tarfile.TarFile, store: Store, layer: Descriptor, diff_id: Digest
) -> None:
    """The layer out of its compression: a tar wants to know the size first, so it goes through a file."""
    path = store.blob_path(layer.digest)
    with TarBytes(path, limit_bytes=_MOST_LAYER_BYTES) as plain:
        with store.spool(cast("IO[bytes]", plain)) as spooled:
            found = plain.finish()
            if found != diff_id:
                raise UnpackError(
                    f"the layer {diff_id} is damaged", why=f"its tar has the digest {found}"
                )
            with open(spooled, "rb") as file:
                entry = tarfile.TarInfo(f"{diff_id.hex}.tar")
                entry.size = os.fstat(file.fileno()).st_size
                tar.addfile(entry, file)


def _entries(store: Store, images: Chosen) -> tuple[Descriptor, ...]:
    return tuple(
        _entry(
            store,
            chosen if isinstance(chosen, Digest) else chosen.digest,
            {REF_NAME: str(name)},
        )
        for name, chosen in sorted(images.items(), key=lambda item: str(item[0]))
    )


def _entry(store: Store, digest: Digest, annotations: Mapping[str, str]) -> Descriptor:
    raw = store.read_blob(digest)
    return Descriptor(
        media_type=media_type_of(raw),
        digest=digest,
        size=len(raw),
        platform=None if is_index(raw) else store.read_image(digest).platform,
        annotations=annotations,
    )


def _write_layout(store: Store, entries: tuple[Descriptor, ...], folder: Path) -> None:
    for digest in _blobs_of(store, entries):
        target = folder / _blob_name(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            _copy(store.blob_path(digest), target)
    with _locked(folder):
        there = _index_in(folder)
        named = {entry.annotations.get(REF_NAME) for entry in entries} - {None}
        digests = {entry.digest for entry in entries}
        kept = [
            entry
            for entry in there.manifests
            if entry.annotations.get(REF_NAME) not in named
            and not (entry.digest in digests and REF_NAME not in entry.annotations)
        ]
        index = make_index((*kept, *entries), there.annotations)
        write_atomically(folder / "oci-layout", LAYOUT)
        write_atomically(folder / "index.json", encode_document(index))


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Two writers of one layout take turns at its index."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _index_in(folder: Path) -> Index:
    try:
        return decode_index((folder / "index.json").read_bytes())
    except FileNotFoundError:
        return make_index((), {})


def _copy(source: Path, target: Path) -> None:
    """Not a hard link: whoever edits the folder must not edit the store."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with open(source, "rb") as reader, open(temporary, "xb") as writer:
            while data := reader.read(COPY_SIZE):
                writer.write(data)
        os.rename(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _manifest_of_archive(store: Store, images: Chosen) -> bytes:
    """docker knows no indexes: of one, its list has the image for this machine."""
    entries = []
    for name, chosen in sorted(images.items(), key=lambda item: str(item[0])):
        try:
            image = chosen if isinstance(chosen, Image) else store.read_image(chosen)
        except PlatformUnknownError:
            continue
        entries.append(
            {
                "Config": _blob_name(image.manifest.config.digest),
                "RepoTags": [str(name)],
                "Layers": [_blob_name(layer.digest) for layer in image.manifest.layers],
            }
        )
    return json.dumps(entries).encode()


def _blobs_of(store: Store, entries: Iterable[Descriptor]) -> tuple[Digest, ...]:
    """Every blob once, in an order that does not depend on that of the images."""
    found: set[Digest] = set()
    for entry in entries:
        _add_blobs(store, entry, found, depth=0)
    return tuple(sorted(found))


def _add_blobs(store: Store, entry: Descriptor, found: set[Digest], *, depth: int) -> None:
    found.add(entry.digest)
    raw = store.read_blob(entry.digest)
    if not is_index(raw):
        manifest = store.read_image(entry.digest).manifest
        found.add(manifest.config.digest)
        found.update(layer.digest for layer in manifest.layers)
        return
    if depth == _DEEPEST:
        raise ArchiveError(f"indexes lie in indexes, more than {_DEEPEST} deep")
    for child in decode_index(raw).manifests:
        if child.media_type in media.MANIFEST_TYPES | media.INDEX_TYPES:
            _add_blobs(store, child, found, depth=depth + 1)


def _blob_name(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _add_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))
