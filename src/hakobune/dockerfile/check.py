"""All that can be said about a Dockerfile without building anything: `hako dockerfile build --check`."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from hakobune.distribution.transfer import find_or_pull
from hakobune.dockerfile.build import read_dockerfile
from hakobune.dockerfile.graph import ContextSource, ImageSource, PlannedStage, context_key
from hakobune.dockerfile.ignore_file import read_ignore_file
from hakobune.dockerfile.image_config import begin_stage, scratch_config
from hakobune.dockerfile.instructions import LintWarning
from hakobune.dockerfile.rehearse import all_warnings, rehearse
from hakobune.dockerfile.request import DockerfileRequest
from hakobune.dockerfile.triggers import plan_with_triggers
from hakobune.errors import HakoError
from hakobune.oci.manifest import Image
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from hakobune.progress import SilentProgress


class Checked(Struct, frozen=True, kw_only=True):
    """What was found.

    Attributes:
        unknown: base images that are not here: which variables and triggers they have is not known.
    """

    warnings: tuple[LintWarning, ...]
    unknown: tuple[str, ...]


def check(request: DockerfileRequest, store: Store) -> Checked:
    """Read the Dockerfile, find its stages, put its variables in; nothing runs, and nothing is fetched unless `pull` is `always`.

    Raises:
        DockerfileError: a mistake that a build would stop at, before its first step.
        HakoError: there is no such file.
    """
    dockerfile = read_dockerfile(request)
    bases = _LocalBases(request, store)

    def on_build(planned: PlannedStage, source: ImageSource | ContextSource) -> tuple[str, ...]:
        image = bases.find(source, planned.platform)
        return image.config.config.on_build if image else ()

    def environment_of(planned: PlannedStage) -> tuple[str, ...] | None:
        if not isinstance(planned.base, ImageSource | ContextSource):
            return begin_stage(scratch_config(planned.platform)).config.env
        image = bases.find(planned.base, planned.platform)
        return begin_stage(image.config).config.env if image else None

    names = frozenset(map(context_key, request.contexts))
    planned = plan_with_triggers(dockerfile, request, names, on_build)
    ignore = request.ignore
    if ignore is None:
        ignore = read_ignore_file(request.context, request.dockerfile)
    rehearsed = rehearse(
        planned, environment_of, request.args, dockerfile.escape, left_out=ignore.left_out
    )
    warnings = all_warnings(dockerfile, planned, rehearsed, platform=request.platform)
    return Checked(warnings=warnings, unknown=tuple(sorted(bases.unknown)))


class _LocalBases(Struct, eq=False):
    """Base images as far as they are here."""

    request: DockerfileRequest
    store: Store
    unknown: set[str] = field(default_factory=set)
    _found: dict[tuple[str, str], Image | None] = field(default_factory=dict)

    def find(self, source: ImageSource | ContextSource, platform: Platform) -> Image | None:
        """The image; a context is never made into one for this."""
        if isinstance(source, ContextSource):
            self.unknown.add(source.name)
            return None
        key = (source.name, str(platform))
        if key not in self._found:
            self._found[key] = self._look(source.name, platform)
        return self._found[key]

    def _look(self, name: str, platform: Platform) -> Image | None:
        policy: Literal["always", "never"] = "never"
        if self.request.pull == "always":
            policy = "always"
        try:
            return find_or_pull(
                self.store, Reference.parse(name), platform, SilentProgress(), policy
            )
        except HakoError:
            if policy == "always":
                raise
            self.unknown.add(name)
            return None
