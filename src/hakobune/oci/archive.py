"""Images from files: OCI layouts in a folder or a tar archive, and docker's archives (image-spec image-layout.md).

Every blob is checked against its digest; what is hostile about the file itself is `archive_source`'s business.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from hakobune.errors import HakoError
from hakobune.oci import descriptor as media
from hakobune.oci.archive_source import ArchiveError, Source, open_source
from hakobune.oci.blobs import copy_stream
from hakobune.oci.config import decode_config
from hakobune.oci.descriptor import REF_NAME, Descriptor, encode_document
from hakobune.oci.digest import Digest
from hakobune.oci.manifest import (
    DOCUMENT_LIMIT,
    Image,
    decode_index,
    decode_manifest,
    make_manifest,
)
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference, ReferenceFormatError
from hakobune.oci.store import Store

__all__ = ["ArchiveError", "Loaded", "load_images"]

# What docker and containerd write beside the name of the specification, with the full name.
CONTAINERD_NAME = "io.containerd.image.name"
_GZIP = b"\x1f\x8b"
_DEEPEST = 4


class Loaded(msgspec.Struct, frozen=True):
    """An image that is in the store now, and the names that it got (none: only its digest finds it).

    `digest` is the image's, or that of the index it came in where all platforms were asked for.
    """

    digest: Digest
    image: Image
    names: tuple[Reference, ...]


def load_images(
    store: Store,
    source: Path,
    platform: Platform,
    *,
    only: str | None = None,
    all_platforms: bool = False,
    naming: bool = True,
) -> tuple[Loaded, ...]:
    """Put every image of an OCI layout (folder, or tar of one) or a docker archive into the store, with its names.

    Args:
        platform: which image to take where there are several for one name.
        only: take the image of this name alone (as the file spells it, or in full).
        all_platforms: keep an index whole, with the images for all platforms that it lists.
        naming: whether the names are given to the images here, too.

    Raises:
        ArchiveError: it holds no image, or none for *platform*, or is hostile.
        DigestError: a blob is damaged. Names that were not reached have not changed.
        StoreFullError: the disk is full.
    """
    reader = _Reader(store, source, platform, only, all_platforms=all_platforms, naming=naming)
    try:
        with open_source(source, store.spool) as files:
            if files.has("index.json"):
                return tuple(reader.load_layout(files))
            if files.has("manifest.json"):
                return tuple(reader.load_docker(files))
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


class _Reader:
    """One loading."""

    def __init__(
        self,
        store: Store,
        source: Path,
        platform: Platform,
        only: str | None,
        *,
        all_platforms: bool,
        naming: bool,
    ) -> None:
        self._store = store
        self._source = source
        self._platform = platform
        self._only = only
        self._all_platforms = all_platforms
        self._naming = naming

    # OCI layouts

    def load_layout(self, files: Source) -> Iterator[Loaded]:
        index = decode_index(_read_document(files, "index.json"))
        entries = [entry for entry in index.manifests if self._is_wanted(entry)]
        if self._only is not None and not entries:
            raise self._has_no_such(
                tuple(filter(None, (e.annotations.get(REF_NAME) for e in index.manifests)))
            )
        found = False
        for entry in entries:
            loaded = self._load_entry(files, entry)
            if loaded is not None:
                found = True
                yield loaded
        if not found:
            there = sorted({str(e.platform) for e in _leaves(files, entries) if e.platform})
            raise ArchiveError(
                f"{self._source} has no image for {self._platform}",
                why=f"it has {', '.join(there)}" if there else "its index is empty",
            )

    def _is_wanted(self, entry: Descriptor) -> bool:
        if self._only is None:
            return True
        texts = {entry.annotations.get(key) for key in (CONTAINERD_NAME, REF_NAME)}
        return self._only in texts or _parsed(self._only) in {_parsed(t) for t in texts if t}

    def _has_no_such(self, there: Sequence[str]) -> ArchiveError:
        return ArchiveError(
            f"{self._source} has no image {self._only}",
            why=f"it has {', '.join(there)}" if there else "its images have no names",
        )

    def _load_entry(self, files: Source, entry: Descriptor) -> Loaded | None:
        names = _names_of(entry)
        given = names if self._naming else ()
        if entry.media_type in media.MANIFEST_TYPES:
            image = self._load_manifest(files, entry, given)
            return Loaded(image.digest, image, names)
        if entry.media_type not in media.INDEX_TYPES:
            return None  # a signature, an SBOM …: no image
        raw = _read_checked(files, entry)
        chosen = decode_index(raw).select(self._platform)
        if chosen is None:
            return None
        if self._all_platforms:
            self._load_index(files, raw, depth=0)
            digest = self._store.put_index(raw, names=given, algorithm=entry.digest.algorithm)
            return Loaded(digest, self._store.read_image(digest, self._platform), names)
        image = self._load_manifest(files, chosen, given)
        return Loaded(image.digest, image, names)

    def _load_index(self, files: Source, raw: bytes, *, depth: int) -> None:
        """What an index lists, children first."""
        if depth == _DEEPEST:
            raise ArchiveError(
                f"cannot load {self._source}", why=f"indexes lie in indexes, {_DEEPEST} deep"
            )
        for entry in decode_index(raw).manifests:
            if entry.media_type in media.INDEX_TYPES:
                inner = _read_checked(files, entry)
                self._load_index(files, inner, depth=depth + 1)
                self._store.put_index(inner, algorithm=entry.digest.algorithm)
            else:
                self._load_manifest(files, entry, ())

    def _load_manifest(self, files: Source, entry: Descriptor, names: Sequence[Reference]) -> Image:
        raw = _read_checked(files, entry)
        manifest = decode_manifest(raw)
        for layer in manifest.layers:
            if not self._store.keep_blob(layer.digest):
                _copy_blob(self._store, files, _blob_name(layer.digest), layer)
        raw_config = _read_checked(files, manifest.config)
        return self._store.put_image(raw, raw_config, names=names, algorithm=entry.digest.algorithm)

    # docker's archives

    def load_docker(self, files: Source) -> Iterator[Loaded]:
        try:
            entries = msgspec.json.decode(
                _read_document(files, "manifest.json"), type=list[_DockerEntry]
            )
        except msgspec.DecodeError as error:
            raise ArchiveError(
                f"cannot load {self._source}", why=f"its manifest.json is not docker's: {error}"
            ) from error
        wanted = _parsed(self._only) if self._only is not None else None
        chosen = [
            entry
            for entry in entries
            if wanted is None or wanted in map(_parsed, entry.repo_tags or ())
        ]
        if wanted is not None and not chosen:
            raise self._has_no_such([tag for entry in entries for tag in entry.repo_tags or ()])
        stored: dict[str, Descriptor] = {}
        for entry in chosen:
            yield self._load_docker_image(files, entry, stored)

    def _load_docker_image(
        self, files: Source, entry: _DockerEntry, stored: dict[str, Descriptor]
    ) -> Loaded:
        raw_config = _read_document(files, entry.config)
        diff_ids = decode_config(raw_config).rootfs.diff_ids
        if len(diff_ids) != len(entry.layers):
            raise ArchiveError(
                f"cannot load {self._source}",
                why=f"{entry.config} lists {len(diff_ids)} layers, manifest.json {len(entry.layers)}",
            )
        layers = []
        for name, diff_id in zip(entry.layers, diff_ids, strict=True):
            known = stored.get(name)
            if known is None or (known.media_type == media.LAYER and known.digest != diff_id):
                known = stored[name] = _load_docker_layer(self._store, files, name, diff_id)
            layers.append(known)
        config = Descriptor(
            media_type=media.CONFIG, digest=Digest.of(raw_config), size=len(raw_config)
        )
        names = tuple(Reference.parse(name) for name in entry.repo_tags or ())
        raw = encode_document(make_manifest(config, layers, {}))
        given = names if self._naming else ()
        image = self._store.put_image(raw, raw_config, names=given)
        return Loaded(image.digest, image, names)


class _DockerEntry(msgspec.Struct, frozen=True, rename="pascal"):
    """One image in docker's `manifest.json`."""

    config: str
    layers: tuple[str, ...]
    repo_tags: tuple[str, ...] | None = None


