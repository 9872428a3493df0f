"""Build: run `bin/build` of each buildpack and collect what they made (CNB buildpack.md "Phase #3: Build").

Results are read as soon as a buildpack ends, so that its build layers are there for those after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import tomli_w

from hakobune.buildpack.descriptor import Buildpack, GroupElement
from hakobune.buildpack.environment import apply_env_files, apply_layer_directories
from hakobune.buildpack.launch import (
    Label,
    LaunchMetadata,
    LaunchToml,
    Processes,
    Slice,
    encode_launch_metadata,
    merge_processes,
)
from hakobune.buildpack.layer_metadata import LayerMetadata
from hakobune.buildpack.order import Catalog
from hakobune.buildpack.plan import BuildPlan, PlanEntry
from hakobune.errors import HakoError
from hakobune.lifecycle.build_outputs import (
    ignore_layer,
    read_launch,
    read_layers,
    read_store,
    read_unmet,
)
from hakobune.lifecycle.detect import Detected, compose_env
from hakobune.lifecycle.environment import BuildContext
from hakobune.lifecycle.errors import BuildError, BuildpackFailedError, os_errors_as
from hakobune.lifecycle.output import Lines, last_lines, telling_line
from hakobune.lifecycle.sbom_files import collect_sboms
from hakobune.progress import Progress

_PLANS = "/tmp/hako-build"


class BuiltBuildpack(msgspec.Struct, frozen=True, kw_only=True):
    """What one buildpack left behind.

    Args:
        layers: every layer that has a `<layer>.toml`, sorted by name.
        directories: the names of the layers that have contents.
        store: what its `store.toml` says, `None` if there is none.
    """

    buildpack: GroupElement
    layers: tuple[LayerMetadata, ...]
    directories: frozenset[str]
    launch: LaunchToml
    store: dict[str, Any] | None = None


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """What all buildpacks made together.

    Args:
        unmet: dependencies of the plan that no buildpack provided after all.
    """

    buildpacks: tuple[BuiltBuildpack, ...]
    processes: Processes
    slices: tuple[Slice, ...] = ()
    labels: tuple[Label, ...] = ()
    unmet: tuple[str, ...] = ()

    @property
    def launch_metadata(self) -> LaunchMetadata:
        return LaunchMetadata(
            buildpacks=tuple(b.buildpack for b in self.buildpacks),
            processes=self.processes,
            slices=self.slices,
            labels=self.labels,
        )


class _Progressing(msgspec.Struct):
    """What later buildpacks and the image get from those that have run."""

    env: dict[str, str]
    plan: BuildPlan
    done: list[BuiltBuildpack] = msgspec.field(default_factory=list)
    processes: Processes = msgspec.field(default_factory=Processes)


def build(
    context: BuildContext, *, detected: Detected, catalog: Catalog, progress: Progress
) -> Built:
    """Run the group's buildpacks in order. Writes `<layers>/config/metadata.toml` and `<layers>/sbom`.

    Raises:
        BuildpackFailedError: a `bin/build` failed (exit code 51).
        BuildError: a buildpack wrote something that cannot be used (exit code 52).
    """
    progress.phase("BUILDING")
    with os_errors_as(BuildError, "the buildpacks cannot be run"):
        context.environment.remove(f"{context.layers}/sbom")
        state = _Progressing(env=dict(context.variables), plan=detected.plan)
        for element in detected.group:
            buildpack = catalog.find(element)
            if buildpack is None:
                raise BuildError(f"the buildpack {element} is not in the builder")
            _run_build(context, element, buildpack, state, progress)
            with _blaming(element):
                _collect(context, element, buildpack, state, progress)
        built = _finish(state)
        _write_config(context, built)
        return built


@contextmanager
def _blaming(element: GroupElement) -> Iterator[None]:
    """What cannot be read or set in order after `bin/build` is the buildpack's fault."""
    try:
        with os_errors_as(BuildError, f"the results of buildpack {element} cannot be used"):
            yield
    except BuildError:
        raise
    except HakoError as error:
        raise BuildError(
            f"the results of buildpack {element} cannot be used",
            why=f"{error.what}: {error.why}" if error.why else error.what,
            fix="this is a fault of the buildpack: report it to its authors",
        ) from error


def _run_build(
    context: BuildContext,
    element: GroupElement,
    buildpack: Buildpack,
    state: _Progressing,
    progress: Progress,
) -> None:
    layers = f"{context.layers}/{element.directory_name}"
    plan_path = f"{_PLANS}/{element.directory_name}.toml"
    context.make_directory(layers)
    context.make_directory(_PLANS)
    context.write(plan_path, encode_buildpack_plan(state.plan, element.id))
    lines = Lines(progress)
    code = context.environment.run(
        [f"{buildpack.directory}/bin/build", layers, context.platform, plan_path],
        env=compose_env(
            context,
            buildpack,
            state.env,
            {"CNB_LAYERS_DIR": layers, "CNB_BP_PLAN_PATH": plan_path},
        ),
        cwd=context.app,
        uid=context.uid,
        gid=context.gid,
        output=lines.feed,
    )
    lines.end()
    if code != 0:
        raise _failure(element, code, lines)


