"""The phases that follow detection: restore, build, export. A build imports this while detection runs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from hakobune import __version__
from hakobune.buildpack.order import Catalog
from hakobune.builds.request import BuildRequest
from hakobune.builds.run_image_needs import Needs, check_needs, read_needs
from hakobune.errors import HakoError
from hakobune.lifecycle.analyze import Analyzed
from hakobune.lifecycle.build import build
from hakobune.lifecycle.detect import Detected
from hakobune.lifecycle.documents import KeptLayers
from hakobune.lifecycle.environment import BuildContext
from hakobune.lifecycle.errors import BuildpackFailedError
from hakobune.lifecycle.export import CREATED, Exported, ExportRequest, export
from hakobune.lifecycle.image_config import Launcher
from hakobune.lifecycle.kept import OverlayChanges
from hakobune.lifecycle.restore import restore
from hakobune.oci.merged import find
from hakobune.oci.snapshot import Snapshot, stacked_dirs
from hakobune.oci.store import Store
from hakobune.progress import Progress
from hakobune.support.room import how_to_make_room, says_full

LAUNCHER: Final = "cnb/lifecycle/launcher"


def restore_build_export(
    context: BuildContext,
    store: Store,
    request: BuildRequest,
    analyzed: Analyzed,
    detected: Detected,
    *,
    catalog: Catalog,
    kept: KeptLayers | None,
    snapshots: Mapping[str, Snapshot],
    upper: Path,
    lowers: tuple[Path, ...],
    progress: Progress,
) -> Exported:
    """Run the rest of the lifecycle for what *detected* has chosen.

    Args:
        kept, snapshots: what the last build kept, and where it is.
        upper: what is written in the sandbox, as a folder of the machine.
        lowers: the folders below it, uppermost first.

    Raises:
        HakoError: with the exit code of the phase that failed.
    """
    restored = restore(
        context,
        store,
        group=detected.group,
        previous=analyzed.previous,
        metadata=analyzed.metadata,
        kept=kept,
        progress=progress,
        skip_layers=request.clear_cache,
    )
    try:
        built = build(context, detected=detected, catalog=catalog, progress=progress)
    except BuildpackFailedError as error:
        raise told_of_the_disk(told_by_buildpack(error), store.home) from error
    needs = read_needs(built.labels)
    if needs != Needs():  # most apps need nothing, and the run image's files are left alone
        lacking = check_needs(
            needs,
            stacked_dirs(store.snapshots(analyzed.run_image)),
            analyzed.run_image.config.env,
            analyzed.run_reference,
        )
        if lacking:
            progress.note(lacking, warning=True)
    return export(
        context,
        store,
        OverlayChanges(upper, snapshots),
        analyzed=analyzed,
        built=built,
        kept=kept,
        restored=restored,
        request=ExportRequest(
            launcher=Launcher(binary=_launcher(lowers), version=__version__),
            names=(request.name, *request.tags),
            process_type=request.process_type,
            created=_created(request),
        ),
        progress=progress,
    )


def told_by_buildpack(error: BuildpackFailedError) -> BuildpackFailedError:
    """*error* in the buildpack's own words, where its last lines are `error: …`, `  seen: …`, `  fix: …`."""
    facts: dict[str, str] = {}
    for line in error.lines:
        key, colon, text = line.strip().partition(": ")
        if colon and key in ("error", "seen", "fix"):
            facts = {} if key == "error" else facts
            facts[key] = text
    if "error" not in facts:
        return error
    return BuildpackFailedError(
        f"{error.what}: {facts['error']}",
        why=facts.get("seen", error.why),
        fix=facts.get("fix", error.fix),
        buildpack=error.buildpack,
        code=error.code,
        lines=error.lines,
    )


def told_of_the_disk(error: BuildpackFailedError, home: Path) -> BuildpackFailedError:
    """*error* with what to do about the disk of *home*, if the buildpack said that there was no room."""
    if not says_full("\n".join((error.why, *error.lines))):
        return error
    return BuildpackFailedError(
        f"{error.what}: the disk of {home} is full",
        why=error.why,
        fix=how_to_make_room(home),
        buildpack=error.buildpack,
        code=error.code,
        lines=error.lines,
    )


def _launcher(lowers: tuple[Path, ...]) -> Path:
    """The builder's launcher, as a file of the machine.

    Raises:
        HakoError: the builder has none.
    """
    shown = find(lowers, LAUNCHER)
    if shown is None:
        raise HakoError(
            "the builder has no launcher", why=f"/{LAUNCHER} is missing", fix="use another builder"
        )
    return Path(shown.path)


def _created(request: BuildRequest) -> str:
    if request.created is None:
        return CREATED
    return datetime.fromtimestamp(request.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
