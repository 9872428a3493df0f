"""Analyze: what the previous image remembers, and what the run image is (CNB platform.md "Phase #1: Analysis").

Reads documents only. Nothing of an image's layers is opened.
"""

from __future__ import annotations

import msgspec

from hakobune.buildpack.layer_metadata import (
    LIFECYCLE_LABEL,
    LifecycleMetadata,
    decode_lifecycle_metadata,
)
from hakobune.buildpack.run_image import RunImage
from hakobune.buildpack.target import Distribution, ImageTarget
from hakobune.errors import HakoError
from hakobune.lifecycle.documents import encode_analyzed
from hakobune.lifecycle.environment import BuildEnvironment, ImageSource
from hakobune.lifecycle.errors import AnalyzeError
from hakobune.oci.manifest import Image
from hakobune.oci.reference import Reference
from hakobune.progress import Progress

DISTRO_NAME_LABEL = "io.buildpacks.base.distro.name"
DISTRO_VERSION_LABEL = "io.buildpacks.base.distro.version"
TARGET_ID_LABEL = "io.buildpacks.base.id"
STACK_ID_LABEL = "io.buildpacks.stack.id"
EXEC_ENV_LABEL = "io.buildpacks.exec-env"


class Analyzed(msgspec.Struct, frozen=True, kw_only=True):
    """What a build starts from.

    `metadata` is the previous image's, and `None` if there is no such image or it remembers nothing usable.
    """

    previous: Image | None
    metadata: LifecycleMetadata | None
    run_image: Image
    run: RunImage
    run_reference: Reference
    target: ImageTarget


def analyze(
    images: ImageSource,
    *,
    previous: Reference | None,
    run: RunImage,
    run_reference: Reference,
    build_image: Image | None,
    os_release: bytes | None,
    exec_env: str,
    progress: Progress,
) -> Analyzed:
    """Find the previous image and the run image.

    Args:
        previous: the name under which the last build's image is looked for.
        run: the run image and its mirrors as the builder names them, for the label.
        run_reference: which of these places was chosen.
        build_image: where buildpacks run; it must agree with the run image about system and processor.
        os_release: `/etc/os-release` of the build container, which completes a run image without distribution labels.

    Raises:
        AnalyzeError: the run image is missing, or of another kind than the build image.
    """
    progress.phase("ANALYZING")
    run_image = images.find_image(run_reference)
    if run_image is None:
        raise AnalyzeError(
            f"the run image {run_reference.short} cannot be found",
            why="no image of that name is in the store",
            fix="choose another with --run-image, or load it with hako image load",
        )
    target = image_target(run_image, os_release)
    if build_image is not None:
        _check_bases(build_image, run_image, run_reference)
    found = _find_previous(images, previous, progress)
    return Analyzed(
        previous=found,
        metadata=_metadata(found, exec_env, progress),
        run_image=run_image,
        run=run,
        run_reference=run_reference,
        target=target,
    )


def write_analyzed(environment: BuildEnvironment, analyzed: Analyzed, *, layers: str) -> None:
    """Put `analyzed.toml` into the build container."""
    data = encode_analyzed(
        previous=str(analyzed.previous.digest) if analyzed.previous else "",
        metadata=analyzed.metadata,
        run_reference=f"{analyzed.run_reference.name}@{analyzed.run_image.digest}",
        run_image=analyzed.run.image,
        target=analyzed.target,
    )
    environment.write_file(f"{layers}/analyzed.toml", data, mode=0o644, uid=0, gid=0)


def image_target(image: Image, os_release: bytes | None = None) -> ImageTarget:
    """What an image is, by its config and labels (CNB platform.md "Target data").

    The distribution comes from the labels, or else from *os_release*.
    """
    config = image.config
    labels = config.config.labels
    distro: Distribution | None = None
    if DISTRO_NAME_LABEL in labels or DISTRO_VERSION_LABEL in labels:
        distro = Distribution(
            name=labels.get(DISTRO_NAME_LABEL, ""), version=labels.get(DISTRO_VERSION_LABEL, "")
        )
    elif os_release is not None:
        distro = parse_os_release(os_release)
    return ImageTarget(
        os=config.os,
        arch=config.architecture,
        arch_variant=config.variant,
        id=labels.get(TARGET_ID_LABEL, ""),
        distro=distro,
    )


def parse_os_release(data: bytes) -> Distribution | None:
    """The distribution that `/etc/os-release` names; `None` if it names none."""
    values: dict[str, str] = {}
    for line in data.decode("utf-8", "replace").splitlines():
        key, equals, value = line.partition("=")
        if equals:
            values[key.strip()] = value.strip().strip("\"'")
    if not values.get("ID"):
        return None
    return Distribution(name=values["ID"], version=values.get("VERSION_ID", ""))


def _check_bases(build_image: Image, run_image: Image, run_reference: Reference) -> None:
    build, run = image_target(build_image), image_target(run_image)
    platforms = [(t.os, t.arch) for t in (build, run)]
    differ = platforms[0] != platforms[1] or (
        build.distro is not None and run.distro is not None and build.distro != run.distro
    )
    if differ:
        raise AnalyzeError(
            f"the run image {run_reference.short} does not fit the builder",
            why=f"it is {run}{_stack(run_image)}, the builder's build image is {build}{_stack(build_image)}",
            fix="choose a run image for the builder's system with --run-image, or another --builder",
        )


def _stack(image: Image) -> str:
    stack = image.config.config.labels.get(STACK_ID_LABEL)
    return f" with the stack id {stack!r}" if stack else ""


def _find_previous(
    images: ImageSource, previous: Reference | None, progress: Progress
) -> Image | None:
    if previous is None:
        return None
    try:
        image = images.find_image(previous)
    except HakoError as error:
        progress.note(f"Ignoring image {previous.short!r} because it was corrupt: {error.what}")
        return None
    if image is None:
        progress.step(f"Image with name {previous.short!r} not found")
    return image


def _metadata(image: Image | None, exec_env: str, progress: Progress) -> LifecycleMetadata | None:
    if image is None:
        return None
    labels = image.config.config.labels
    if labels.get(EXEC_ENV_LABEL, exec_env) != exec_env:
        progress.step(f"the previous image was built for {labels[EXEC_ENV_LABEL]!r}: not reused")
        return None
    if LIFECYCLE_LABEL not in labels:
        return None
    return decode_lifecycle_metadata(labels[LIFECYCLE_LABEL])
