"""The images that a build needs: from the store, or from their registry, as `--pull` says."""

from __future__ import annotations

from collections.abc import Callable

from hakobune.builds.request import BuildRequest
from hakobune.distribution.transfer import ImageNotHereError, find_or_pull
from hakobune.errors import HakoError
from hakobune.oci.manifest import Image
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from hakobune.progress import Progress


def find_builder(request: BuildRequest, name: str, store: Store, progress: Progress) -> Image:
    """The builder that somebody has named.

    Raises:
        HakoError: it cannot be had.
    """
    try:
        return _find(request, name, store, progress)
    except ImageNotHereError as error:
        raise HakoError(
            f"the builder {Reference.parse(name).short} cannot be found",
            why=error.why,
            fix=error.fix or "load it with hako image load, or build without --builder",
        ) from error


def fetch_run_image(request: BuildRequest, store: Store, progress: Progress) -> None:
    """Have the run image that the request names, if that is possible; analyzing says what it means if it is not."""
    try:
        _find(request, request.run_image, store, progress)
    except ImageNotHereError as error:
        progress.note(f"{error.what}: {error.why}", warning=True)


def _find(request: BuildRequest, name: str, store: Store, progress: Progress) -> Image:
    image = find_or_pull(store, Reference.parse(name), request.platform, progress, request.pull)
    if not image.platform.matches(request.platform):
        raise HakoError(
            f"{name} is for {image.platform}, the image shall be for {request.platform}",
            fix=f"--platform {image.platform}, or another image than {name}",
        )
    return image


def refresh(request: BuildRequest, builder: str, store: Store, progress: Progress) -> None:
    """Look whether the named images have something newer, before anything is compared with the last build.

    Args:
        builder: the name that the request or the project descriptor gives; empty for the default builder, which is made here.
    """
    for name in filter(None, (builder, request.run_image)):
        _find(request, name, store, progress)


def can_be_had(request: BuildRequest, store: Store, progress: Progress) -> Callable[[str], bool]:
    """Whether a place that a builder names holds its run image; it is in the store then."""

    def exists(name: str) -> bool:
        try:
            find_or_pull(
                store,
                Reference.parse(name),
                request.platform,
                progress,
                "never" if request.pull == "never" else "missing",
            )
        except HakoError:
            return False
        return True

    return exists
