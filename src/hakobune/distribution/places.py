"""Places of images beside registries, spelled as skopeo and podman spell them, and copying between any two.

`docker://NAME`, `docker-daemon:NAME`, `docker-archive:FILE[:NAME]`, `oci-archive:FILE[:NAME]`, `oci:FOLDER[:NAME]`;
a name alone is a registry's.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hakobune.distribution.daemon import daemon_of
from hakobune.distribution.place import Place
from hakobune.distribution.transfer import open_session, push
from hakobune.errors import HakoError, UsageError
from hakobune.oci.archive import load_images
from hakobune.oci.archive_save import add_to_folder, save_archive, save_docker_archive
from hakobune.oci.blobs import room_for
from hakobune.oci.digest import Digest
from hakobune.oci.manifest import Image, PlatformUnknownError, decode_index, is_index
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from hakobune.progress import Progress


@dataclass(frozen=True, slots=True)
class Taken:
    """What is in the store now, without a name here, and how it is called where it was."""

    digest: Digest
    names: tuple[Reference, ...]


def take(
    store: Store,
    place: Place,
    platform: Platform,
    progress: Progress,
    *,
    env: Mapping[str, str],
    all_platforms: bool = False,
) -> tuple[Taken, ...]:
    """Bring what is at *place* into the store, without a name; several if a file has several and none is named.

    Raises:
        RegistryError, DaemonError, ArchiveError: it cannot be had.
        PlatformUnknownError: not for this platform.
        DigestError, UnpackError: it is damaged.
    """
    if place.is_registry:
        return (_take_from_registry(store, place, platform, progress, all_platforms=all_platforms),)
    if place.transport == "docker-daemon":
        progress.step(f"{place.reference.short}: asking the docker daemon for it")
        with daemon_of(env).save(place.reference) as stream, store.spool(stream) as path:
            loaded = load_images(store, path, platform, naming=False)
        return tuple(Taken(item.digest, (place.reference,)) for item in loaded)
    assert place.path is not None
    loaded = load_images(
        store,
        place.path,
        platform,
        only=place.name or None,
        all_platforms=all_platforms,
        naming=False,
    )
    return tuple(Taken(item.digest, item.names) for item in loaded)


def put(
    store: Store,
    digest: Digest,
    place: Place,
    platform: Platform,
    progress: Progress,
    *,
    env: Mapping[str, str],
) -> Digest:
    """Send an image or index of the store to *place*; gives the digest of what was sent.

    Args:
        platform: which image of an index, where the place takes one image only (docker's).

    Raises:
        RegistryError, DaemonError, ArchiveError: it is not taken.
        PlatformUnknownError: the index has none for the platform.
    """
    if place.is_registry:
        return push(store, digest, place.reference, progress)
    match place.transport:
        case "docker-daemon":
            image = store.read_image(digest, platform)
            daemon_of(env).load(store, image, place.reference, progress.note)
            return image.digest
        case "oci":
            assert place.path is not None
            with _writing(place.path):
                add_to_folder(store, digest, place.name, place.path)
            return digest
        case _:
            return _put_into_file(store, digest, place, platform)


def name_in(place: Place, fallback: Reference | None) -> Place:
    """The place with a name, taken from the image's own where it has none."""
    if place.name or fallback is None or place.is_registry:
        return place
    name = fallback.short if place.transport.startswith("docker") else str(fallback)
    return Place(place.transport, name, place.path)


def _put_into_file(store: Store, digest: Digest, place: Place, platform: Platform) -> Digest:
    """Write beside the file and rename: an interrupted copy leaves what was there."""
    path = place.path
    assert path is not None
    if not place.name:
        raise UsageError(f"{place} gives the image no name", fix=f"{place}:NAME")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    name = place.reference  # checked before anything is written
    with _writing(path):
        try:
            with open(temporary, "wb") as out:
                if place.transport == "docker-archive":
                    image: Image = store.read_image(digest, platform)
                    save_docker_archive(store, {name: image}, out)
                    digest = image.digest
                else:
                    save_archive(store, {place.name: digest}, out)
            os.rename(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    return digest


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Errors of the disk name the file that was to be written."""
    try:
        with room_for(f"the archive {path}", path.absolute().parent):
            yield
    except OSError as error:
        raise HakoError(f"cannot write {path}", why=error.strerror or str(error)) from error


def _take_from_registry(
    store: Store,
    place: Place,
    platform: Platform,
    progress: Progress,
    *,
    all_platforms: bool,
) -> Taken:
    from hakobune.distribution.pull import Pull
    from hakobune.distribution.sources import wanted

    reference = place.reference
    with open_session(store.home, progress) as session:
        run = Pull(store, session, reference, progress)
        document = run.document(wanted(reference))
        if is_index(document.raw):
            if all_platforms:
                run.index(document, platform, names=())
                return Taken(document.digest, (reference,))
            index = decode_index(document.raw)
            chosen = index.select(platform)
            if chosen is None:
                raise PlatformUnknownError(reference.short, platform, index)
            document = run.document(str(chosen.digest))
        return Taken(run.image(document).digest, (reference,))
