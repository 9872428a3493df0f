"""Which image of this machine a command means, and how it may be called."""

from __future__ import annotations

from hakobune.errors import HakoError, UsageError
from hakobune.oci.digest import Digest
from hakobune.oci.manifest import Image
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store

_SHORTEST_ID = 4


def find_image(store: Store, text: str) -> Image:
    """The image of that name, digest, or beginning of a digest.

    Raises:
        HakoError: there is none, or more than one begins so.
    """
    if image := _find_by_id(store, text):
        return image
    image = store.find_image(Reference.parse(text))
    if image is None:
        raise HakoError(
            f"there is no image {text!r} here",
            fix="`hako image ls` lists them, `hako image pull` and `hako build` add one",
        )
    return image


def _find_by_id(store: Store, text: str) -> Image | None:
    if text.startswith("sha256:"):
        text = text.removeprefix("sha256:")
    elif store.find_image(Reference.parse(text)) is not None:
        return None
    if len(text) < _SHORTEST_ID or not set(text) <= set("0123456789abcdef"):
        return None
    named = {digest for _, digest in store.names()}
    found = sorted(digest for digest in named if digest.hex.startswith(text))
    if len(found) > 1:
        raise HakoError(
            f"{text!r} is not one image",
            why=f"{len(found)} digests begin so",
            fix="write more of it",
        )
    if not found and len(text) == 64 and store.has_blob(Digest("sha256", text)):
        found = [Digest("sha256", text)]
    return store.read_image(found[0]) if found else None


def parse_new_name(text: str) -> Reference:
    """A name that an image can be given.

    Raises:
        UsageError: it has a digest.
    """
    name = Reference.parse(text)
    if name.digest is not None:
        raise UsageError(f"{text!r} is no name", why="a digest cannot be given to an image")
    return name
