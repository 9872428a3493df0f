"""`io.buildpacks.build.metadata`: what an app image says of its processes, buildpacks and launcher (CNB platform.md "Build Metadata")."""

from __future__ import annotations

import msgspec

from hakobune.buildpack.launch import LaunchMetadata, ProcessRecord

BUILD_METADATA_LABEL = "io.buildpacks.build.metadata"


class BuildpackName(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    id: str
    version: str
    homepage: str = ""


class GitCommit(msgspec.Struct, frozen=True, kw_only=True):
    repository: str = ""
    commit: str = ""


class GitSource(msgspec.Struct, frozen=True, kw_only=True):
    git: GitCommit = GitCommit()


class LauncherSource(msgspec.Struct, frozen=True, kw_only=True):
    version: str = ""
    source: GitSource = GitSource()


class BuildMetadata(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={"default_process": "buildpack-default-process-type"},
):
    """`io.buildpacks.build.metadata`; keys are written in the order in which they are declared."""

    buildpacks: tuple[BuildpackName, ...]
    launcher: LauncherSource
    processes: tuple[ProcessRecord, ...]
    default_process: str = ""


def build_metadata(
    metadata: LaunchMetadata, *, launcher_version: str, repository: str, commit: str
) -> BuildMetadata:
    """What `io.buildpacks.build.metadata` says of the image."""
    return BuildMetadata(
        buildpacks=tuple(
            BuildpackName(id=b.id, version=b.version, homepage=b.homepage)
            for b in metadata.buildpacks
        ),
        launcher=LauncherSource(
            version=launcher_version,
            source=GitSource(git=GitCommit(repository=repository, commit=commit)),
        ),
        processes=tuple(ProcessRecord.of(p) for p in metadata.processes.processes),
        default_process=metadata.processes.default,
    )
