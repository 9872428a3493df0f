"""`builder.toml`: what a builder is made of. How its image is put together is elsewhere (`builds.builder_image`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from hakobune.buildpack.descriptor import Order
from hakobune.buildpack.document import TomlDocument
from hakobune.buildpack.order import SystemBuildpacks
from hakobune.buildpack.run_image import RunImage
from hakobune.buildpack.target import Target


class BuildpackSource(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`[[buildpacks]]` of builder.toml: a folder (relative to the file), an archive or an image."""

    uri: str = ""
    image: str = ""
    id: str = ""
    version: str = ""


class BuildVariable(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"exec_env": "exec-env"}
):
    """`[[build.env]]`: a file in `/cnb/build-config/env`, named by what it does."""

    name: str
    value: str
    suffix: str = ""
    delim: str = ""
    exec_env: tuple[str, ...] = ()


class BaseSource(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A build or run image; with `dockerfile` it is made first, and `image` is how it is called then.

    Attributes:
        dockerfile: relative to builder.toml's folder. pack knows no such key; `--build-dockerfile` and
            `--run-dockerfile` say the same beside a file that pack reads.
        target: the stage of the Dockerfile; empty: the last one.
    """

    image: str
    dockerfile: str = ""
    target: str = ""


class BuildSection(BaseSource, frozen=True, kw_only=True, omit_defaults=True):
    """`[build]`."""

    env: tuple[BuildVariable, ...] = ()


class RunSource(BaseSource, frozen=True, kw_only=True, omit_defaults=True):
    """`[[run.images]]`."""

    mirrors: tuple[str, ...] = ()


class RunSection(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`[run]`."""

    images: tuple[RunSource, ...]


class LifecycleSection(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    uri: str = ""
    version: str = ""


class StackSection(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="kebab"):
    """The older way to say `[build]` and `[run]`; beside these it must say the same (pack's samples have both)."""

    id: str = ""
    build_image: str = ""
    run_image: str = ""
    run_image_mirrors: tuple[str, ...] = ()


class BuilderToml(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`builder.toml`: what a builder is made of."""

    description: str = ""
    buildpacks: tuple[BuildpackSource, ...] = ()
    order: Order
    stack: StackSection | None = None
    build: BuildSection | None = None
    run: RunSection | None = None
    lifecycle: LifecycleSection = LifecycleSection()
    targets: tuple[Target, ...] = ()
    system: SystemBuildpacks = SystemBuildpacks()

    @property
    def build_image(self) -> str:
        if self.build is not None:
            return self.build.image
        return self.stack.build_image if self.stack else ""

    @property
    def build_source(self) -> BaseSource:
        return self.build or BaseSource(image=self.build_image)

    @property
    def run_images(self) -> tuple[RunImage, ...]:
        return tuple(RunImage(image=run.image, mirrors=run.mirrors) for run in self.run_sources)

    @property
    def run_sources(self) -> tuple[RunSource, ...]:
        if self.run is not None:
            return self.run.images
        if self.stack is None:
            return ()
        return (RunSource(image=self.stack.run_image, mirrors=self.stack.run_image_mirrors),)

    @property
    def build_env(self) -> tuple[BuildVariable, ...]:
        return self.build.env if self.build else ()


def parse_builder_toml(data: bytes, *, name: str) -> BuilderToml:
    """Read `builder.toml`, strictly.

    Raises:
        DocumentError: not TOML.
        InvalidDocumentError: unknown or missing keys, wrong types, contradictions; all of them.
    """
    document = TomlDocument.parse(data, name=name)
    document.values.setdefault("order", [])
    for key in ("extensions", "order-extensions"):
        if document.values.pop(key, None) is not None:
            document.complain((key,), "builders have no image extensions here: a run.Dockerfile or build.Dockerfile beside the source extends its images")  # fmt: skip
    document.check(BuilderToml, unknown_keys=False)
    _check_base(document)
    _check_targets(document)
    sources = document.values.get("buildpacks")
    for index, source in enumerate(sources if isinstance(sources, list) else ()):
        if isinstance(source, dict) and bool(source.get("uri")) == bool(source.get("image")):
            document.complain(("buildpacks", index), "needs either uri or image")
    return document.to(BuilderToml)


def build_config_files(variables: Iterable[BuildVariable]) -> dict[str, bytes]:
    """The files of `/cnb/build-config/env` for `[[build.env]]`."""
    files: dict[str, bytes] = {}
    for variable in variables:
        suffix = f".{variable.suffix}" if variable.suffix else ""
        files[variable.name + suffix] = variable.value.encode()
        if variable.delim:
            files[f"{variable.name}.delim"] = variable.delim.encode()
    return files


def _check_base(document: TomlDocument) -> None:
    """Both images are said, in the newer way or the older; where in both, they are the same."""
    stack = document.values.get("stack")
    old = stack if isinstance(stack, dict) else {}
    for key, older, new in (
        ("build", "build-image", _image_in(document.values.get("build"))),
        ("run", "run-image", _first_run_image(document.values.get("run"))),
    ):
        given = key in document.values
        if not given and stack is None:
            document.complain((), f"the table [{key}] is missing")
        elif not given and not old.get(older):
            document.complain(("stack",), f"the key {older!r} is missing, and so is [{key}]")
        elif new and old.get(older, new) != new:
            document.complain(("stack", older), f"[{key}] has another image: {new!r}")
    if stack is not None and "run" not in document.values and not old.get("id"):
        document.complain(("stack",), "the key 'id' is missing")


def _first_run_image(run: object) -> str:
    images = run.get("images") if isinstance(run, dict) else None
    return _image_in(images[0]) if isinstance(images, list) and images else ""


def _image_in(table: object) -> str:
    image = table.get("image") if isinstance(table, dict) else None
    return image if isinstance(image, str) else ""


def _check_targets(document: TomlDocument) -> None:
    """A stage is one of a Dockerfile."""
    run = document.values.get("run")
    images = run.get("images") if isinstance(run, dict) else None
    places: list[tuple[tuple[str | int, ...], Any]] = [(("build",), document.values.get("build"))]
    places += [
        (("run", "images", index), image)
        for index, image in enumerate(images if isinstance(images, list) else ())
    ]
    for at, table in places:
        if isinstance(table, dict) and table.get("target") and not table.get("dockerfile"):
            document.complain((*at, "target"), "it is a stage of a dockerfile, and none is named")
