"""Images as the serving plane needs them: a reference to a digest, a digest to a container. Blocking work is in threads."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hakobune.distribution.pull_process import read_pull_result
from hakobune.distribution.transfer import is_outdated
from hakobune.errors import HakoError
from hakobune.oci.config import ImageConfig
from hakobune.oci.digest import Digest
from hakobune.oci.image_user import ImageUser, resolve_user
from hakobune.oci.manifest import Image
from hakobune.oci.reference import Reference
from hakobune.oci.snapshot import Snapshot, stacked_dirs
from hakobune.oci.store import Store
from hakobune.progress import SilentProgress
from hakobune.runtime.container import ContainerSpec
from hakobune.runtime.emulation import ForeignPlatformError, check_can_run
from hakobune.serving.catalog import RevisionEntry
from hakobune.serving.container_spec import make_container_spec
from hakobune.serving.errors import FailedPreconditionError, InvalidArgumentError

ROOM = "services"


@dataclass(frozen=True, slots=True)
class Unpacked:
    """An image that is ready to run."""

    config: ImageConfig
    snapshots: tuple[Snapshot, ...]
    user: ImageUser


class ImageGate(Protocol):
    """Who may deploy from where."""

    async def check(self, project: str, reference: Reference) -> None:
        """Let services of *project* run an image.

        Raises:
            HakoError: they may not read the repository that it is in.
        """
        ...


class Images:
    """The image store, seen from an asyncio loop.

    Args:
        gate: asked before an image becomes a revision's; everything is let through without one.
    """

    def __init__(self, open_store: Callable[[], Store], gate: ImageGate | None = None) -> None:
        self._open = open_store
        self._gate = gate
        self._store: Store | None = None
        self._unpacked: dict[str, Unpacked] = {}

    async def resolve(self, text: str, *, field: str, project: str) -> Digest:
        """The digest of the image that *text* names now, pulled if it is not here; it can run on this machine.

        Args:
            project: whose service will run it.

        Raises:
            InvalidArgumentError: no reference, or no such image here or in its registry.
            FailedPreconditionError: it is for another CPU, which nothing here emulates.
            HakoError: the gate does not let the project have it.
        """
        try:
            reference = Reference.parse(text)
        except HakoError as error:
            raise InvalidArgumentError(
                error.what, field=field, why=error.why, fix=error.fix
            ) from error
        if self._gate is not None:
            await self._gate.check(project, reference)
        try:
            image = await asyncio.to_thread(self._find, reference)
            if image is None:
                image = await self._pull(reference)
        except HakoError as error:
            raise InvalidArgumentError(
                error.what, field=field, why=error.why, fix=error.fix
            ) from error
        try:
            await asyncio.to_thread(check_can_run, image.platform, name=reference.short)
        except ForeignPlatformError as error:
            raise FailedPreconditionError(error.what, why=error.why, fix=error.fix) from error
        return image.digest

    async def _pull(self, reference: Reference) -> Image:
        """Have the image pulled by a process of its own: unpacking is too much for this one.

        Raises:
            HakoError: it cannot be pulled.
        """
        home = (await asyncio.to_thread(self._opened)).home
        arguments = ("-I", "-m", "hakobune.distribution.pull_process", str(home), str(reference))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            out, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        digest = read_pull_result(out, reference)
        return await asyncio.to_thread(self._opened().read_image, digest)

    async def keep(self, entry: RevisionEntry) -> None:
        """Keep the revision's image from being collected."""
        await asyncio.to_thread(self._keep, entry.name, entry.digest)

    async def release(self, revision: str) -> None:
        await asyncio.to_thread(self._release, revision)

    async def prepare(self, digest: str) -> Unpacked:
        """Unpack what is missing and resolve the image's user. Quick the second time.

        Raises:
            HakoError: the image is not here, is damaged, or names a user that it does not have.
        """
        unpacked = self._unpacked.get(digest)
        if unpacked is None:
            unpacked = await asyncio.to_thread(self._unpack, digest)
            self._unpacked[digest] = unpacked
        return unpacked

    async def container_spec(
        self, entry: RevisionEntry, *, id: str, log_path: Path
    ) -> ContainerSpec:
        """The container for an instance of that revision."""
        unpacked = await self.prepare(entry.digest)
        return make_container_spec(
            entry.revision,
            unpacked.config,
            unpacked.snapshots,
            unpacked.user,
            id=id,
            log_path=log_path,
        )

    def _opened(self) -> Store:
        if self._store is None:
            self._store = self._open()
        return self._store

    def _find(self, reference: Reference) -> Image | None:
        """The image in the store, if this installation's own registry has no other one under that name."""
        store = self._opened()
        image = store.find_image(reference)
        if image is not None and is_outdated(store, reference, SilentProgress()):
            return None
        return image

    def _keep(self, name: str, digest: str) -> None:
        self._opened().set_root(ROOM, name, [digest])

    def _release(self, name: str) -> None:
        self._opened().drop_root(ROOM, name)

    def _unpack(self, digest: str) -> Unpacked:
        store = self._opened()
        image = store.read_image(Digest.parse(digest))
        snapshots = store.snapshots(image)
        user = resolve_user(image.config.config.user, stacked_dirs(snapshots))
        return Unpacked(image.config, snapshots, user)
