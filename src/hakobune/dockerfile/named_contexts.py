"""`--build-context NAME=…`: what a build reads instead of an image or a stage of that name.

Whatever it is, it becomes an image: a folder is what `FROM scratch` and `COPY . /` make of it, so that its files are
found in the cache by their content.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import assert_never

from hakobune.dockerfile.build_context import git_source
from hakobune.dockerfile.errors import DockerfileError
from hakobune.dockerfile.git_source import is_git
from hakobune.dockerfile.graph import context_key
from hakobune.dockerfile.ignore_file import read_ignore_file
from hakobune.dockerfile.request import (
    DockerfileRequest,
    EmptyContext,
    FolderContext,
    ImageContext,
    LayoutContext,
    NamedContext,
    RemoteContext,
)
from hakobune.dockerfile.substitute import is_url
from hakobune.errors import HakoError, UsageError
from hakobune.oci.manifest import Image
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store

_WHOLE = "FROM scratch\nCOPY . /\n"


def parse_context(text: str, *, folder: Path) -> NamedContext:
    """What stands behind `NAME=`: a path, `docker-image://NAME`, `oci-layout://PATH[:TAG][@DIGEST]`, a git repository or a URL.

    Args:
        folder: what a path is relative to.

    Raises:
        UsageError: it is something else, or not there.
        ReferenceFormatError: the image's name is none.
    """
    path = folder / text
    if path.is_dir():
        return FolderContext(path)
    kind, separator, rest = text.partition("://")
    if kind == "docker-image":
        return ImageContext(Reference.parse(rest)) if rest != "scratch" else EmptyContext()
    if kind == "oci-layout":
        rest, _, digest = rest.partition("@")
        whole = folder / rest
        path, tag = (whole, "") if whole.exists() or ":" not in rest else _split_tag(folder, rest)
        if not (path / "oci-layout").exists():
            raise UsageError(f"{text} is no OCI layout", why=f"{path}/oci-layout is not there")
        return LayoutContext(path, tag, digest)
    if is_git(text):
        git_source(text, {})
        return RemoteContext(text)
    if is_url(text):
        return RemoteContext(text)
    raise UsageError(
        f"the build context {text} is no folder"
        if not separator
        else f"the build context {text} cannot be used",
        why="" if not separator else f"{kind}:// is not understood",
        fix="name a folder, docker-image://NAME, oci-layout://PATH, a git repository or a URL",
    )


def _split_tag(folder: Path, text: str) -> tuple[Path, str]:
    path, _, tag = text.rpartition(":")
    return folder / path, tag


class NamedContexts:
    """The contexts of one build as images, each made or fetched once a platform.

    Args:
        find_image: an image by name, for a platform.
        build: builds a request without telling about it.
    """

    def __init__(
        self,
        contexts: Mapping[str, NamedContext],
        request: DockerfileRequest,
        store: Store,
        find_image: Callable[[str, Platform], Image],
        build: Callable[[DockerfileRequest], Image],
    ) -> None:
        self._contexts = {context_key(name): context for name, context in contexts.items()}
        self._request = request
        self._store = store
        self._find_image = find_image
        self._build = build
        self._found: dict[tuple[str, str], Image] = {}
        self._lock = Lock()

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._contexts)

    def find(self, name: str, platform: Platform) -> Image:
        """The image that the context *name* is.

        Raises:
            HakoError: it cannot be had.
        """
        with self._lock:
            key = (name, str(platform))
            if key not in self._found:
                try:
                    self._found[key] = self._make(self._contexts[name], platform)
                except DockerfileError as error:  # of a Dockerfile that nobody has written
                    raise HakoError(
                        f"the build context {name} cannot be had: {error.problem}",
                        why=error.why,
                        fix=error.fix,
                    ) from error
            return self._found[key]

    def _make(self, context: NamedContext, platform: Platform) -> Image:
        match context:
            case ImageContext(reference):
                return self._find_image(str(reference), platform)
            case LayoutContext():
                return self._load(context, platform)
            case EmptyContext():
                return self._build(self._request_for(Path("/"), "FROM scratch\n", platform))
            case RemoteContext(url):
                # ADD of this room does it all: what it fetches is looked up anew, and found in the cache by its content.
                target = "/" if is_git(url) else "/context"
                text = (
                    f"FROM scratch\nADD {json.dumps([url.replace('$', chr(92) + '$'), target])}\n"
                )
                return self._build(self._request_for(Path("/"), text, platform))
            case FolderContext(path):
                return self._build(
                    replace(
                        self._request_for(path.absolute(), _WHOLE, platform),
                        ignore=read_ignore_file(path, None),
                    )
                )
            case _:
                assert_never(context)

    def _request_for(self, folder: Path, text: str, platform: Platform) -> DockerfileRequest:
        return DockerfileRequest(
            context=folder,
            dockerfile=folder / "Dockerfile",
            text=text,
            platform=platform,
            epoch=self._request.epoch,
            env=self._request.env,
        )

    def _load(self, context: LayoutContext, platform: Platform) -> Image:
        from hakobune.oci.archive import load_images

        loaded = load_images(
            self._store,
            context.path,
            platform,
            only=context.tag or None,
            all_platforms=bool(context.digest),
            naming=False,
        )
        chosen = [
            one for one in loaded if context.digest in ("", str(one.digest), str(one.image.digest))
        ]
        if len(chosen) != 1:
            raise HakoError(
                f"{context.path} has {len(chosen) or 'no'} image{'s' * (len(chosen) > 1)}"
                + (f" {context.digest}" if context.digest else ""),
                why="it has " + ", ".join(str(one.digest) for one in loaded),
                fix=f"oci-layout://{context.path}@DIGEST",
            )
        return chosen[0].image
