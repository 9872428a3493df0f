"""What a build is asked for and what it gives, as values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from hakobune.buildpack.descriptor import GroupElement
from hakobune.builds.record import BuildRecord
from hakobune.distribution.transfer import Policy
from hakobune.lifecycle.fate import LayerFate
from hakobune.oci.digest import Digest
from hakobune.oci.manifest import Image
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from hakobune.progress import Progress
from hakobune.settings import Settings

DEFAULT_BUILDER: Final = Reference.parse("hako/builder:13")


class BuildRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One build.

    Args:
        name: of the image; builds of one name share caches and wait for each other.
        builder, run_image: names of images; empty: the project descriptor's, else the default ones.
        pull: whether these are asked for at their registries: when they are not here, always, or never.
        buildpacks: replace the builder's order with one group: `id`, `id@version` or a folder.
        env: for buildpacks (`/platform/env`), not for the image.
        tags: further names for the image.
        process_type: the default process; empty: what the buildpacks say.
        rebuild: build although nothing that goes in has changed.
        clear_cache: forget what the last build kept.
        network: whether buildpacks can reach anything.
        created: `SOURCE_DATE_EPOCH`; `None` is 1980.
        extend: apply the source's `run.Dockerfile` and `build.Dockerfile`.
        allow_root: an extended run image may run as root.
        platform: what the image is for. Another CPU's buildpacks must run here, emulated.
    """

    source: Path
    name: Reference
    builder: str = ""
    run_image: str = ""
    buildpacks: tuple[str, ...] = ()
    env: Mapping[str, str] = msgspec.field(default_factory=dict)
    tags: tuple[Reference, ...] = ()
    process_type: str = ""
    descriptor: Path | None = None
    rebuild: bool = False
    clear_cache: bool = False
    network: bool = True
    created: int | None = None
    pull: Policy = "missing"
    extend: bool = True
    allow_root: bool = False
    platform: Platform = msgspec.field(default_factory=Platform.host)

    @property
    def folder(self) -> str:
        """Where its caches are, below `HAKO_HOME/builds`."""
        return folder_name(self.name, self.platform)

    @property
    def may_reuse(self) -> bool:
        """Whether the last image may be the answer."""
        return not self.rebuild and not self.clear_cache


class World(msgspec.Struct, frozen=True, kw_only=True):
    """Where builds happen: the store, the installation, and the caller's variables."""

    store: Store
    settings: Settings
    env: Mapping[str, str]


class BuildResult(msgspec.Struct, frozen=True, kw_only=True):
    """A finished build.

    Args:
        fates: what became of each layer; empty if *reused*.
        changed: source paths that differ from the last build's.
        told: what the buildpacks printed first.
        new_layers: how many layers of the image the last one did not have.
        reused: nothing that goes in had changed: the image is the last build's.
    """

    image: Image
    reference: str
    group: tuple[GroupElement, ...] = ()
    fates: tuple[LayerFate, ...] = ()
    changed: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    new_layers: int = 0
    seconds: float = 0.0
    reused: bool = False

    @property
    def digest(self) -> Digest:
        return self.image.digest


def find_last(request: BuildRequest, record: BuildRecord, store: Store) -> Image | None:
    """The last build's image if it is whole; it gets the names that are asked for."""
    digest = Digest.parse(record.image)
    if not store.has_blob(digest):
        return None
    image = store.read_image(digest)
    if not all(store.has_blob(layer.digest) for layer in image.manifest.layers):
        return None
    for name in (request.name, *request.tags):
        if store.find_digest(name) != digest:
            store.tag(digest, name)
    return image


def reused(request: BuildRequest, image: Image, progress: Progress) -> BuildResult:
    """The answer when nothing that goes in has changed."""
    progress.step(
        "nothing that goes in has changed: the image is the last build's (--rebuild forces)"
    )
    return BuildResult(image=image, reference=reference_of(request, image), reused=True)


def reference_of(request: BuildRequest, image: Image) -> str:
    """The image's name with its digest."""
    return str(request.name.with_digest(image.digest))


def folder_name(reference: Reference, platform: Platform) -> str:
    """The folder of an image's builds below `HAKO_HOME/builds`, readable and unambiguous; each platform has its own."""
    name = quote(str(reference), safe="")
    if platform.matches(Platform.host()):
        return name
    return f"{name}@{str(platform).replace('/', '-')}"
