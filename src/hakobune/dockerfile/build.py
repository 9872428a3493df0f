"""A Dockerfile becomes an image: its stages, in parallel where they do not need each other."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Event, Thread

from msgspec import Struct
from msgspec.structs import replace

from hakobune.dockerfile.bases import Bases
from hakobune.dockerfile.cache import KEPT_FOR_S, ROOM, StepCache
from hakobune.dockerfile.emulated import check_emulation
from hakobune.dockerfile.errors import DockerfileError
from hakobune.dockerfile.execute import Globals, execute_stage
from hakobune.dockerfile.file_digests import FileDigests
from hakobune.dockerfile.graph import (
    ContextSource,
    ImageSource,
    Plan,
    PlannedStage,
    ScratchSource,
    Source,
    StageSource,
)
from hakobune.dockerfile.ignore_file import IgnoreFile, read_ignore_file
from hakobune.dockerfile.image_config import scratch_config
from hakobune.dockerfile.instructions import Dockerfile
from hakobune.dockerfile.parse import decode, parse
from hakobune.dockerfile.rehearse import all_warnings, rehearse
from hakobune.dockerfile.report import Report
from hakobune.dockerfile.request import DockerfileRequest, parse_epoch
from hakobune.dockerfile.rooms import Rooms
from hakobune.dockerfile.source_places import source_places
from hakobune.dockerfile.source_tree import SourceTree
from hakobune.dockerfile.stage_state import StageState
from hakobune.dockerfile.step_layers import StageLayers
from hakobune.dockerfile.triggers import plan_with_triggers
from hakobune.dockerfile.workshop import CancelledError, Workshop
from hakobune.errors import HakoError
from hakobune.oci.manifest import Image
from hakobune.oci.platform import Platform
from hakobune.oci.store import Store
from hakobune.progress import Progress, SilentProgress
from hakobune.settings import Settings


class Built(Struct, frozen=True, kw_only=True):
    """What came of a build.

    Attributes:
        made: how many layers were made; 0 if all came from the cache.
    """

    image: Image
    made: int


def build(
    request: DockerfileRequest, store: Store, settings: Settings, progress: Progress
) -> Built:
    """Build the request's target and give the image its names.

    Finished steps stay in the cache whatever happens. A failed or killed build leaves no process, no mount and no part
    of a layer, and the names as they were.

    Raises:
        DockerfileError: with the line that is meant.
        HakoError: something else.
    """
    if request.epoch is None and (epoch := request.args.get("SOURCE_DATE_EPOCH", "")):
        from dataclasses import replace as with_changes

        request = with_changes(request, epoch=parse_epoch(epoch, "SOURCE_DATE_EPOCH="))
    dockerfile = read_dockerfile(request)
    report = Report(progress)
    names = [stage.name for stage in dockerfile.stages if stage.name]
    bases = Bases(
        request,
        store,
        progress,
        stage_names=names,
        build_folder=lambda folder: build(folder, store, settings, SilentProgress()).image,
    )
    planned = plan_with_triggers(
        dockerfile,
        request,
        bases.contexts.names,
        lambda one, source: bases.of_stage(one, source).config.config.on_build,
    )
    check_emulation(planned)
    ignore = request.ignore
    if ignore is None:
        ignore = read_ignore_file(request.context, request.dockerfile)
    rehearsed = rehearse(
        planned,
        bases.environment,
        request.args,
        dockerfile.escape,
        left_out=ignore.left_out,
    )
    warnings = all_warnings(
        dockerfile,
        planned,
        rehearsed,
        platform=request.platform,
        given={name: request.args[name] for name in request.assured},
    )
    try:
        with _open_context(request, ignore, store) as context:
            return _Build(
                dockerfile, planned, request, store, settings, report, bases, context
            ).run()
    finally:  # where they are still seen after a long build
        for warning in warnings:
            report.note(str(warning), warning=True)


def read_dockerfile(request: DockerfileRequest) -> Dockerfile:
    """The request's file, parsed.

    Raises:
        DockerfileError: it cannot be understood.
        HakoError: it cannot be read.
    """
    path = request.dockerfile
    text = request.text
    if text is None:
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise HakoError(
                f"there is no {path}",
                fix="name the Dockerfile with -f, or go to its folder",
            ) from error
        except OSError as error:
            raise HakoError(
                f"cannot read {path}",
                why=error.strerror or str(error),
                fix="name the Dockerfile with -f",
            ) from error
        text = decode(data, path.name)
    return parse(text, path.name)


@contextmanager
def _open_context(
    request: DockerfileRequest, ignore: IgnoreFile, store: Store
) -> Iterator[SourceTree]:
    try:
        root = os.open(request.context, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise HakoError(
            f"cannot read the build context {request.context}", why=error.strerror or str(error)
        ) from error
    digests = FileDigests(store.home, request.context)
    try:
        yield SourceTree(
            root,
            ignored=ignore.ignores if ignore.patterns.patterns else None,
            may_return=ignore.may_return,
            reason=ignore.reason,
            digests=digests,
            owners=False,
        )
        digests.save()
    finally:
        os.close(root)


class _Outcome:
    """What becomes of a stage that some thread builds."""

    def __init__(self) -> None:
        self.ended = Event()
        self.stage: StageState | None = None

    def wait(self) -> StageState:
        """The finished stage.

        Raises:
            CancelledError: it has failed; the reason is told once, by its own thread.
        """
        self.ended.wait()
        if self.stage is None:
            raise CancelledError
        return self.stage


class _Build:
    """One run."""

    def __init__(
        self,
        dockerfile: Dockerfile,
        planned: Plan,
        request: DockerfileRequest,
        store: Store,
        settings: Settings,
        report: Report,
        bases: Bases,
        context: SourceTree,
    ) -> None:
        self._plan = planned
        self._request = request
        self._store = store
        self._bases = bases
        self._globals = Globals(
            escape=dockerfile.escape, args=dict(request.args), values=dict(planned.global_args)
        )
        self._sources: dict[str, tuple[Source, Platform]] = {
            name: (source, one.platform)
            for one in planned.stages
            for name, source in one.sources.items()
        }
        self._in_image = planned.in_image()
        self._places = source_places(planned)
        self._stages = {one.stage.index: _Outcome() for one in planned.stages}
        self._errors: list[BaseException] = []
        self._workshop = Workshop(
            request=request,
            store=store,
            settings=settings,
            cache=StepCache(store),
            layers=StageLayers(store, epoch=request.epoch),
            report=report,
            rooms=Rooms(settings),
            context=context,
            find_source=self._find_source,
        )

    def run(self) -> Built:
        try:
            try:
                self._run_stages()
            finally:
                self._workshop.layers.close()
            image = self._publish(self._stages[self._plan.target].wait())
        finally:
            self._workshop.rooms.close()
        if self._workshop.made:
            self._workshop.cache.forget(unused_for_s=KEPT_FOR_S)
            if (repositories := self._store.home / ROOM / "git").is_dir():
                from hakobune.dockerfile.add_git import forget_checkouts

                forget_checkouts(repositories, unused_for_s=KEPT_FOR_S)
            self._store.sync_later()
        return Built(image=image, made=self._workshop.made)

    def _run_stages(self) -> None:
        stages = self._plan.stages
        if len(stages) == 1:
            self._run_stage(stages[0])
        else:
            threads = [
                Thread(target=self._run_stage, args=(one,), name=one.stage.label) for one in stages
            ]
            for thread in threads:
                thread.start()
            try:
                for one in stages:
                    self._stages[one.stage.index].ended.wait()
                    if self._errors:
                        break
            finally:
                if not all(outcome.stage for outcome in self._stages.values()):
                    self._cancel()
                for thread in threads:
                    thread.join()
        for error in self._errors:
            if not isinstance(error, CancelledError):
                raise error
        if self._errors:
            raise self._errors[0]

    def _cancel(self) -> None:
        """End what other stages do now."""
        self._workshop.cancelled.set()
        for sandbox in tuple(self._workshop.running):
            sandbox.interrupt()

    def _run_stage(self, planned: PlannedStage) -> None:
        outcome = self._stages[planned.stage.index]
        stage: StageState | None = None
        try:
            stage = self._begin(planned)
            stage.in_image = planned.stage.index in self._in_image
            execute_stage(self._workshop, stage, planned, self._globals)
            outcome.stage = stage
        except BaseException as error:  # raised again by the thread that waits for all stages
            self._errors.append(error)
            self._cancel()
        finally:
            outcome.ended.set()

    def _begin(self, planned: PlannedStage) -> StageState:
        label = planned.stage.name or f"stage-{planned.stage.index}"
        match planned.base:
            case StageSource(index):
                return StageState.on_stage(label, self._stages[index].wait())
            case ImageSource() | ContextSource() as source:
                image = self._bases.of_stage(planned, source)
                return StageState.on_image(
                    label, image.config, self._workshop.layers.of_image(image)
                )
            case ScratchSource():
                return StageState.on_image(label, scratch_config(planned.platform), ())

    def _find_source(self, name: str) -> StageState:
        source, platform = self._sources[name]
        match source:
            case StageSource(index):
                return self._stages[index].wait()
            case ImageSource() | ContextSource():
                image = self._image(name, source, platform)
                return StageState.on_image(
                    name, image.config, self._workshop.layers.of_image(image)
                )
            case ScratchSource():
                return StageState.on_image(name, scratch_config(platform), ())

    def _image(self, name: str, source: ImageSource | ContextSource, platform: Platform) -> Image:
        try:
            return self._bases.image(source, platform)
        except HakoError as error:
            raise DockerfileError.at(self._places[name], error) from error

    def _publish(self, stage: StageState) -> Image:
        request = self._request
        config = stage.dated_config()
        if not config.created:
            config = replace(config, created=_time_of(request.epoch))
        labels: Mapping[str, str] = dict(sorted({**config.config.labels, **request.labels}.items()))
        config = replace(config, config=replace(config.config, labels=labels))
        layers = [layer.wait_for_blob() for layer in stage.layers]
        config = replace(config, rootfs=replace(config.rootfs, diff_ids=()))
        return self._store.publish_image(config=config, layers=layers, names=request.names)


def _time_of(epoch: int | None) -> str:
    """An image without any layer and history still has a time; it must not change from build to build."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch or 0))
