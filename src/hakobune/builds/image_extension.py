"""`run.Dockerfile` and `build.Dockerfile` beside the source: read, checked before anything is built, applied, kept by content.

The first extends the run image (packages that the app needs at run time), the second the build image (what buildpacks need).
Either may begin with `ARG base_image` and `FROM ${base_image}`, or name the image, or name another one of the same system.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from hakobune.buildpack.builder_labels import BUILDER_LABEL
from hakobune.builds.extension_files import BUILD_FILE, RUN_FILE
from hakobune.builds.host_environment import proxies
from hakobune.builds.request import BuildRequest, World
from hakobune.distribution.transfer import find_or_pull
from hakobune.dockerfile.build import build as build_dockerfile
from hakobune.dockerfile.errors import DockerfileError
from hakobune.dockerfile.graph import ImageSource, Plan, PlannedStage, StageSource, plan
from hakobune.dockerfile.instructions import Label, Position, User
from hakobune.dockerfile.parse import decode, parse
from hakobune.dockerfile.request import DockerfileRequest
from hakobune.errors import HakoError
from hakobune.lifecycle.analyze import image_target
from hakobune.oci.image_user import ImageUser, ImageUserError, resolve_user
from hakobune.oci.manifest import Image
from hakobune.oci.merged import find
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.snapshot import stacked_dirs
from hakobune.oci.store import Store
from hakobune.progress import Progress

BASE_ARG: Final = "base_image"
REBASABLE: Final = "io.buildpacks.rebasable"
_ROOT: Final = ("root", "0")


class Kind(StrEnum):
    """Which image is extended."""

    RUN = "run"
    BUILD = "build"

    @property
    def file(self) -> str:
        return RUN_FILE if self is Kind.RUN else BUILD_FILE


class Extension(msgspec.Struct, frozen=True, kw_only=True):
    """One such file.

    Attributes:
        base: the image below its last stage, by name.
        from_: the FROM that names it.
        user: the last USER on the way from there to the end, if there is one.
        sets_rebasable: whether it says itself if its result may be rebased.
    """

    kind: Kind
    path: Path
    base: Reference
    from_: Position
    user: User | None = None
    sets_rebasable: bool = False


def read_extension(folder: Path, kind: Kind, given: Reference) -> Extension | None:
    """The extension of that kind in *folder*; `None` if there is none.

    Args:
        given: the image that is to be extended: what `${base_image}` stands for.

    Raises:
        DockerfileError: it cannot be understood, or is made from nothing.
    """
    path = folder / kind.file
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise HakoError(f"cannot read {path}", why=error.strerror or str(error)) from error
    dockerfile = parse(decode(data, path.name), path.name)
    planned = plan(
        dockerfile,
        args={BASE_ARG: str(given)},
        build_platform=Platform.host(),
        target_platform=Platform.host(),
    )
    chain = _chain(planned)
    base, at = chain[0].base, chain[0].stage.at
    if not isinstance(base, ImageSource):
        raise DockerfileError(
            f"{kind.file} starts from nothing, not from a {kind} image",
            file=path.name,
            line=at.line,
            fix=f"FROM {given.short}",
        )
    instructions = [one for planned in chain for one in planned.stage.instructions]
    users = [one for one in instructions if isinstance(one, User)]
    labels = [pair.key for one in instructions if isinstance(one, Label) for pair in one.labels]
    return Extension(
        kind=kind,
        path=path,
        base=Reference.parse(base.name),
        from_=at,
        user=users[-1] if users else None,
        sets_rebasable=any(REBASABLE in key for key in labels),
    )


def check_extension(
    extension: Extension,
    base: Image,
    *,
    base_os_release: bytes | None,
    given: Reference,
    given_user: str,
    build_image: Image,
    allow_root: bool,
) -> None:
    """See that what would come out fits the builder (pure).

    Args:
        base: the image that its FROM names, with its `/etc/os-release`.
        given, given_user: the image to be extended and its user, for the advice.
        build_image: the builder's, whose system and processor count.
        allow_root: a run image may end as root.

    Raises:
        DockerfileError: with the line that is to blame.
    """
    wanted, found = image_target(build_image), image_target(base, base_os_release)
    platforms = [(target.os, target.arch) for target in (wanted, found)]
    foreign = wanted.distro is not None and found.distro != wanted.distro
    if platforms[0] != platforms[1] or foreign:
        raise DockerfileError(
            f"{extension.base.short} is no base for this builder",
            file=extension.path.name,
            line=extension.from_.line,
            why=f"it is {found}, the builder's build image is {wanted}",
            fix=f"FROM {given.short}",
        )
    if extension.kind is Kind.BUILD and BUILDER_LABEL not in base.config.labels:
        raise DockerfileError(
            f"{extension.base.short} is no builder",
            file=extension.path.name,
            line=extension.from_.line,
            why="it holds no buildpacks (its labels do not name any)",
            fix=f"FROM {given.short}",
        )
    if extension.kind is Kind.RUN and not allow_root:
        _check_user(extension, base, given_user)


def extend_images(
    folder: Path,
    builder: Image,
    builder_name: Reference,
    run_reference: Reference,
    request: BuildRequest,
    world: World,
    progress: Progress,
) -> tuple[Image, Reference]:
    """Apply what *folder* has: first both files are read and checked, then the images are made, or found again.

    Returns:
        The builder's image, and the name of the run image: those that were given, or the extended ones.

    Raises:
        DockerfileError: a file is wrong, with the line. HakoError: an image cannot be had, or a step failed.
    """
    store = world.store
    run_image = find_or_pull(store, run_reference, request.platform, progress, request.pull)
    todo = []
    for kind, given, image in (
        (Kind.BUILD, builder_name, builder),
        (Kind.RUN, run_reference, run_image),
    ):
        extension = read_extension(folder, kind, given)
        if extension is None:
            continue
        base = (
            image if extension.base == given else _fetch_base(extension, request, store, progress)
        )
        check_extension(
            extension,
            base,
            base_os_release=os_release_of(store, base),
            given=given,
            given_user=image.config.config.user,
            build_image=builder,
            allow_root=request.allow_root,
        )
        todo.append((extension, given, image, base))
    for extension, given, image, base in todo:
        extended = _extend(extension, given, image, request, world, progress)
        progress.note(describe_extension(extension, extended, base))
        if extension.kind is Kind.BUILD:
            builder = extended
        else:
            run_reference = Reference.parse(f"{given.name}@{extended.digest}")
    return builder, run_reference


def _fetch_base(
    extension: Extension, request: BuildRequest, store: Store, progress: Progress
) -> Image:
    try:
        return find_or_pull(store, extension.base, request.platform, progress, request.pull)
    except HakoError as error:
        raise DockerfileError.at(extension.from_, error) from error


def _extend(
    extension: Extension,
    given: Reference,
    given_image: Image,
    request: BuildRequest,
    world: World,
    progress: Progress,
) -> Image:
    """Apply a checked extension; steps that were done before are found again."""
    is_run = extension.kind is Kind.RUN
    built = build_dockerfile(
        DockerfileRequest(
            context=extension.path.parent,
            dockerfile=extension.path,
            args={BASE_ARG: str(given), **proxies(world.env)},
            assured=frozenset({BASE_ARG}),
            platform=request.platform,
            network="default" if request.network else "none",
            labels={REBASABLE: "false"} if is_run and not extension.sets_rebasable else {},
        ),
        world.store,
        world.settings,
        progress,
    )
    if is_run:
        user = _user_of(extension, built.image, world.store)
        if user.uid == 0 and not request.allow_root:
            raise _root_error(extension, "its result runs as root", given_image.config.config.user)
    return built.image


def _user_of(extension: Extension, image: Image, store: Store) -> ImageUser:
    """Whom the extended image runs as.

    Raises:
        DockerfileError: the image does not have the user that it names.
    """
    try:
        return resolve_user(image.config.config.user, stacked_dirs(store.snapshots(image)))
    except ImageUserError as error:
        at = extension.user.at if extension.user else extension.from_
        raise DockerfileError.at(at, error) from error


def describe_extension(extension: Extension, image: Image, base: Image) -> str:
    """`run image extended by run.Dockerfile: 1 layer, 14 MB`."""
    known = {layer.digest for layer in base.manifest.layers}
    new = [layer for layer in image.manifest.layers if layer.digest not in known]
    count = "1 layer" if len(new) == 1 else f"{len(new)} layers"
    size = sum(layer.size for layer in new) / 1_000_000
    return f"{extension.kind} image extended by {extension.kind.file}: {count}, {size:.0f} MB"


def os_release_of(store: Store, image: Image) -> bytes | None:
    """The image's `/etc/os-release`, or `/usr/lib/os-release`, which the first is usually a link to."""
    trees = stacked_dirs(store.snapshots(image))
    for path in ("usr/lib/os-release", "etc/os-release"):
        shown = find(trees, path)
        if shown is not None and not Path(shown.path).is_symlink():
            return Path(shown.path).read_bytes()
    return None


def _chain(planned: Plan) -> list[PlannedStage]:
    """The stages from the one that names an image to the last one."""
    stages = {one.stage.index: one for one in planned.stages}
    chain = [stages[planned.target]]
    while isinstance(source := chain[0].base, StageSource):
        chain.insert(0, stages[source.index])
    return chain


def _check_user(extension: Extension, base: Image, given_user: str) -> None:
    if extension.user is not None:
        if "$" not in extension.user.user and _is_root(extension.user.user):
            raise _root_error(extension, "its last USER is root", given_user)
    elif _is_root(base.config.config.user):
        raise _root_error(extension, f"{extension.base.short} runs as root", given_user)


def _root_error(extension: Extension, why: str, given_user: str) -> DockerfileError:
    at = extension.user.at if extension.user else extension.from_
    user = "NAME" if _is_root(given_user) else given_user
    return DockerfileError(
        "the app would run as root",
        file=extension.path.name,
        line=at.line,
        why=why,
        fix=f"end the file with USER {user}, or allow it with --allow-root",
    )


def _is_root(user: str) -> bool:
    return user.partition(":")[0].strip("\"'") in ("", *_ROOT)
