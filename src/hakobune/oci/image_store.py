"""The images of a store and their names: manifests, configs and indexes as blobs, `index.json` as the table of names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from hakobune.oci import descriptor as media
from hakobune.oci.blob_store import BlobStore
from hakobune.oci.blobs import BlobUnknownError, room_for
from hakobune.oci.commit_point import CommitPoint, Reached
from hakobune.oci.config import ImageConfig, RootFs, encode_config
from hakobune.oci.descriptor import Descriptor, encode_document
from hakobune.oci.digest import Digest
from hakobune.oci.manifest import (
    Image,
    Index,
    ManifestError,
    decode_index,
    is_index,
    make_manifest,
    media_type_of,
)
from hakobune.oci.names import SOURCE
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.store_parts import StoreParts

if TYPE_CHECKING:
    from hakobune.oci.layer import Layer


class ImageStore(BlobStore):
    """Images and indexes, by digest or by name.

    Args:
        platform: whose image of an index is meant where nobody says; this machine's by default.
    """

    def __init__(
        self, home: Path, parts: StoreParts, reached: Reached, platform: Platform | None
    ) -> None:
        super().__init__(home, parts, reached)
        self._platform = platform

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


def _with_diff_ids(config: ImageConfig, layers: Sequence[Layer]) -> ImageConfig:
    diff_ids = tuple(layer.diff_id for layer in layers)
    if config.rootfs.diff_ids and config.rootfs.diff_ids != diff_ids:
        raise ManifestError(
            "the image contradicts itself",
            why="its config lists other diff_ids than its layers have",
        )
    return replace(config, rootfs=RootFs(diff_ids=diff_ids))


def _name(reference: Reference) -> str:
    """How the image is called in `index.json`: a digest is a name only where there is no tag."""
    return str(reference if reference.tag is None else replace(reference, digest=None))
