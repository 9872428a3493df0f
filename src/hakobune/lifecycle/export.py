"""Export: the layers that buildpacks made, the app and the launcher become an image (CNB platform.md "Phase #5: Export").

A layer is read at most once, and not at all where a kept one has not changed. The container's files are not
written to; `kept` turns its top into snapshots when it is gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from hakobune.buildpack.descriptor import SBOM_MEDIA_TYPES
from hakobune.buildpack.layer_metadata import (
    LifecycleMetadata,
    Sha,
    StackRecord,
    StackRunImage,
)
from hakobune.lifecycle.analyze import Analyzed
from hakobune.lifecycle.build import Built
from hakobune.lifecycle.documents import KeptLayers, encode_report
from hakobune.lifecycle.environment import BuildContext, ImageSink, LayerChanges
from hakobune.lifecycle.errors import ExportError, os_errors_as
from hakobune.lifecycle.fate import Fate, LayerFate
from hakobune.lifecycle.image_config import (
    LAUNCHER_PATH,
    Launcher,
    buildpack_records,
    choose_entrypoint,
    image_config,
    image_labels,
    run_image_record,
)
from hakobune.lifecycle.image_layers import ExportedLayer, ImageLayers, base_layers
from hakobune.lifecycle.restore import Restored
from hakobune.oci.digest import Digest
from hakobune.oci.manifest import Image
from hakobune.oci.reference import Reference
from hakobune.progress import Progress

CREATED = "1980-01-01T00:00:01Z"


class ExportRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the platform wants of the image.

    Args:
        names: the image's names; none is fine, the image has a digest.
        process_type: what the image starts by default; empty leaves it to the buildpacks.
        project: the contents of `io.buildpacks.project.metadata`.
        created: the image's time (`SOURCE_DATE_EPOCH`), RFC 3339.
    """

    launcher: Launcher
    names: Sequence[Reference] = ()
    process_type: str = ""
    project: Mapping[str, Any] = msgspec.field(default_factory=dict)
    created: str = CREATED


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """The new image, and what became of each layer.

    Args:
        layers: those with contents, to be kept or adopted as snapshots.
        sbom: the blob that holds the SBOM files of cached layers, if there are any.
        report: `report.toml`.
    """

    image: Image
    fates: tuple[LayerFate, ...]
    layers: tuple[ExportedLayer, ...]
    sbom: Digest | None
    report: bytes


def export(
    context: BuildContext,
    sink: ImageSink,
    changes: LayerChanges,
    *,
    analyzed: Analyzed,
    built: Built,
    kept: KeptLayers | None,
    restored: Restored,
    request: ExportRequest,
    progress: Progress,
) -> Exported:
    """Put the image together and publish it. Ends whatever still runs in the container.

    Args:
        kept, restored: what the last build kept, and what of it this build found.

    Raises:
        ExportError: a layer is missing or the default process does not exist; nothing is published.
    """
    progress.phase("EXPORTING")
    _add_launcher_sboms(context)
    context.environment.kill_processes()
    entrypoint = choose_entrypoint(built, request.process_type)
    work = ImageLayers(context, sink, changes, analyzed, kept, restored, progress)
    with os_errors_as(ExportError, "the image cannot be exported"):
        for buildpack in built.buildpacks:
            for metadata in buildpack.layers:
                work.add_buildpack_layer(
                    buildpack.buildpack,
                    metadata,
                    has_contents=metadata.name in buildpack.directories,
                )
        sbom = work.add_sbom_layer()
        app = work.add_app_layers(built)
        launcher = work.add_launcher_layer(request.launcher.binary)
        config = work.add_config_layer()
        process_types = work.add_process_types_layer(built)
        cache_sbom = work.write_cache_sbom()
        metadata_label = LifecycleMetadata(
            app=[Sha(sha=str(layer.diff_id)) for layer in app],
            sbom=Sha(sha=str(sbom.diff_id)) if sbom else None,
            buildpacks=buildpack_records(built, work.records),
            config=Sha(sha=str(config.diff_id)),
            launcher=Sha(sha=str(launcher.diff_id)),
            process_types=Sha(sha=str(process_types.diff_id) if process_types else ""),
            run_image=run_image_record(analyzed),
            stack=StackRecord(
                run_image=StackRunImage(image=analyzed.run.image, mirrors=analyzed.run.mirrors)
            ),
            exec_env=context.exec_env,
        )
        _tell_entrypoint(entrypoint, progress)
        image = sink.publish_image(
            config=image_config(
                analyzed.run_image,
                context=context,
                entrypoint=entrypoint,
                labels=image_labels(
                    context,
                    built,
                    metadata_label,
                    launcher=request.launcher,
                    project=request.project,
                ),
                history=work.history,
                created=request.created,
            ),
            layers=[*base_layers(analyzed.run_image), *work.layers],
            names=request.names,
        )
    return Exported(
        image=image,
        fates=(*_forgotten(restored, work.fates), *work.fates),
        layers=tuple(work.exported),
        sbom=cache_sbom,
        report=encode_report(image, [str(name) for name in request.names]),
    )


def _add_launcher_sboms(context: BuildContext) -> None:
    """Copy the SBOM files that lie beside the launcher, if there are any, to where the image has them."""
    folder = f"{context.layers}/sbom/launch/buildpacksio_lifecycle/launcher"
    for extension in SBOM_MEDIA_TYPES:
        data = context.environment.read_file(f"/cnb/lifecycle/launcher.sbom.{extension}.json")
        if data is not None:
            context.make_directory(folder)
            context.write(f"{folder}/sbom.{extension}.json", data)


def _tell_entrypoint(entrypoint: str, progress: Progress) -> None:
    if entrypoint == LAUNCHER_PATH:
        progress.step("no default process type")
    else:
        progress.step(f"Setting default process type {entrypoint.rpartition('/')[2]!r}")


def _forgotten(restored: Restored, decided: Sequence[LayerFate]) -> list[LayerFate]:
    """Layers of the last build of which this one made nothing."""
    known = {(f.buildpack, f.layer) for f in decided}
    return [
        f
        if f.fate is Fate.DROP
        else LayerFate(f.buildpack, f.layer, Fate.DROP, "its buildpack did not ask for it")
        for f in restored.fates
        if (f.buildpack, f.layer) not in known
    ]
