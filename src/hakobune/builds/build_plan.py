"""What a build uses besides the source: builder, buildpacks, run image, variables; each found, fetched or extended."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from hakobune import __version__
from hakobune.buildpack.run_image import RunImage, choose_run_image
from hakobune.builds.added_buildpacks import Chosen, choose_buildpacks
from hakobune.builds.builder import Builder, read_builder
from hakobune.builds.extension_files import extension_files
from hakobune.builds.images import can_be_had, fetch_run_image, find_builder
from hakobune.builds.request import DEFAULT_BUILDER, BuildRequest, World
from hakobune.builds.source import Source
from hakobune.distribution.transfer import find_local
from hakobune.errors import HakoError
from hakobune.oci.digest import Digest
from hakobune.oci.manifest import Image
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from hakobune.progress import Progress


class BuildPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a build uses besides the source.

    Attributes:
        run: the run image as the builder names it, for the label.
        run_reference: where it is taken from; by digest alone if it was extended.
        parts: the digests behind the build's inputs, by name, without the source's.
    """

    builder: Builder
    chosen: Chosen
    run: RunImage
    run_reference: Reference
    env: Mapping[str, str]
    parts: Mapping[str, str]

    def inputs(self, source: Digest) -> dict[str, str]:
        """Everything that goes into the build, as digests by name."""
        return {**self.parts, "source": str(source)}


def make_plan(
    request: BuildRequest, source: Source, world: World, progress: Progress, *, looks_same: bool
) -> BuildPlan:
    """Find all that the build uses.

    Args:
        looks_same: everything but the source looks as it did for the last build.

    Raises:
        HakoError: something cannot be had, does not fit, or an extension of an image failed.
    """
    builder = _find_builder(request, source, world, progress, looks_same=looks_same)
    run, run_reference = _choose_run_image(request, builder, world.store, progress)
    if request.extend and extension_files(source.root):
        from hakobune.builds.image_extension import extend_images

        builder_image, run_reference = extend_images(
            source.root,
            builder.image,
            _builder_name(request, source),
            run_reference,
            request,
            world,
            progress,
        )
        if builder_image.digest != builder.image.digest:
            builder = read_builder(world.store, builder_image, name="the extended builder")
    chosen = choose_buildpacks(
        request.buildpacks or _described_buildpacks(source), builder.order, builder.catalog
    )
    run_image = find_local(world.store, run_reference, request.platform)
    env = {**dict(source.project.build_env), **request.env}
    parts = {
        "hakobune": __version__,
        "builder": str(builder.image.digest),
        "run image": f"{run_reference}@{run_image.digest if run_image else ''}",
        "environment": "\0".join(f"{k}={v}" for k, v in sorted(env.items())),
        "buildpacks": " ".join(request.buildpacks) + chosen.digest(),
        "process type": request.process_type,
        "creation time": str(request.created),
        "network": "on" if request.network else "off",
        "platform": str(request.platform),
    }
    return BuildPlan(
        builder=builder, chosen=chosen, run=run, run_reference=run_reference, env=env, parts=parts
    )


def _builder_name(request: BuildRequest, source: Source) -> Reference:
    name = request.builder or source.project.builder
    return Reference.parse(name) if name else DEFAULT_BUILDER


def _find_builder(
    request: BuildRequest, source: Source, world: World, progress: Progress, *, looks_same: bool
) -> Builder:
    name = request.builder or source.project.builder
    reference = _builder_name(request, source)
    if name:
        image: Image | None = find_builder(request, name, world.store, progress)
    else:
        image = find_local(world.store, reference, request.platform) if looks_same else None
    if image is None:
        from hakobune.builds.default_builder import ensure_default_builder

        return ensure_default_builder(
            world.store, world.settings.home, progress, platform=request.platform
        )
    return read_builder(world.store, image, name=reference.short)


def _described_buildpacks(source: Source) -> tuple[str, ...]:
    """The project descriptor's group, by the names that `--buildpack` takes.

    Raises:
        HakoError: an entry is of a kind that cannot be used yet.
    """
    project = source.project
    if project.pre or project.post:
        raise HakoError(
            "project.toml asks for pre or post buildpacks",
            why="only [[io.buildpacks.group]] can be used",
            fix="list all buildpacks there",
        )
    names = []
    for entry in project.buildpacks:
        if entry.script is not None:
            raise HakoError(
                "project.toml holds a buildpack as a script",
                why="only buildpacks of the builder and folders can be used",
                fix="put the script into a folder with a buildpack.toml and name it by uri",
            )
        if entry.uri:
            uri = entry.uri.removeprefix("file://")
            names.append(uri if "=" in uri or ":" in uri else str(source.root / uri))
        else:
            names.append(f"{entry.id}@{entry.version}" if entry.version else entry.id)
    return tuple(names)


def _choose_run_image(
    request: BuildRequest, builder: Builder, store: Store, progress: Progress
) -> tuple[RunImage, Reference]:
    """The run image as the builder names it (for the label), and where it is taken from.

    Raises:
        HakoError: the builder names none, or none of the places it names holds it.
    """
    if not request.run_image:
        chosen = choose_run_image(
            builder.run_images,
            output_registry=request.name.registry,
            exists=can_be_had(request, store, progress),
        )
        return builder.run_images[0], Reference.parse(chosen)
    wanted = Reference.parse(request.run_image)
    fetch_run_image(request, store, progress)
    for run in builder.run_images:
        if wanted in map(Reference.parse, (run.image, *run.mirrors)):
            return run, wanted
    return RunImage(image=request.run_image), wanted
