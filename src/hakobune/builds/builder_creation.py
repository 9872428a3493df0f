"""`builder.toml` becomes a builder image; its base images may be made from Dockerfiles on the way (CNB distribution.md "Builder").

Every image is found or made and checked before anything is written.
"""

from __future__ import annotations

from hakobune.buildpack.builder_toml import (
    BuilderToml,
    LifecycleSection,
    parse_builder_toml,
)
from hakobune.buildpack.descriptor import Buildpack, effective_targets
from hakobune.buildpack.target import ImageTarget
from hakobune.builds.builder import Builder, read_builder, user_id
from hakobune.builds.builder_bases import CreationRequest, find_bases
from hakobune.builds.builder_image import BuilderContents, publish_builder
from hakobune.builds.buildpack_sources import BuildpackShelf
from hakobune.builds.request import World
from hakobune.errors import HakoError
from hakobune.oci.layer import Owner
from hakobune.progress import Progress
from hakobune.support.locks import exclusive


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
        base, target = find_bases(request, definition, world, progress)
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
