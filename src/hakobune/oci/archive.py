"""Images as files: OCI layouts in a folder or a tar archive, and docker's archives (image-spec image-layout.md).

An archive is read by name and never extracted; every blob is checked against its digest. What is saved has docker's
`manifest.json` too, so that `docker load` of any age reads it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import msgspec

from hakobune.errors import HakoError
from hakobune.oci import descriptor as media
from hakobune.oci.blobs import copy_stream
from hakobune.oci.config import decode_config
from hakobune.oci.descriptor import REF_NAME, Descriptor, encode_document
from hakobune.oci.digest import Digest
from hakobune.oci.manifest import (
    DOCUMENT_LIMIT,
    Image,
    Index,
    decode_index,
    decode_manifest,
    make_manifest,
)
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store

LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
# What docker and containerd write beside the name of the specification, with the full name.
CONTAINERD_NAME = "io.containerd.image.name"
_GZIP = b"\x1f\x8b"


class ArchiveError(HakoError):
    """A file or folder holds no image that we can read."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image that is in the store now, and the names that it got (none: only its digest finds it)."""

    image: Image
    names: tuple[Reference, ...]


class _Source(Protocol):
    """Files by their name in a layout or archive."""

    def has(self, name: str) -> bool: ...
    def open(self, name: str) -> contextlib.AbstractContextManager[IO[bytes]]: ...


# Saving


def save_archive(store: Store, images: Mapping[Reference, Image], out: IO[bytes]) -> None:
    """Write the images with their names as one tar. Equal images give equal bytes.

    Raises:
        BlobUnknownError: a layer is not in the store.
    """
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        _add_bytes(tar, "oci-layout", LAYOUT)
        _add_bytes(tar, "index.json", encode_document(_index_of(images)))
        _add_bytes(tar, "manifest.json", _docker_manifest(images))
        for digest in _blobs_of(images.values()):
            with open(store.blob_path(digest), "rb") as file:
                entry = tarfile.TarInfo(_blob_name(digest))
                entry.size = os.fstat(file.fileno()).st_size
                tar.addfile(entry, file)


