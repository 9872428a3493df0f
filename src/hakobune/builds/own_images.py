"""Images that this program makes itself and no registry has: the bases and the default builder, by their names."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from hakobune.builds.base import OURS, ensure_base_images
from hakobune.builds.default_builder import ensure_default_builder
from hakobune.builds.request import DEFAULT_BUILDER
from hakobune.distribution.transfer import find_local
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from hakobune.progress import Progress

OWN: Final = (*OURS, DEFAULT_BUILDER)


def ensure_own_image(
    name: Reference, store: Store, home: Path, progress: Progress, platform: Platform
) -> bool:
    """Whether the name is one of `OWN`; then the image is made if it is not here.

    Raises:
        HakoError: as `ensure_base_images` and `ensure_default_builder` raise.
    """
    if name not in OWN:
        return False
    if find_local(store, name, platform) is None:
        if name == DEFAULT_BUILDER:
            ensure_default_builder(store, home, progress, platform=platform)
        else:
            ensure_base_images(store, home, progress, platform=platform)
    return True


def ensure_mentioned_images(
    dockerfile: str, store: Store, home: Path, progress: Progress, platform: Platform
) -> None:
    """Make each of them that the text of a Dockerfile mentions and that is not here.

    Raises:
        HakoError: as `ensure_own_image` raises.
    """
    for name in OWN:
        if name.short in dockerfile:
            ensure_own_image(name, store, home, progress, platform)
