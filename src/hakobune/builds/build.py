"""A build: from a source folder to an image, or to the last image if nothing that goes in has changed.

Builds of one image wait for each other. This module answers the unchanged case, and imports nothing that only
running buildpacks needs; `transaction` does the rest.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from hakobune import __version__
from hakobune.builds.extension_files import extension_files, reads_context
from hakobune.builds.record import BuildFolder, BuildRecord
from hakobune.builds.request import (
    DEFAULT_BUILDER,
    BuildRequest,
    BuildResult,
    World,
    find_last,
    reused,
)
from hakobune.builds.source import Source, open_source
from hakobune.builds.source_copy import unchanged_digest
from hakobune.distribution.transfer import find_local
from hakobune.oci.blobs import room_for
from hakobune.oci.digest import Digest
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from hakobune.progress import Progress
from hakobune.support.locks import exclusive

_REPOSITORY: Final = Path(__file__).parents[3]
# What the default builder is made of: as long as stat says the same of them, it need not be looked into.
_BUILDER_FILES: Final = (
    "builders",
    "buildpacks",
    "launcher/bin",
    "scripts/uv.txt",
    "src/hakobune/builds",
)


def build(request: BuildRequest, world: World, progress: Progress) -> BuildResult:
    """Build an image from a source folder.

    Raises:
        HakoError: with the exit code of the phase that failed (CNB platform.md); the last image and everything
            that is kept for the next build is as it was.
    """
    begun = time.monotonic()
    if not request.platform.matches(Platform.host()):
        from hakobune.runtime.emulation import check_can_run  # most images are this machine's

        check_can_run(request.platform, name="the image to be built")
    source = open_source(request.source, request.descriptor)
    folder = BuildFolder(world.settings.home / "builds" / request.folder)
    if request.pull == "always":
        from hakobune.builds.images import refresh

        refresh(request, request.builder or source.project.builder, world.store, progress)

    def tell_waiting() -> None:
        progress.step(f"waiting for another build of {request.name.short}")

    with (
        room_for(f"the build of {request.name.short}", world.settings.home),
        exclusive(folder.lock, waiting=tell_waiting),
    ):
        record = folder.read_record()
        folder.clean(record)
        looks_same = record is not None and record.glance == glance_at(request, source, world.store)
        result = None
        if record is not None and looks_same:
            result = _unchanged(request, source, folder, record, world, progress)
        if result is None:
            from hakobune.builds.history import BuildHistory
            from hakobune.builds.transaction import run_build

            history = BuildHistory(world.settings.home)
            with history.recording(request.name.short, str(source.root), progress) as recording:
                result = run_build(
                    request, source, folder, record, world, recording, looks_same=looks_same
                )
                recording.digest = str(result.digest)
    return replace(result, seconds=time.monotonic() - begun)


def _unchanged(
    request: BuildRequest,
    source: Source,
    folder: BuildFolder,
    record: BuildRecord,
    world: World,
    progress: Progress,
) -> BuildResult | None:
    """The last image, if the source is what it was; everything else looks the same."""
    last = folder.source_of(record)
    if last is None or not request.may_reuse or request.buildpacks:
        return None
    digest = unchanged_digest(source, last, uid=record.uid, gid=record.gid)
    if digest is None or str(digest) != record.parts.get("source"):
        return None
    image = find_last(request, record, world.store)
    return None if image is None else reused(request, image, progress)


def glance_at(request: BuildRequest, source: Source, store: Store) -> str:
    """Everything that goes into a build besides the source, as far as names, digests and stat tell.

    Equal glances mean equal inputs; different ones mean that it has to be looked at.
    """
    builder = request.builder or source.project.builder
    names = [Reference.parse(builder) if builder else DEFAULT_BUILDER]
    if request.run_image:
        names.append(Reference.parse(request.run_image))
    else:
        names += [Reference.parse(name) for name in ("hako/base-run:13", "hako/base-tiny:13")]
    found = [find_local(store, name, request.platform) for name in names]
    parts = [
        __version__,
        *(
            f"{name} {image.digest if image else ''}"
            for name, image in zip(names, found, strict=True)
        ),
        *(f"{k}={v}" for k, v in sorted(request.env.items())),
        request.process_type,
        str(request.created),
        str(request.network),
        _stat_line(str(request.descriptor)) if request.descriptor else "",
        *([] if builder else _builder_files()),
        *(_extension_lines(source.root) if request.extend else ["not extended"]),
        str(request.allow_root),
        str(request.platform),
    ]
    return str(Digest.of("\0".join(parts).encode("utf-8", "surrogateescape")))


def _extension_lines(folder: Path) -> Iterator[str]:
    """One that reads files of the folder looks different each time: only the step cache knows whether these changed."""
    for file in extension_files(folder):
        yield os.urandom(8).hex() if reads_context(file) else _stat_line(str(file))


def _builder_files() -> Iterator[str]:
    for name in _BUILDER_FILES:
        path = _REPOSITORY / name
        if path.is_file():
            yield _stat_line(str(path))
        for folder, folders, files in os.walk(path):
            folders[:] = sorted(f for f in folders if f != "__pycache__")
            yield from (_stat_line(os.path.join(folder, file)) for file in sorted(files))


def _stat_line(path: str) -> str:
    status = os.stat(path)
    return f"{path} {status.st_size} {status.st_mtime_ns} {status.st_mode:o}"
