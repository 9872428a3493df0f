"""The build and run images of a new builder: found, or made from Dockerfiles, and seen to be what a builder needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec.structs import replace

from hakobune.buildpack.builder_toml import (
    BaseSource,
    BuilderToml,
)
from hakobune.buildpack.target import ImageTarget
from hakobune.builds.base import OURS, ensure_base_images
from hakobune.builds.host_environment import proxies
from hakobune.builds.image_extension import os_release_of
from hakobune.builds.own_images import ensure_mentioned_images
from hakobune.builds.request import World
from hakobune.distribution.transfer import ImageNotHereError, Policy, find_or_pull
from hakobune.dockerfile.build import build as build_dockerfile
from hakobune.dockerfile.request import DockerfileRequest
from hakobune.errors import HakoError, UsageError
from hakobune.lifecycle.analyze import image_target
from hakobune.oci.image_user import resolve_user
from hakobune.oci.manifest import Image
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.snapshot import stacked_dirs
from hakobune.progress import Progress

_STACK_LABEL = "io.buildpacks.stack.id"


class CreationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One builder.

    Attributes:
        config: the builder.toml; what is relative in it is relative to its folder.
        build_dockerfile, run_dockerfile: make the build image and the first run image, instead of what the file says;
            relative to the caller's folder.
        build_target, run_target: their stages; empty: the last ones.
        args: `--build-arg` of the Dockerfiles.
        labels: beside those that every builder has.
        pull: whether images are asked for at their registries.
        network: whether RUNs can reach anything.
    """

    config: Path
    names: tuple[Reference, ...]
    platform: Platform
    build_dockerfile: Path | None = None
    build_target: str = ""
    run_dockerfile: Path | None = None
    run_target: str = ""
    args: Mapping[str, str] = {}
    labels: Mapping[str, str] = {}
    pull: Policy = "missing"
    network: bool = True


def base_sources(
    definition: BuilderToml, request: CreationRequest
) -> tuple[BaseSource, tuple[BaseSource, ...]]:
    """Where build image and run images come from: what the file says, but for the request's Dockerfiles (pure).

    Raises:
        UsageError: a stage is asked for, but no Dockerfile.
    """
    build, (first, *others) = definition.build_source, definition.run_sources or (None,)
    build = _made_from(build, request.build_dockerfile, request.build_target, "build")
    if first is None:
        return build, ()
    return build, (_made_from(first, request.run_dockerfile, request.run_target, "run"), *others)


def _made_from(source: BaseSource, file: Path | None, target: str, kind: str) -> BaseSource:
    if file is not None:
        return BaseSource(image=source.image, dockerfile=str(file.absolute()), target=target)
    if target and not source.dockerfile:
        raise UsageError(
            f"--{kind}-target {target} is a stage, but no Dockerfile is named",
            fix=f"--{kind}-dockerfile FILE",
        )
    return replace(source, target=target) if target else source


def find_bases(
    request: CreationRequest, definition: BuilderToml, world: World, progress: Progress
) -> tuple[Image, ImageTarget]:
    """The build image and what it is; run images are made, fetched and compared with it.

    Raises:
        HakoError: one cannot be made, is no build image, or they do not fit together.
    """
    build, runs = base_sources(definition, request)
    progress.phase("Build and run image")
    base = _have(build, request, world, progress)
    target = image_target(base, os_release_of(world.store, base))
    check_build_image(base, build, definition, is_root=_is_root(base, world))
    progress.step(f"build image {build.image}: {target}")
    for run in runs:
        try:
            image = _have(run, request, world, progress)
        except ImageNotHereError as error:
            progress.note(
                f"the run image {run.image} cannot be looked at: {error.why}", warning=True
            )
            continue
        found = image_target(image, os_release_of(world.store, image))
        check_run_image(image, run, found, build, target, definition)
        if _is_root(image, world):
            progress.note(
                f"the run image {run.image} runs as root: apps will, too{_hint(run)}", warning=True
            )
        progress.step(f"run image {run.image}: {found}")
    return base, target


