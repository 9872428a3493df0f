"""`builder.toml` becomes a builder image; its base images may be made from Dockerfiles on the way (CNB distribution.md "Builder").

Every image is found or made and checked before anything is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec.structs import replace

from hakobune.buildpack.builder_toml import (
    BaseSource,
    BuilderToml,
    LifecycleSection,
    parse_builder_toml,
)
from hakobune.buildpack.descriptor import Buildpack, effective_targets
from hakobune.buildpack.target import ImageTarget
from hakobune.builds.base import BUILD_IMAGE, RUN_IMAGE, TINY_IMAGE, ensure_base_images
from hakobune.builds.builder import Builder, read_builder, user_id
from hakobune.builds.builder_image import BuilderContents, publish_builder
from hakobune.builds.buildpack_sources import BuildpackShelf
from hakobune.builds.host_environment import proxies
from hakobune.builds.image_extension import os_release_of
from hakobune.builds.request import World
from hakobune.distribution.transfer import ImageNotHereError, Policy, find_or_pull
from hakobune.dockerfile.build import build as build_dockerfile
from hakobune.dockerfile.request import DockerfileRequest
from hakobune.errors import HakoError, UsageError
from hakobune.lifecycle.analyze import image_target
from hakobune.oci.image_user import resolve_user
from hakobune.oci.layer import Owner
from hakobune.oci.manifest import Image
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.snapshot import stacked_dirs
from hakobune.progress import Progress
from hakobune.support.locks import exclusive

_STACK_LABEL = "io.buildpacks.stack.id"
_OURS = (BUILD_IMAGE, RUN_IMAGE, TINY_IMAGE)


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


def create_builder(request: CreationRequest, world: World, progress: Progress) -> Builder:
    """Make a builder and give it its names.

    Raises:
        HakoError: builder.toml is wrong, an image or a buildpack cannot be had or does not fit, a Dockerfile failed. The
            names are as they were; base images that were made by then have theirs.
    """
    definition = _read(request)
    lock = world.settings.home / "cache/builders.lock"
    with exclusive(lock, waiting=lambda: progress.step("waiting for another builder to be made")):
        if definition.lifecycle != LifecycleSection():
            progress.note(
                "[lifecycle] is left aside: the builder gets hako's launcher, and hako brings the phases",
                warning=True,
            )
        base, target = _find_bases(request, definition, world, progress)
        shelf = BuildpackShelf(
            store=world.store,
            folder=request.config.parent,
            home=world.settings.home,
            platform=request.platform,
            pull=request.pull,
            progress=progress,
            env=world.env,
        )
        progress.phase("Buildpacks")
        packed = shelf.take(definition.buildpacks)
        for buildpack, _ in packed:
            check_target(buildpack, target, definition.build_image)
            progress.step(buildpack.full_name)
        if not definition.order:
            progress.note(
                "builder.toml has no order: builds must choose with --buildpack", warning=True
            )
        image = publish_builder(
            world.store,
            BuilderContents(
                base=base,
                definition=definition,
                user=Owner(
                    user_id(base, "CNB_USER_ID", definition.build_image),
                    user_id(base, "CNB_GROUP_ID", definition.build_image),
                ),
                buildpacks=packed,
                labels=request.labels,
            ),
            request.names,
        )
    return read_builder(world.store, image, name="the builder")


def _read(request: CreationRequest) -> BuilderToml:
    try:
        data = request.config.read_bytes()
    except OSError as error:
        raise HakoError(
            f"cannot read {request.config}",
            why=error.strerror or str(error),
            fix="name the builder.toml with -c",
        ) from error
    return parse_builder_toml(data, name=str(request.config))


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


def _find_bases(
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
    if name in _OURS:
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
    if file.is_file() and any(ours.short in file.read_text(errors="replace") for ours in _OURS):
        ensure_base_images(world.store, world.settings.home, progress, platform=request.platform)
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
    if definition.stack is None:
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


def check_target(buildpack: Buildpack, target: ImageTarget, build_image: str) -> None:
    """See that a buildpack can run on the build image (pure).

    Raises:
        HakoError: it is for another system or CPU.
    """
    if buildpack.is_composite:
        return
    targets = effective_targets(buildpack, has_build=True)
    if not any(one.matches(target) for one in targets):
        raise HakoError(
            f"the buildpack {buildpack.full_name} does not run on {build_image}",
            why=f"it is for {' or '.join(map(str, targets))}; the build image is {target}",
            fix="take it out of builder.toml, or choose another build image",
        )


def _is_root(image: Image, world: World) -> bool:
    trees = stacked_dirs(world.store.snapshots(image))
    return resolve_user(image.config.config.user, trees).uid == 0


def _hint(source: BaseSource) -> str:
    return f" (end {source.dockerfile} with USER)" if source.dockerfile else ""
