"""Pull, push, copy and resolve: what the rooms above call.

`find_or_pull` is the one function for whoever needs an image and does not care where it comes from.
"""

from __future__ import annotations

import os
from typing import Final, Literal

from hakobune.distribution.pull import Pull, select_platform, wanted
from hakobune.distribution.push import Push
from hakobune.distribution.session import Access, Session
from hakobune.oci import descriptor as media
from hakobune.oci.digest import Digest
from hakobune.oci.manifest import Image, decode_index
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from hakobune.progress import Progress

Policy = Literal["missing", "always", "never"]
POLICIES: Final = ("missing", "always", "never")


def pull(
    store: Store,
    reference: Reference,
    platform: Platform,
    progress: Progress,
    *,
    access: Access | None = None,
) -> Image:
    """Bring an image into the store, unpacked and named by *reference*; what is here already is not fetched.

    Args:
        access: how registries are reached; by default as this process's environment and this user's files say.

    Raises:
        RegistryError: it cannot be had; the name is as it was.
        NoSuchPlatformError: not for this platform.
        UnpackError: a layer is damaged, or does what none may.
        StoreFullError: the disk is full.
    """
    with _session(store, access, progress) as session:
        run = Pull(store, session, reference, progress)
        source = run.head()
        document = run.document(str(source or wanted(reference)))
        source = document.digest
        if document.is_index:
            chosen = select_platform(decode_index(document.raw), platform, reference)
            document = run.document(str(chosen.digest))
        image = run.image(document)
        store.tag(image.digest, reference)
        return image


def push(
    store: Store,
    image: Image,
    reference: Reference,
    progress: Progress,
    *,
    access: Access | None = None,
) -> Digest:
    """Send an image to the registry in *reference*, under that name; gives its digest there, which is the one here.

    Raises:
        RegistryError: the registry does not take it.
        BlobUnknownError: a layer is not in the store.
    """
    with _session(store, access, progress) as session:
        Push(store, session, reference, progress).run(
            image.digest, image.manifest.media_type or media.MANIFEST
        )
    return image.digest


def _session(store: Store, access: Access | None, progress: Progress) -> Session:
    access = access or Access.read(os.environ, store.home, uid=os.geteuid())
    return Session(access, note=progress.note)