def _have(source: BaseSource, request: CreationRequest, world: World, progress: Progress) -> Image:
    """The image: made from its Dockerfile, from the store, or from its registry."""
    name = Reference.parse(source.image)
    if source.dockerfile:
        return _build(source, name, request, world, progress)
    if name in OURS:
        ensure_base_images(world.store, world.settings.home, progress, platform=request.platform)
    image = find_or_pull(world.store, name, request.platform, progress, request.pull)
    if not image.platform.matches(request.platform):
        raise HakoError(
            f"{source.image} is for {image.platform}, the builder shall be for {request.platform}",
            fix=f"--platform {image.platform}, or another image",
        )
    return image


def _build(
    source: BaseSource,
    name: Reference,
    request: CreationRequest,
    world: World,
    progress: Progress,
) -> Image:
    file = request.config.parent / source.dockerfile
    if file.is_file():
        text = file.read_text(errors="replace")
        ensure_mentioned_images(text, world.store, world.settings.home, progress, request.platform)
    progress.step(
        f"{source.image} from {source.dockerfile}" + f" ({source.target})" * bool(source.target)
    )
    built = build_dockerfile(
        DockerfileRequest(
            context=file.parent.absolute(),
            dockerfile=file,
            target=source.target,
            args={**proxies(world.env), **request.args},
            platform=request.platform,
            names=(name,),
            pull=request.pull,
            network="default" if request.network else "none",
            env=world.env,
        ),
        world.store,
        world.settings,
        progress,
    )
    return built.image


def check_build_image(
    image: Image, source: BaseSource, definition: BuilderToml, *, is_root: bool
) -> None:
    """See that an image can be a build image (CNB platform.md "Build Image"; pure).

    Raises:
        HakoError: its user is not said or is root, or its stack is another than builder.toml's.
    """
    for variable in ("CNB_USER_ID", "CNB_GROUP_ID"):
        if not image.config.env.get(variable, "").isdecimal():
            raise HakoError(
                f"{source.image} is no build image",
                why=f"its variable {variable} must be a number, and is {image.config.env.get(variable, '')!r}",
                fix=f"ENV {variable}=1001 in its Dockerfile, for a user that it has",
            )
    if is_root or image.config.env["CNB_USER_ID"] == "0":
        raise HakoError(
            f"{source.image} is no build image",
            why="it runs as root; buildpacks may not",
            fix="end its Dockerfile with USER ${CNB_USER_ID}:${CNB_GROUP_ID}",
        )
    _check_stack(image, source, definition)


def check_run_image(
    image: Image,
    source: BaseSource,
    target: ImageTarget,
    build: BaseSource,
    build_target: ImageTarget,
    definition: BuilderToml,
) -> None:
    """See that what is built on the build image can run on the run image (pure).

    Raises:
        HakoError: they are for other CPUs, of other systems, or of another stack than builder.toml says.
    """
    platforms = [(one.os, one.arch) for one in (target, build_target)]
    distros = [one.distro for one in (target, build_target)]
    if platforms[0] != platforms[1] or (all(distros) and distros[0] != distros[1]):
        raise HakoError(
            f"the run image {source.image} does not fit the build image {build.image}",
            why=f"it is {target}, the build image is {build_target}",
            fix="make both from one base: FROM the same image in both Dockerfiles",
        )
    _check_stack(image, source, definition)


def _check_stack(image: Image, source: BaseSource, definition: BuilderToml) -> None:
    if definition.stack is None or not definition.stack.id:
        return
    found, wanted = image.config.labels.get(_STACK_LABEL, ""), definition.stack.id
    if found != wanted:
        raise HakoError(
            f"{source.image} is not of the stack {wanted!r}",
            why=f"its label {_STACK_LABEL} is {found!r}"
            if found
            else f"it has no label {_STACK_LABEL}",
            fix=f"LABEL {_STACK_LABEL}={wanted} in its Dockerfile, or [build] and [run] instead of [stack]",
        )


def _is_root(image: Image, world: World) -> bool:
    trees = stacked_dirs(world.store.snapshots(image))
    return resolve_user(image.config.config.user, trees).uid == 0


def _hint(source: BaseSource) -> str:
    return f" (end {source.dockerfile} with USER)" if source.dockerfile else ""
