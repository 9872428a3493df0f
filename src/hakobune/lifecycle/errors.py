"""The lifecycle's failures and their exit codes (CNB platform.md, "Outputs" of each phase).

20-29 detect, 30-39 analyze, 40-49 restore, 50-59 build, 60-69 export; 12 is `BuildpackApiError`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hakobune.errors import HakoError
from hakobune.lifecycle.verdict import Verdict


class LifecycleError(HakoError):
    """A phase failed; the previous image and everything kept is as it was."""


class AnalyzeError(LifecycleError):
    """The run image or the previous image cannot be used."""

    exit_code = 32


class NoGroupPassedError(LifecycleError):
    """No group of buildpacks passed detection; holds what each buildpack said."""

    exit_code = 20

    def __init__(
        self, what: str, *, why: str = "", fix: str = "", verdicts: Sequence[Verdict] = ()
    ) -> None:
        super().__init__(what, why=why, fix=fix)
        self.verdicts = tuple(verdicts)


class DetectionBrokenError(NoGroupPassedError):
    """No group passed, and at least one buildpack failed instead of declining."""

    exit_code = 21


class DetectError(LifecycleError):
    """Detection could not be carried out."""

    exit_code = 22


class RestoreError(LifecycleError):
    """Something that was kept cannot be put back."""

    exit_code = 42


class BuildpackFailedError(LifecycleError):
    """A buildpack's `bin/build` failed; holds which, how and its output's last lines."""

    exit_code = 51

    def __init__(
        self, what: str, *, why: str, fix: str, buildpack: str, code: int, lines: Sequence[str]
    ) -> None:
        super().__init__(what, why=why, fix=fix)
        self.buildpack = buildpack
        self.code = code
        self.lines = tuple(lines)


class BuildError(LifecycleError):
    """A buildpack's results cannot be used."""

    exit_code = 52


class ExportError(LifecycleError):
    """The image cannot be put together."""

    exit_code = 62


@contextmanager
def os_errors_as(kind: type[LifecycleError], what: str) -> Iterator[None]:
    """Raise *kind* for an `OSError`: the container's or the store's file system refused something."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise kind(what, why=f"{error.filename}: {reason}" if error.filename else reason) from error
