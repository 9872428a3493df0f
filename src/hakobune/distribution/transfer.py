"""Pull, push, copy and resolve: what the rooms above call.

`find_or_pull` is the one function for whoever needs an image and does not care where it comes from.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from hakobune.distribution.own_registry import OwnRegistry
from hakobune.errors import HakoError
from hakobune.oci.blobs import BlobUnknownError
from hakobune.oci.digest import Digest
from hakobune.oci.manifest import Image, PlatformUnknownError, decode_index
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from hakobune.progress import Progress
from hakobune.settings import Settings

# What speaks HTTP takes 40 ms to import: only for who really asks a registry.
if TYPE_CHECKING:
    from hakobune.distribution.access import Access
    from hakobune.distribution.client import RegistryClient
    from hakobune.distribution.session import Session

Policy = Literal["missing", "always", "never"]
POLICIES: Final = ("missing", "always", "never")
# The own registry may just be started again; for longer, what is here will do.
_TRIES_NEARBY: Final = 3


class ImageNotHereError(HakoError):
    """An image is not in the store, and may or can not be pulled."""


def pull(
    store: Store,
    reference: Reference,
    platform: Platform,
    progress: Progress,
    *,
    access: Access | None = None,
    all_platforms: bool = False,
) -> Image:
    """Bring an image into the store, unpacked and named by *reference*; what is here already is not fetched.

    Args:
        access: how registries are reached; by default as this process's environment and this user's files say.
        all_platforms: keep the whole index under the name, with the images for all platforms.

    Raises:
        RegistryError: it cannot be had; the name is as it was.
        PlatformUnknownError: not for this platform.
        UnpackError: a layer is damaged, or does what none may.
        StoreFullError: the disk is full.
    """
    from hakobune.distribution.pull import Pull
    from hakobune.distribution.sources import wanted

    with _session(store.home, access, progress) as session:
        run = Pull(store, session, reference, progress)
        there = run.head()
        here = _as_pulled(store, reference, there, platform, all_platforms=all_platforms)
        if here is not None:
            progress.step(f"{reference.short} is up to date")
            if reference.tag is None and not store.has_name(reference):
                store.tag(there or here.digest, reference)
            return here
        document = run.document(str(there or wanted(reference)))
        if not document.is_index:
            image = run.image(document)
            _check_platform(image, platform, reference, progress)
            store.tag(image.digest, reference)
            return image
        if all_platforms:
            run.index(document, platform, names=(reference,))
            return store.read_image(document.digest, platform)
        index = decode_index(document.raw)
        chosen = index.select(platform)
        if chosen is None:
            raise PlatformUnknownError(reference.short, platform, index)
        image = run.image(run.document(str(chosen.digest)))
        store.tag(image.digest, reference, source=document.digest)
        return image


def find_or_pull(
    store: Store,
    reference: Reference,
    platform: Platform,
    progress: Progress,
    policy: Policy = "missing",
    *,
    access: Access | None = None,
) -> Image:
    """The image that *reference* names, for *platform*: from the store, or from its registry.

    A name that has one image only, for another platform, gives that one, with a warning: who runs it checks.

    Args:
        policy: `missing` asks the registry only for what is not here, `always` looks whether it has something newer,
            `never` does not ask it. This installation's own registry is asked by `missing`, too: it is as near as the store.

    Raises:
        ImageNotHereError: it is not here and may not, or can not, be pulled.
        and what `pull` raises.
    """
    here = find_local(store, reference, platform)
    if here is None and policy == "missing":
        here = _only_one(store, reference)
        if here is not None:
            _check_platform(here, platform, reference, progress)
    if here is not None and policy == "missing" and is_outdated(store, reference, progress):
        with contextlib.suppress(HakoError):  # then what is here will do
            return pull(store, reference, platform, progress, access=access)
    if here is not None and policy != "always":
        return here
    if policy == "never":
        raise ImageNotHereError(
            f"there is no image {reference.short} for {platform} here",
            why="it may not be pulled",
            fix=f"`hako image pull {reference.short}`",
        )
    if here is not None:
        return pull(store, reference, platform, progress, access=access)
    progress.step(f"{reference.short} is not here: asking {reference.registry} for it")
    return _pull_missing(store, reference, platform, progress, access)


def is_outdated(store: Store, reference: Reference, progress: Progress) -> bool:
    """Whether this installation's own registry has another image under a tag than the store; of other registries nothing is asked."""
    if reference.digest is not None:
        return False
    settings = Settings.from_environment(
        {**os.environ, "HAKO_HOME": str(store.home)}, uid=os.geteuid()
    )
    if not OwnRegistry.of(settings).means(reference):
        return False
    from hakobune.distribution.access import Access

    access = Access.read(os.environ, store.home, uid=os.geteuid())
    try:
        there = resolve(store, reference, progress, access=replace(access, attempts=_TRIES_NEARBY))
    except HakoError:
        return False
    return there not in (store.find_digest(reference), store.source(reference))


