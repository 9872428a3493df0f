"""What the phases need from the world: a place where buildpacks run, images to read, a place for the new one.

The runtime's sandbox and the image store happen to fit; `builds` puts them together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from hakobune.buildpack.target import ImageTarget
from hakobune.oci.config import ImageConfig
from hakobune.oci.digest import Digest
from hakobune.oci.manifest import Image
from hakobune.oci.reference import Reference

# Detection needs no layers, and importing what writes them takes longer than it.
if TYPE_CHECKING:
    from hakobune.oci.layer import BlobWriter, Layer
    from hakobune.oci.settle import Settled

PLATFORM_API = "0.15"


class Entry(Protocol):
    """One name in a directory."""

    @property
    def name(self) -> str: ...

    @property
    def is_directory(self) -> bool:
        """It is a directory itself, not a link to one."""
        ...


class BuildEnvironment(Protocol):
    """A build container: files as its processes see them, and processes.

    Paths are absolute inside of it and never lead out of it. Files are written between
    executables, not while one runs.
    """

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str,
        uid: int,
        gid: int,
        output: Callable[[bytes], None],
        timeout_s: float | None = None,
    ) -> int:
        """Run an executable with exactly *env* and wait; gives its exit code, 128 + N after signal N.

        *output* receives stdout and stderr together, as they come.
        """
        ...

    def read_file(self, path: str) -> bytes | None:
        """A regular file's contents; `None` if there is none at *path*."""
        ...

    def write_file(self, path: str, data: bytes, *, mode: int, uid: int, gid: int) -> None:
        """Put a file at *path*, in a directory that exists."""
        ...

    def make_directory(self, path: str, *, mode: int, uid: int, gid: int) -> None:
        """Make a directory and its missing parents; one that is there stays as it is."""
        ...

    def list_directory(self, path: str) -> tuple[Entry, ...] | None:
        """What is in a directory, sorted by name; `None` if there is no directory at *path*."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file, or a directory with all that is in it; nothing there is fine."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Rename within the container; what was at *new* is gone."""
        ...

    def open_directory(self, path: str) -> int:
        """A descriptor of a directory, for reading it after `kill_processes`; the caller closes it."""
        ...

    def kill_processes(self) -> None:
        """End everything that runs inside; files can be read until the container is closed."""
        ...


class ImageSource(Protocol):
    """Where images are found."""

    def find_image(self, reference: Reference) -> Image | None: ...

    def has_blob(self, digest: Digest) -> bool: ...

    def blob_path(self, digest: Digest) -> Path: ...


class ImageSink(Protocol):
    """Where the new image goes."""

    def new_blob(self) -> AbstractContextManager[BlobWriter]: ...

    def has_blob(self, digest: Digest) -> bool: ...

    def publish_image(
        self,
        *,
        config: ImageConfig,
        layers: Sequence[Layer],
        names: Sequence[Reference] = (),
        annotations: Mapping[str, str] = {},
    ) -> Image: ...


class LayerChanges(Protocol):
    """Tells whether this build really changed a layer (facts: overlay.md, Rules 2 to 4)."""

    def settle(self, path: str, snapshot: str | None, *, launch: bool) -> Settled:
        """What became of a layer, with the evidence; asked after `kill_processes`, writes nothing.

        Args:
            path: the layer's directory from the root of the container, without a leading slash.
            snapshot: the key under which the last build kept it, and which the container shows; `None` if it
                was not kept.
            launch: compare by bytes; otherwise equal size, mode, owner and time are enough.
        """
        ...


class BuildContext(msgspec.Struct, frozen=True, kw_only=True):
    """Where and as whom buildpacks run.

    Args:
        variables: the environment from which each executable starts (see `buildpack.environment.inherit`).
        target: the run image's, for `CNB_TARGET_…`.
    """

    environment: BuildEnvironment
    uid: int
    gid: int
    variables: Mapping[str, str] = msgspec.field(default_factory=dict)
    target: ImageTarget
    exec_env: str = "production"
    app: str = "/workspace"
    layers: str = "/layers"
    platform: str = "/platform"
    build_config: str = "/cnb/build-config"

    def read_folder(self, path: str) -> dict[str, bytes]:
        """The regular files directly in *path*; links to directories and missing folders count for nothing."""
        files: dict[str, bytes] = {}
        for entry in self.environment.list_directory(path) or ():
            if not entry.is_directory:
                data = self.environment.read_file(f"{path}/{entry.name}")
                if data is not None:
                    files[entry.name] = data
        return files

    def write(self, path: str, data: bytes) -> None:
        """Put a file that the build user may change."""
        self.environment.write_file(path, data, mode=0o644, uid=self.uid, gid=self.gid)

    def make_directory(self, path: str) -> None:
        self.environment.make_directory(path, mode=0o755, uid=self.uid, gid=self.gid)