def save_folder(store: Store, images: Mapping[Reference, Image], folder: Path) -> None:
    """Write the images with their names as an OCI layout into *folder*, which is empty or new.

    Raises:
        ArchiveError: something is there.
        BlobUnknownError: a layer is not in the store.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ArchiveError(
            f"cannot save to {folder}", why="the folder is not empty", fix="name a new one"
        )
    for digest in _blobs_of(images.values()):
        target = folder / _blob_name(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Not a hard link: whoever edits the folder must not edit the store.
        with open(store.blob_path(digest), "rb") as source, open(target, "xb") as copy:
            while data := source.read(1 << 20):
                copy.write(data)
    (folder / "oci-layout").write_bytes(LAYOUT)
    (folder / "index.json").write_bytes(encode_document(_index_of(images)))


def _index_of(images: Mapping[Reference, Image]) -> Index:
    entries = tuple(
        Descriptor(
            media_type=image.manifest.media_type or media.MANIFEST,
            digest=image.digest,
            size=len(image.raw),
            platform=image.platform,
            annotations={REF_NAME: str(name)},
        )
        for name, image in sorted(images.items(), key=lambda item: str(item[0]))
    )
    return Index(schema_version=2, media_type=media.INDEX, manifests=entries)


def _docker_manifest(images: Mapping[Reference, Image]) -> bytes:
    entries = [
        {
            "Config": _blob_name(image.manifest.config.digest),
            "RepoTags": [str(name)],
            "Layers": [_blob_name(layer.digest) for layer in image.manifest.layers],
        }
        for name, image in sorted(images.items(), key=lambda item: str(item[0]))
    ]
    return json.dumps(entries).encode()


def _blobs_of(images: Iterable[Image]) -> tuple[Digest, ...]:
    """Every blob once, in an order that does not depend on that of the images."""
    found: set[Digest] = set()
    for image in images:
        found.update((image.digest, image.manifest.config.digest))
        found.update(layer.digest for layer in image.manifest.layers)
    return tuple(sorted(found))


def _blob_name(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _add_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


# Loading


def load_images(store: Store, source: Path, platform: Platform) -> tuple[Loaded, ...]:
    """Put every image of an OCI layout (folder, or tar of one) or a docker archive into the store, with its names.

    Args:
        platform: which image to take where there are several for one name.

    Raises:
        ArchiveError: it holds no image, or none for *platform*.
        DigestError: a blob is damaged. Names that were not reached have not changed.
        StoreFullError: the disk is full.
    """
    try:
        with _open_source(source) as files:
            if files.has("index.json"):
                return tuple(_load_layout(store, files, source, platform))
            if files.has("manifest.json"):
                return tuple(_load_docker(store, files, source))
    except tarfile.TarError as error:
        raise ArchiveError(f"cannot load {source}", why=f"it is no tar archive: {error}") from error
    except OSError as error:
        if error.filename is None:
            raise
        raise ArchiveError(
            f"cannot load {source}", why=f"{error.filename}: {error.strerror}"
        ) from error
    raise ArchiveError(
        f"cannot load {source}",
        why="it has neither index.json (an OCI layout) nor manifest.json (a docker archive)",
        fix="save one with `hako image save`, `skopeo copy … oci-archive:FILE` or `docker save`",
    )


def _load_layout(
    store: Store, files: _Source, source: Path, platform: Platform
) -> Iterator[Loaded]:
    index = decode_index(_read_document(files, "index.json"))
    found = False
    for entry in index.manifests:
        manifest = _select(files, entry, platform)
        if manifest is not None:
            found = True
            names = _names_of(entry)
            yield Loaded(_load_manifest(store, files, manifest, names), names)
    if not found:
        there = sorted({str(e.platform) for e in _leaves(files, index.manifests) if e.platform})
        raise ArchiveError(
            f"{source} has no image for {platform}",
            why=f"it has {', '.join(there)}" if there else "its index is empty",
        )


def _leaves(files: _Source, entries: Sequence[Descriptor]) -> Iterator[Descriptor]:
    for entry in entries:
        if entry.media_type in media.INDEX_TYPES:
            raw = _read_document(files, _blob_name(entry.digest))
            yield from decode_index(raw).manifests
        else:
            yield entry


def _select(files: _Source, entry: Descriptor, platform: Platform) -> Descriptor | None:
    """The manifest to load for one entry of `index.json`: itself, or the one for *platform* in the index it names."""
    if entry.media_type in media.INDEX_TYPES:
        raw = _read_document(files, _blob_name(entry.digest))
        entry.digest.verify(raw)
        return decode_index(raw).select(platform)
    if entry.media_type in media.MANIFEST_TYPES:
        return entry
    return None  # a signature, an SBOM …: no image


def _load_manifest(
    store: Store, files: _Source, entry: Descriptor, names: Sequence[Reference]
) -> Image:
    raw = _read_document(files, _blob_name(entry.digest))
    entry.digest.verify(raw)
    manifest = decode_manifest(raw)
    for layer in manifest.layers:
        if not store.has_blob(layer.digest):
            _copy_blob(store, files, _blob_name(layer.digest), layer)
    raw_config = _read_document(files, _blob_name(manifest.config.digest))
    return store.put_image(raw, raw_config, names=names)


def _copy_blob(store: Store, files: _Source, name: str, layer: Descriptor) -> None:
    with files.open(name) as file, store.new_blob() as blob:
        copy_stream(file.read, blob, limit=layer.size)
        blob.commit(layer.media_type, expected=layer.digest)


def _names_of(entry: Descriptor) -> tuple[Reference, ...]:
    """The names an index gives a manifest. A bare word (a tag, says the specification) is no name."""
    found = [
        text
        for key in (CONTAINERD_NAME, REF_NAME)
        if (text := entry.annotations.get(key)) and (key != REF_NAME or _is_full(text))
    ]
    names: list[Reference] = []
    for text in found:
        with contextlib.suppress(HakoError):
            names.append(Reference.parse(text))
    return tuple(dict.fromkeys(names))


def _is_full(text: str) -> bool:
    return ":" in text or "/" in text


def _load_docker(store: Store, files: _Source, source: Path) -> Iterator[Loaded]:
    try:
        entries = msgspec.json.decode(
            _read_document(files, "manifest.json"), type=list[_DockerEntry]
        )
    except msgspec.DecodeError as error:
        raise ArchiveError(
            f"cannot load {source}", why=f"its manifest.json is not docker's: {error}"
        ) from error
    for entry in entries:
        raw_config = _read_document(files, entry.config)
        diff_ids = decode_config(raw_config).rootfs.diff_ids
        if len(diff_ids) != len(entry.layers):
            raise ArchiveError(
                f"cannot load {source}",
                why=f"{entry.config} lists {len(diff_ids)} layers, manifest.json {len(entry.layers)}",
            )
        layers = [
            _load_docker_layer(store, files, name, diff_id)
            for name, diff_id in zip(entry.layers, diff_ids, strict=True)
        ]
        config = Descriptor(
            media_type=media.CONFIG, digest=Digest.of(raw_config), size=len(raw_config)
        )
        names = tuple(Reference.parse(name) for name in entry.repo_tags or ())
        raw = encode_document(make_manifest(config, layers, {}))
        yield Loaded(store.put_image(raw, raw_config, names=names), names)


class _DockerEntry(msgspec.Struct, frozen=True, rename="pascal"):
    """One image in docker's `manifest.json`."""

    config: str
    layers: tuple[str, ...]
    repo_tags: tuple[str, ...] | None = None


def _load_docker_layer(store: Store, files: _Source, name: str, diff_id: Digest) -> Descriptor:
    """Store a layer as it is; a plain tar must be what the config says (a compressed one is checked when unpacked)."""
    with files.open(name) as file, store.new_blob() as blob:
        head = file.read(len(_GZIP))
        blob.write(head)
        copy_stream(file.read, blob)
        if head == _GZIP:
            return blob.commit(media.LAYER_GZIP)
        return blob.commit(media.LAYER, expected=diff_id)


def _read_document(files: _Source, name: str) -> bytes:
    with files.open(name) as file:
        data = file.read(DOCUMENT_LIMIT + 1)
    if len(data) > DOCUMENT_LIMIT:
        raise ArchiveError(f"{name} is too large", why="documents have 4 MiB at most")
    return data


@contextlib.contextmanager
def _open_source(source: Path) -> Iterator[_Source]:
    if source.is_dir():
        yield _Folder(source)
    else:
        with tarfile.open(source, mode="r:*") as tar:
            yield _Archive(tar)


class _Folder:
    """A layout in a folder; links out of it are not followed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    def has(self, name: str) -> bool:
        return (self._folder / name).is_file()

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        path = (self._folder / name).resolve()
        if not path.is_relative_to(self._folder):
            raise ArchiveError(f"{name} leads out of {self._folder}")
        with open(path, "rb") as file:
            yield file


class _Archive:
    """Regular files in a tar, by name; links are followed inside of it, as old docker archives need."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._members = {member.name.removeprefix("./"): member for member in tar}

    def has(self, name: str) -> bool:
        return name in self._members

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        try:
            file = self._tar.extractfile(self._members[name])
        except KeyError as error:
            raise ArchiveError(f"the archive has no {name}", why="it names this file") from error
        if file is None:
            raise ArchiveError(f"{name} is not a file in the archive")
        with file:
            yield file