def _pull_missing(
    store: Store,
    reference: Reference,
    platform: Platform,
    progress: Progress,
    access: Access | None,
) -> Image:
    from hakobune.distribution.errors import RegistryError

    try:
        return pull(store, reference, platform, progress, access=access)
    except RegistryError as error:
        raise ImageNotHereError(
            f"there is no image {reference.short} here, and it cannot be pulled",
            why=error.why,
            fix="; ".join(filter(None, ("`hako image ls` lists what is here", error.fix))),
        ) from error


def _only_one(store: Store, reference: Reference) -> Image | None:
    """The image of that name if it is for another platform and the only one: built here, or pulled as such."""
    if store.find_index(reference) is not None or store.source(reference) is not None:
        return None
    return store.find_image(reference)


def find_local(store: Store, reference: Reference, platform: Platform) -> Image | None:
    """The image of that name in the store, if it is for *platform*."""
    try:
        image = store.find_image(reference, platform)
    except (PlatformUnknownError, BlobUnknownError):
        return None
    return image if image is not None and image.platform.matches(platform) else None


def resolve(
    store: Store, reference: Reference, progress: Progress, *, access: Access | None = None
) -> Digest:
    """What the name stands for in its registry now: an image's or an index's digest. Nothing is pulled.

    Raises:
        NotThereError: there is no such name.
        RegistryError: the registry does not say.
    """
    from hakobune.distribution.pull import Pull
    from hakobune.distribution.sources import wanted

    with _session(store.home, access, progress) as session:
        run = Pull(store, session, reference, progress)
        return run.head() or run.document(wanted(reference)).digest


def push(
    store: Store,
    image: Image | Digest,
    reference: Reference,
    progress: Progress,
    *,
    access: Access | None = None,
) -> Digest:
    """Send an image to the registry in *reference*, under that name; gives its digest there, which is the one here.

    Args:
        image: or the digest of an index in the store, which is sent with all that it lists.

    Raises:
        RegistryError: the registry does not take it.
        BlobUnknownError: a layer is not in the store.
    """
    from hakobune.distribution.push import Push

    digest = image if isinstance(image, Digest) else image.digest
    with _session(store.home, access, progress) as session:
        Push(store, session, reference, progress).run(digest)
    return digest


def copy(
    source: Reference,
    target: Reference,
    progress: Progress,
    *,
    home: Path,
    platform: Platform | None = None,
    referrers: bool = False,
    access: Access | None = None,
) -> Digest:
    """Copy from registry to registry without keeping anything here; gives the digest, which is the same in both.

    Args:
        home: `HAKO_HOME`, for its configuration of registries.
        platform: copy the image for it alone; by default an index is copied whole.
        referrers: copy also what refers to it: signatures, SBOMs, attestations.

    Raises:
        RegistryError: one of the two does not do its part.
        PlatformUnknownError: not for this platform.
    """
    from hakobune.distribution.copy import Copy

    with _session(home, access, progress) as session:
        return Copy(session, source, target, progress).run(platform, referrers=referrers)


@contextlib.contextmanager
def open_repository(
    reference: Reference,
    progress: Progress,
    *,
    home: Path,
    what: str,
    actions: str = "pull",
    access: Access | None = None,
) -> Iterator[RegistryClient]:
    """A client for the registry's other calls on the repository of *reference*: tags, referrers, deletion.

    Args:
        what: begins every error: `cannot list the tags of debian`.
        actions: `pull`, `pull,push` or `pull,push,delete`.
    """
    from hakobune.distribution.client import RegistryClient

    with _session(home, access, progress) as session:
        endpoint = session.access.registries.endpoints(reference, pull=False)[0]
        yield RegistryClient(session, endpoint, what=what, actions=actions)


def _as_pulled(
    store: Store,
    reference: Reference,
    there: Digest | None,
    platform: Platform,
    *,
    all_platforms: bool,
) -> Image | None:
    """The image in the store if *reference* is what the registry has now, and all of it is here and unpacked."""
    if there is None:
        return None
    digest = store.find_digest(reference)
    if digest is None or there not in (digest, None if all_platforms else store.source(reference)):
        return None
    image = find_local(store, reference, platform)
    if image is None or not all(map(store.keep_blob, (b.digest for b in image.manifest.layers))):
        return None
    store.snapshots(image)
    return image


def _check_platform(
    image: Image, platform: Platform, reference: Reference, progress: Progress
) -> None:
    """Say that an image that is for one platform only is for another one (docker does); artifacts are for none."""
    if str(image.platform) and not image.platform.matches(platform):
        progress.note(
            f"{reference.short} is for {image.platform}, not for {platform}", warning=True
        )


def open_session(home: Path, progress: Progress) -> Session:
    """Conversations with registries as this process's environment and this user's files say; a context manager."""
    return _session(home, None, progress)


def _session(home: Path, access: Access | None, progress: Progress) -> Session:
    from hakobune.distribution.access import Access
    from hakobune.distribution.session import Session

    access = access or Access.read(os.environ, home, uid=os.geteuid())
    return Session(access, note=progress.note)
