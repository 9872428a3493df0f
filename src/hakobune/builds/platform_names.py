"""One name for images of several CPUs that are made one after the other, each when it is needed first."""

from __future__ import annotations

from hakobune.oci.descriptor import Descriptor, encode_document
from hakobune.oci.manifest import Image, make_index, media_type_of
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store


def name_for_platform(store: Store, image: Image, name: Reference) -> None:
    """Let *name* stand for *image* on its platform, and for what it stood for on others.

    The caller holds a lock that all who change *name* take.
    """
    others = [one for one in _named(store, name) if not _is_for(one, image.platform)]
    if not others:
        store.tag(image.digest, name)
        return
    own = Descriptor(
        media_type=media_type_of(image.raw),
        digest=image.digest,
        size=len(image.raw),
        platform=image.platform,
    )
    entries = sorted([*others, own], key=lambda one: str(one.platform))
    store.put_index(encode_document(make_index(entries, {})), names=(name,))


def _named(store: Store, name: Reference) -> tuple[Descriptor, ...]:
    """What the name stands for now, one an image."""
    digest = store.find_digest(name)
    if digest is None:
        return ()
    if index := store.find_index(name):
        return index.manifests
    image = store.read_image(digest)
    return (
        Descriptor(
            media_type=media_type_of(image.raw),
            digest=digest,
            size=len(image.raw),
            platform=image.platform,
        ),
    )


def _is_for(entry: Descriptor, platform: Platform) -> bool:
    return entry.platform is not None and entry.platform.matches(platform)