def _parsed(text: str) -> str:
    """A name in full, to compare spellings."""
    try:
        return str(Reference.parse(text))
    except ReferenceFormatError:
        return text


def _leaves(files: Source, entries: Sequence[Descriptor]) -> Iterator[Descriptor]:
    for entry in entries:
        if entry.media_type in media.INDEX_TYPES:
            yield from decode_index(_read_checked(files, entry)).manifests
        else:
            yield entry


def _copy_blob(store: Store, files: Source, name: str, layer: Descriptor) -> None:
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


def _load_docker_layer(store: Store, files: Source, name: str, diff_id: Digest) -> Descriptor:
    """Store a layer as it is; a plain tar must be what the config says (a compressed one is checked when unpacked)."""
    with files.open(name) as file, store.new_blob() as blob:
        head = file.read(len(_GZIP))
        blob.write(head)
        copy_stream(file.read, blob)
        if head == _GZIP:
            return blob.commit(media.LAYER_GZIP)
        return blob.commit(media.LAYER, expected=diff_id)


def _blob_name(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _read_checked(files: Source, entry: Descriptor) -> bytes:
    """A document in a layout, which is what its descriptor says."""
    data = _read_document(files, _blob_name(entry.digest))
    entry.digest.verify(data)
    return data


def _read_document(files: Source, name: str) -> bytes:
    with files.open(name) as file:
        data = file.read(DOCUMENT_LIMIT + 1)
    if len(data) > DOCUMENT_LIMIT:
        raise ArchiveError(f"{name} is too large", why="documents have 4 MiB at most")
    return data
