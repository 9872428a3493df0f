"""Where `[[buildpacks]]` of a builder.toml come from: folders, archives of folders, packages as images or `.cnb` files.

Archives and `.cnb` files may lie on the web (`distribution.web_file`).
"""

from __future__ import annotations

import os
import re
import stat
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import msgspec

from hakobune.buildpack.builder_labels import read_package_labels
from hakobune.buildpack.builder_toml import BuildpackSource
from hakobune.buildpack.descriptor import Buildpack
from hakobune.builds.builder import read_buildpack
from hakobune.builds.builder_image import buildpack_layer, stage_buildpack
from hakobune.builds.scratch import scratch
from hakobune.distribution.access import Access
from hakobune.distribution.transfer import Policy, find_or_pull
from hakobune.distribution.web_file import fetch_file
from hakobune.errors import HakoError
from hakobune.oci.archive import load_images
from hakobune.oci.layer import Layer
from hakobune.oci.manifest import Image
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.snapshot import stacked_dirs
from hakobune.oci.store import Store
from hakobune.oci.unpack import unpack_layer
from hakobune.progress import Progress

_NOT_SHIPPED: Final = frozenset({".git", "__pycache__"})
_EXECUTABLES: Final = ("detect", "build")
_LAYOUT: Final = "oci-layout"
# Below HAKO_HOME; `hako image prune --build-cache` removes it.
DOWNLOADS: Final = "cache/downloads"

Packed = tuple[Buildpack, Layer]


class BuildpackShelf(msgspec.Struct, frozen=True, kw_only=True):
    """Takes buildpacks from wherever a builder.toml says they are.

    Attributes:
        folder: what relative paths are relative to.
        home: `HAKO_HOME`, for downloads, and for folders that live as long as a copy; the caller holds the lock of all builders.
        env: says which proxies and authorities downloads go by.
    """

    store: Store
    folder: Path
    home: Path
    platform: Platform
    pull: Policy
    progress: Progress
    env: Mapping[str, str]

    def take(self, sources: Sequence[BuildpackSource]) -> tuple[Packed, ...]:
        """Every buildpack that *sources* name, each once, with its layer in the store.

        Raises:
            HakoError: one cannot be had, is no buildpack, or two of one version differ.
        """
        found: dict[tuple[str, str], Packed] = {}
        for source in sources:
            taken = tuple(self._take(source))
            _check_identity(source, taken)
            for buildpack, layer in taken:
                key = (buildpack.id, buildpack.version)
                other = found.setdefault(key, (buildpack, layer))
                if other[1].diff_id != layer.diff_id:
                    raise HakoError(
                        f"there are two buildpacks {buildpack.full_name} in the builder's list",
                        why=f"that of {source.uri or source.image} has other files",
                        fix="name one of them, or give one another version",
                    )
        return tuple(found.values())

    def _take(self, source: BuildpackSource) -> Iterator[Packed]:
        uri = source.uri
        name = source.image or image_name(uri)
        if name:
            image = find_or_pull(
                self.store, Reference.parse(name), self.platform, self.progress, self.pull
            )
            yield from self._packaged(image, name)
            return
        path = self._download(uri) if is_on_the_web(uri) else self._path(uri)
        if path.is_dir() and not (path / _LAYOUT).exists():
            yield self._from_folder(path, uri)
        elif path.is_dir() or _is_layout(path, uri):
            for loaded in load_images(self.store, path, self.platform, naming=False):
                yield from self._packaged(loaded.image, uri)
        else:
            with scratch(self.home / "cache", "archive") as folder:
                unpack_layer(path, folder, privileged=os.geteuid() == 0)
                yield self._from_folder(folder, uri)

    def _download(self, uri: str) -> Path:
        access = Access.read(self.env, self.home, uid=os.geteuid())
        folder = self.home / DOWNLOADS
        return fetch_file(uri, folder, access, self.progress, offline=self.pull == "never")

    def _path(self, uri: str) -> Path:
        path = self.folder / local_path(uri)
        if not path.exists():
            raise HakoError(
                f"there is no buildpack {uri}", why=f"{path} is not there", fix="check its uri"
            )
        return path

    def _from_folder(self, source: Path, name: str) -> Packed:
        if not (source / "buildpack.toml").is_file():
            raise HakoError(
                f"{name} is no buildpack",
                why="it has no buildpack.toml",
                fix="name the folder that holds buildpack.toml",
            )
        with scratch(self.home / "cache", "buildpack") as folder:
            buildpack = stage_buildpack(source, folder, left_out=_NOT_SHIPPED)
            buildpack.api_version  # noqa: B018 # raises if it is not supported
            if not buildpack.is_composite:
                _check_executables(folder / buildpack.directory[1:], name)
            return buildpack, buildpack_layer(self.store, buildpack, folder)

    def _packaged(self, image: Image, name: str) -> Iterator[Packed]:
        """The buildpacks of a package; their layers are taken as they are."""
        layers = {
            str(diff_id): Layer(blob, diff_id)
            for blob, diff_id in zip(image.manifest.layers, image.diff_ids, strict=True)
        }
        trees = stacked_dirs(self.store.snapshots(image))
        packaged = read_package_labels(image.config.labels, image=name)
        for buildpack_id, versions in packaged.items():
            for version, info in versions.items():
                layer = layers.get(info.layer_diff_id)
                if layer is None:
                    raise HakoError(
                        f"{name} is damaged",
                        why=f"its label says that {buildpack_id} {version} is the layer {info.layer_diff_id}, which it lacks",
                        fix="make the package again",
                    )
                yield read_buildpack(trees, buildpack_id, version, name), layer


