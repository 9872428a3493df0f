"""`--platform` with one platform or several: several are built one after the other and published as one index."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from hakobune.errors import UsageError
from hakobune.oci.descriptor import Descriptor, encode_document
from hakobune.oci.digest import Digest
from hakobune.oci.manifest import Image, make_index, media_type_of
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store


def parse_platforms(text: str | None) -> tuple[Platform, ...]:
    """`linux/amd64,linux/arm64`, in that order; this machine's if nothing is said.

    Raises:
        PlatformError: one is none.
        UsageError: one stands there twice.
    """
    if not text:
        return (Platform.host(),)
    platforms = tuple(Platform.parse(part.strip()) for part in text.split(","))
    for number, platform in enumerate(platforms):
        if any(platform.matches(other) for other in platforms[:number]):
            raise UsageError(f"--platform {text} has {platform} twice")
    return platforms


def publish_index(store: Store, images: Iterable[Image], names: Sequence[Reference]) -> Digest:
    """One index of images that are here; *names* stand for it afterwards."""
    entries = [
        Descriptor(
            media_type=media_type_of(image.raw),
            digest=image.digest,
            size=len(image.raw),
            platform=image.platform,
        )
        for image in images
    ]
    return store.put_index(encode_document(make_index(entries, {})), names=names)


def name_for(name: Reference, platform: Platform) -> Reference:
    """What one image of an index is called while it is built: `web:v1-linux-arm64`."""
    suffix = str(platform).replace("/", "-")
    return replace(name, tag=f"{name.tag}-{suffix}")
