"""What an app image says about itself: config, entrypoint and labels (pure; CNB platform.md "exporter", "Labels")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from hakobune.buildpack.build_metadata import BUILD_METADATA_LABEL, build_metadata
from hakobune.buildpack.launch import labels_of
from hakobune.buildpack.layer_metadata import (
    LIFECYCLE_LABEL,
    BuildpackRecord,
    LayerRecord,
    LifecycleMetadata,
    RunImageRecord,
    StoreRecord,
    encode_label,
)
from hakobune.lifecycle.analyze import EXEC_ENV_LABEL, Analyzed
from hakobune.lifecycle.build import Built
from hakobune.lifecycle.environment import PLATFORM_API, BuildContext
from hakobune.lifecycle.errors import ExportError
from hakobune.oci.config import History, ImageConfig, RootFs
from hakobune.oci.manifest import Image

LAUNCHER_PATH = "/cnb/lifecycle/launcher"
PROCESS_FOLDER = "/cnb/process"
PROJECT_LABEL = "io.buildpacks.project.metadata"


class Launcher(msgspec.Struct, frozen=True, kw_only=True):
    """The program that starts every image's processes."""

    binary: Path
    version: str
    repository: str = ""
    commit: str = ""


def choose_entrypoint(built: Built, wanted: str) -> str:
    """The program that starts the image.

    Raises:
        ExportError: the wanted process does not exist.
    """
    default = wanted or built.processes.default
    if not default:
        return LAUNCHER_PATH
    if default not in built.processes.types:
        known = ", ".join(built.processes.types) or "none"
        raise ExportError(
            f"tried to set {default} to default but it doesn't exist",
            why=f"the buildpacks made these process types: {known}",
            fix="choose one of them with --process-type",
        )
    return f"{PROCESS_FOLDER}/{default}"


def image_config(
    run_image: Image,
    *,
    context: BuildContext,
    entrypoint: str,
    labels: Mapping[str, str],
    history: Sequence[str],
    created: str,
) -> ImageConfig:
    """The config of an app image: the run image's, with what the app adds.

    Args:
        history: what made each added layer, base first.
    """
    base = run_image.config
    inherited = [h for h in base.history if not h.empty_layer]
    missing = len(run_image.diff_ids) - len(inherited)
    padded = [*inherited, *[History() for _ in range(missing)]][: len(run_image.diff_ids)]
    added = [History(created=created, created_by=text) for text in history]
    return msgspec.structs.replace(
        base,
        created=created,
        config=msgspec.structs.replace(
            base.config,
            env=_image_env(base.env, context),
            entrypoint=(entrypoint,),
            cmd=(),
            working_dir=context.app,
            labels={**base.config.labels, **labels},
            args_escaped=False,
        ),
        rootfs=RootFs(),
        history=(*padded, *added),
    )


def image_labels(
    context: BuildContext,
    built: Built,
    metadata: LifecycleMetadata,
    *,
    launcher: Launcher,
    project: Mapping[str, Any],
) -> dict[str, str]:
    """The labels that the lifecycle adds; buildpacks' own come first and cannot replace them."""
    how = build_metadata(
        built.launch_metadata,
        launcher_version=launcher.version,
        repository=launcher.repository,
        commit=launcher.commit,
    )
    return {
        **labels_of(built.labels),
        LIFECYCLE_LABEL: encode_label(metadata),
        BUILD_METADATA_LABEL: encode_label(how),
        PROJECT_LABEL: encode_label(project),
        EXEC_ENV_LABEL: context.exec_env,
    }


def buildpack_records(
    built: Built, records: Mapping[tuple[str, str], LayerRecord]
) -> list[BuildpackRecord]:
    """What the image remembers of each buildpack: its launch layers and its store."""
    return [
        BuildpackRecord(
            key=b.buildpack.id,
            version=b.buildpack.version,
            layers={name: r for (id_, name), r in records.items() if id_ == b.buildpack.id},
            store=StoreRecord(metadata=b.store) if b.store is not None else None,
        )
        for b in built.buildpacks
    ]


def run_image_record(analyzed: Analyzed) -> RunImageRecord:
    """What the image remembers of its run image, so that it can be rebased."""
    diff_ids = analyzed.run_image.diff_ids
    return RunImageRecord(
        top_layer=str(diff_ids[-1]) if diff_ids else "",
        reference=f"{analyzed.run_reference.name}@{analyzed.run_image.digest}",
        image=analyzed.run.image,
        mirrors=analyzed.run.mirrors,
    )


def _image_env(inherited: Mapping[str, str], context: BuildContext) -> tuple[str, ...]:
    path = inherited.get("PATH", "")
    values = {
        **inherited,
        "CNB_LAYERS_DIR": context.layers,
        "CNB_APP_DIR": context.app,
        "CNB_PLATFORM_API": PLATFORM_API,
        "CNB_DEPRECATION_MODE": "quiet",
        "PATH": f"{PROCESS_FOLDER}:/cnb/lifecycle" + (f":{path}" if path else ""),
    }
    return tuple(f"{name}={value}" for name, value in values.items())