def image_name(uri: str) -> str:
    """The image that `docker://NAME` (pack also writes `docker:/NAME`) means; empty for every other uri (pure)."""
    return uri.removeprefix("docker:").lstrip("/") if uri.startswith("docker:/") else ""


def is_on_the_web(uri: str) -> bool:
    return uri.startswith(("https://", "http://"))


def local_path(uri: str) -> str:
    """The path that a uri is, or says as `file://` (pure).

    Raises:
        HakoError: it is of a kind that cannot be had.
    """
    if uri.startswith("file://"):
        return unquote(uri.removeprefix("file://"))
    if uri.startswith("urn:cnb:registry:"):
        raise HakoError(
            f"the buildpack {uri} cannot be looked up",
            why="such names stand in an index on GitHub that says which image they mean, and hako does not read it",
            fix="name the image: docker://NAME (registry.buildpacks.io shows it as the buildpack's address)",
        )
    scheme = re.match(r"[a-z][a-z0-9+.-]+:", uri)
    if scheme:
        raise HakoError(
            f"the buildpack {uri} cannot be fetched",
            why=f"hako knows no {scheme[0]} uris; folders, archives (.tgz, .cnb), https:// and images (docker://NAME) can be named",
            fix="download it and name the file, or name its image",
        )
    return uri


def _check_executables(folder: Path, name: str) -> None:
    for executable in _EXECUTABLES:
        path = folder / "bin" / executable
        try:
            mode = path.stat().st_mode
        except OSError:
            mode = 0
        if not (stat.S_ISREG(mode) and mode & 0o111):
            raise HakoError(
                f"{name} cannot be used as a buildpack",
                why=f"bin/{executable} is {'not executable' if mode else 'missing'}",
                fix=f"chmod 755 {name}/bin/{executable}"
                if mode
                else f"write bin/{executable}, or an order of other buildpacks into its buildpack.toml",
            )


def _check_identity(source: BuildpackSource, taken: Sequence[Packed]) -> None:
    """What builder.toml says of a buildpack beside its place must be so."""
    if not source.id and not source.version:
        return
    have = [buildpack for buildpack, _ in taken]
    if any(
        source.id in ("", buildpack.id) and source.version in ("", buildpack.version)
        for buildpack in have
    ):
        return
    raise HakoError(
        f"{source.uri or source.image} is not the buildpack {source.id} {source.version}".rstrip(),
        why=f"it is {', '.join(buildpack.full_name for buildpack in have)}",
        fix="correct id and version in builder.toml, or leave them away",
    )


def _is_layout(path: Path, name: str) -> bool:
    """Whether an archive is a `.cnb` file: a tar of an OCI layout.

    Raises:
        HakoError: it is no archive.
    """
    try:
        with tarfile.open(path) as archive:
            return any(member.name.removeprefix("./") == _LAYOUT for member in archive)
    except (tarfile.TarError, OSError) as error:
        raise HakoError(
            f"{name} is no buildpack",
            why=f"it is neither a folder nor a tar archive ({error})",
            fix="name a folder, a .tgz of one, or a .cnb file",
        ) from error