def encode_buildpack_plan(plan: BuildPlan, buildpack: str) -> bytes:
    """The requires that *buildpack* is asked to meet, as it reads them."""
    entries = [
        msgspec.to_builtins(require)
        for entry in plan
        if buildpack in entry.providers
        for require in entry.requires
    ]
    return tomli_w.dumps({"entries": entries}).encode() if entries else b""


def remaining_plan(plan: BuildPlan, buildpack: str, unmet: Sequence[str]) -> BuildPlan:
    """The plan for later buildpacks: without what *buildpack* has met.

    Raises:
        BuildError: it calls unmet what it was not asked for.
    """
    asked = {entry.name for entry in plan if buildpack in entry.providers}
    foreign = [name for name in unmet if name not in asked]
    if foreign:
        raise BuildError(
            f"the results of buildpack {buildpack} cannot be used",
            why=f"its build.toml says that {', '.join(foreign)} is unmet, which it was not asked for",
            fix="this is a fault of the buildpack: report it to its authors",
        )
    rest: list[PlanEntry] = []
    for entry in plan:
        if buildpack not in entry.providers:
            rest.append(entry)
        elif entry.name in unmet:
            others = tuple(p for p in entry.providers if p != buildpack)
            rest.append(msgspec.structs.replace(entry, providers=others))
    return tuple(rest)


def _collect(
    context: BuildContext,
    element: GroupElement,
    buildpack: Buildpack,
    state: _Progressing,
    progress: Progress,
) -> None:
    """Read what `bin/build` left, set it in order, and pass it on."""
    folder = f"{context.layers}/{element.directory_name}"
    names = context.environment.list_directory(folder) or ()
    directories = {e.name for e in names if e.is_directory}
    files = {e.name for e in names if not e.is_directory}
    layers = read_layers(context, folder, files)
    for layer in layers:
        if layer.is_ignored and layer.name in directories:
            ignore_layer(context, f"{folder}/{layer.name}")
            directories.discard(layer.name)
    collect_sboms(context, buildpack, folder, files, layers)
    state.env = _with_build_layers(
        context, state.env, folder, [la for la in layers if la.build and la.name in directories]
    )
    launch = read_launch(context, folder, buildpack)
    state.processes, lost = merge_processes(state.processes, launch.processes)
    for type_ in lost:
        progress.note(
            f"{element} redefines the default process {type_!r} as one that is not the default",
            warning=True,
        )
    state.plan = remaining_plan(state.plan, element.id, read_unmet(context, folder))
    state.done.append(
        BuiltBuildpack(
            buildpack=element,
            layers=layers,
            directories=frozenset(directories),
            launch=launch,
            store=read_store(context, folder),
        )
    )


def _with_build_layers(
    context: BuildContext, env: dict[str, str], folder: str, layers: Sequence[LayerMetadata]
) -> dict[str, str]:
    """*env* for later buildpacks: each build layer's folders first, then its `env` and `env.build` files."""
    for layer in layers:
        path = f"{folder}/{layer.name}"
        present = [e.name for e in context.environment.list_directory(path) or () if e.is_directory]
        env = apply_layer_directories(env, path, present)
        for name in ("env", "env.build"):
            if name in present:
                files = context.read_folder(f"{path}/{name}")
                env = apply_env_files(env, files, folder=f"{path}/{name}")
    return env


def _finish(state: _Progressing) -> Built:
    return Built(
        buildpacks=tuple(state.done),
        processes=state.processes,
        slices=tuple(s for b in state.done for s in b.launch.slices),
        labels=tuple(label for b in state.done for label in b.launch.labels),
        unmet=tuple(entry.name for entry in state.plan),
    )


def _write_config(context: BuildContext, built: Built) -> None:
    folder = f"{context.layers}/config"
    context.make_directory(folder)
    context.write(f"{folder}/metadata.toml", encode_launch_metadata(built.launch_metadata))
    for kind in ("launch", "build"):
        # Platforms since 0.9 find the deprecated `bom` here; no supported buildpack writes one.
        context.make_directory(f"{context.layers}/sbom/{kind}")
        context.write(f"{context.layers}/sbom/{kind}/sbom.legacy.json", b"[]")


def _failure(element: GroupElement, code: int, lines: Lines) -> BuildpackFailedError:
    telling = telling_line(lines.kept)
    last = last_lines(lines.kept, 5)
    ended = f"it was ended by signal {code - 128}" if code > 128 else f"its exit code is {code}"
    seen = f"{ended}; it said: {telling}" if telling else f"{ended}; it said nothing"
    return BuildpackFailedError(
        f"build failed in buildpack {element}",
        why=seen,
        fix="its whole output is above; the previous image and everything kept is as it was",
        buildpack=element.id,
        code=code,
        lines=last,
    )
