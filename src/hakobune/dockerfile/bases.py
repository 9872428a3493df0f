"""The images under a build's stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock

from hakobune.distribution.transfer import find_or_pull
from hakobune.dockerfile.errors import DockerfileError, did_you_mean
from hakobune.dockerfile.graph import ContextSource, ImageSource, PlannedStage
from hakobune.dockerfile.image_config import begin_stage, scratch_config
from hakobune.dockerfile.named_contexts import NamedContexts
from hakobune.dockerfile.request import DockerfileRequest
from hakobune.errors import HakoError
from hakobune.oci.manifest import Image
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from hakobune.progress import Progress


class Bases:
    """Images that a build starts from or reads, and contexts that stand in their place; each looked for once.

    Args:
        stage_names: for a hint where a name is not an image's.
        build_folder: builds a context that is a folder.
    """

    def __init__(
        self,
        request: DockerfileRequest,
        store: Store,
        progress: Progress,
        *,
        stage_names: Sequence[str],
        build_folder: Callable[[DockerfileRequest], Image],
    ) -> None:
        self._request = request
        self._stage_names = stage_names
        self._store = store
        self._progress = progress
        self._found: dict[tuple[str, str], Image] = {}
        self._lock = Lock()
        self.contexts = NamedContexts(
            request.contexts,
            request,
            store,
            self.find,
            build_folder,
        )

    def image(self, source: ImageSource | ContextSource, platform: Platform) -> Image:
        """What a FROM, a COPY or a mount names.

        Raises:
            HakoError: it is not here and cannot be had.
        """
        if isinstance(source, ContextSource):
            return self.contexts.find(source.name, platform)
        try:
            return self.find(source.name, platform)
        except HakoError as error:
            if not (near := did_you_mean(source.name, self._stage_names)):
                raise
            raise HakoError(error.what, why=error.why, fix=f"{near[:-1]}, the stage?") from error

    def find(self, name: str, platform: Platform) -> Image:
        """The image of that name for that platform.

        Raises:
            HakoError: it is not here and cannot be had.
        """
        with self._lock:
            key = (name, str(platform))
            if key not in self._found:
                self._found[key] = find_or_pull(
                    self._store,
                    Reference.parse(name),
                    platform,
                    self._progress,
                    self._request.pull,
                )
            return self._found[key]

    def of_stage(self, planned: PlannedStage, source: ImageSource | ContextSource) -> Image:
        """What the stage starts from.

        Raises:
            DockerfileError: it cannot be had; with the line of its FROM.
        """
        at = planned.stage.at
        try:
            return self.image(source, planned.platform)
        except DockerfileError:
            raise
        except HakoError as error:
            raise DockerfileError.at(at, error) from error

    def environment(self, planned: PlannedStage) -> tuple[str, ...]:
        """What the stage starts with that is made from no other stage."""
        if isinstance(planned.base, ImageSource | ContextSource):
            config = self.of_stage(planned, planned.base).config
        else:
            config = scratch_config(planned.platform)
        return begin_stage(config).config.env
