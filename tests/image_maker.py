"""Small images for tests, made by the product's own code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from hakobune.oci.config import ContainerConfig, ImageConfig, RootFs
from hakobune.oci.descriptor import MANIFEST, Descriptor, encode_document
from hakobune.oci.digest import Digest
from hakobune.oci.layer import Directory, File, Layer, Owner, Part, write_layer
from hakobune.oci.manifest import Image, make_index
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store

NOBODY = Owner(65534, 65534)


def a_layer(store: Store, content: bytes = b"x", *, parts: Sequence[Part] = ()) -> Layer:
    """A layer with `/app/file`, or with the given parts."""
    default = (Directory(name="/app"), File(name="/app/file", content=content))
    return write_layer(store, parts or default, owner=NOBODY)


def an_image(
    store: Store,
    *names: str,
    layers: Sequence[Layer] | None = None,
    content: bytes = b"x",
    labels: dict[str, str] | None = None,
    architecture: str = "amd64",
) -> Image:
    """An image of one layer, or of the given ones, under *names*."""
    return store.publish_image(
        config=ImageConfig(
            architecture=architecture,
            os="linux",
            config=ContainerConfig(labels=labels or {}),
            rootfs=RootFs(),
        ),
        layers=[a_layer(store, content)] if layers is None else layers,
        names=[Reference.parse(name) for name in names],
    )


def an_index_by_sha512(store: Store, *names: str) -> Digest:
    """An index whose image and that image's configuration are known by sha512."""
    image = an_image(store)
    config = msgspec.structs.replace(
        image.manifest.config, digest=Digest.of(image.raw_config, "sha512")
    )
    raw = encode_document(msgspec.structs.replace(image.manifest, config=config))
    child = store.put_image(raw, image.raw_config, algorithm="sha512")
    entry = Descriptor(
        media_type=MANIFEST, digest=child.digest, size=len(raw), platform=child.platform
    )
    return store.put_index(
        encode_document(make_index([entry], {})),
        names=[Reference.parse(name) for name in names],
    )


def files_below(folder: Path) -> list[str]:
    """Every file below *folder*, relative to it."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir())
