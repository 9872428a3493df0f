"""Builders: `builder.toml`, the labels and files of a builder image, and the choice of a run image.

CNB distribution.md "Builder", platform.md "run.toml" and "order.toml". How a builder image is put together
is elsewhere (`builds.builder`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import tomli_w

from hakobune.buildpack.descriptor import Buildpack, Order, Stack, Target
from hakobune.buildpack.document import TomlDocument, read_document
from hakobune.buildpack.layer_metadata import encode_label
from hakobune.buildpack.order import SystemBuildpacks
from hakobune.errors import HakoError

ORDER_PATH = "/cnb/order.toml"
RUN_PATH = "/cnb/run.toml"
SYSTEM_PATH = "/cnb/system.toml"
BUILD_CONFIG_PATH = "/cnb/build-config"

BUILDER_LABEL = "io.buildpacks.builder.metadata"
ORDER_LABEL = "io.buildpacks.buildpack.order"
LAYERS_LABEL = "io.buildpacks.buildpack.layers"
SYSTEM_LABEL = "io.buildpacks.buildpack.system"
PACKAGE_LABEL = "io.buildpacks.buildpackage.metadata"


class RunImage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A run image and other places that hold the same."""

    image: str
    mirrors: tuple[str, ...] = ()


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
    """The older way to say `[build]` and `[run]`."""

    id: str
    build_image: str
    run_image: str
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


class OrderToml(msgspec.Struct, frozen=True, kw_only=True):
    """`order.toml`."""

    order: Order = ()


class RunToml(msgspec.Struct, frozen=True, kw_only=True):
    """`run.toml`."""

    images: tuple[RunImage, ...] = ()


class SystemToml(msgspec.Struct, frozen=True, kw_only=True):
    """`system.toml`."""

    system: SystemBuildpacks = SystemBuildpacks()


class LayerInfo(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={"layer_diff_id": "layerDiffID"},
):
    """A buildpack in `io.buildpacks.buildpack.layers`: enough to resolve orders without its files."""

    api: str
    stacks: tuple[Stack, ...] = ()
    targets: tuple[Target, ...] = ()
    order: Order = ()
    layer_diff_id: str = ""
    homepage: str = ""
    name: str = ""


class BuilderLabels(msgspec.Struct, frozen=True, kw_only=True):
    """What a builder image says about itself."""

    order: Order
    layers: dict[str, dict[str, LayerInfo]]
    run_images: tuple[RunImage, ...]
    description: str = ""
    system: SystemBuildpacks = SystemBuildpacks()


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


def encode_order(order: Order) -> bytes:
    """`order.toml`."""
    return tomli_w.dumps({"order": msgspec.to_builtins(order)}).encode()


def parse_order_toml(data: bytes, *, name: str) -> Order:
    """Read `order.toml`.

    Raises:
        DocumentError, InvalidDocumentError: it cannot be read.
    """
    return read_document(data, OrderToml, name=name).order


def encode_run(images: Sequence[RunImage]) -> bytes:
    """`run.toml`."""
    return tomli_w.dumps({"images": msgspec.to_builtins(images)}).encode()


def parse_run_toml(data: bytes, *, name: str) -> tuple[RunImage, ...]:
    """Read `run.toml`.

    Raises:
        DocumentError, InvalidDocumentError: it cannot be read.
    """
    return read_document(data, RunToml, name=name).images


def encode_system(system: SystemBuildpacks) -> bytes:
    """`system.toml`."""
    return tomli_w.dumps({"system": msgspec.to_builtins(system)}).encode()


def parse_system_toml(data: bytes, *, name: str) -> SystemBuildpacks:
    """Read `system.toml`.

    Raises:
        DocumentError, InvalidDocumentError: it cannot be read.
    """
    return read_document(data, SystemToml, name=name).system


def builder_labels(
    *,
    description: str,
    order: Order,
    buildpacks: Sequence[tuple[Buildpack, str]],
    run_images: Sequence[RunImage],
    lifecycle_version: str,
    system: SystemBuildpacks | None = None,
) -> dict[str, str]:
    """The labels of a builder image.

    Args:
        buildpacks: each buildpack with its layer's diff_id.
        run_images: the first is the default.
    """
    apis = {
        "buildpack": {"deprecated": [], "supported": ["0.8", "0.9", "0.10", "0.11", "0.12"]},
        "platform": {"deprecated": [], "supported": ["0.15"]},
    }
    metadata: dict[str, Any] = {
        "description": description,
        "buildpacks": [
            {"id": b.id, "version": b.version}
            | ({"homepage": b.buildpack.homepage} if b.buildpack.homepage else {})
            for b, _ in buildpacks
        ],
        "stack": {"runImage": run_images[0] if run_images else RunImage(image="")},
        "lifecycle": {
            "version": lifecycle_version,
            "api": {"buildpack": "0.8", "platform": "0.15"},
            "apis": apis,
        },
        "createdBy": {"name": "hakobune", "version": lifecycle_version},
        "images": list(run_images),
    }
    layers: dict[str, dict[str, LayerInfo]] = {}
    for buildpack, diff_id in buildpacks:
        layers.setdefault(buildpack.id, {})[buildpack.version] = _layer_info(buildpack, diff_id)
    labels = {
        BUILDER_LABEL: _compact(metadata),
        ORDER_LABEL: _compact(order),
        LAYERS_LABEL: _compact(layers),
    }
    if system is not None and (system.pre.buildpacks or system.post.buildpacks):
        labels[SYSTEM_LABEL] = _compact(system)
    return labels


def read_builder_labels(labels: Mapping[str, str], *, image: str) -> BuilderLabels:
    """What the labels of the builder *image* say.

    Raises:
        HakoError: the image is no builder, or a label cannot be understood; the label is named.
    """
    if BUILDER_LABEL not in labels:
        raise HakoError(
            f"{image} is not a builder",
            why=f"it has no label {BUILDER_LABEL}",
            fix="name a builder image, or leave --builder away to use the default one",
        )
    metadata = _label(labels, BUILDER_LABEL, _BuilderMetadata, image)
    first = metadata.stack.run_image
    return BuilderLabels(
        order=_label(labels, ORDER_LABEL, Order, image) if ORDER_LABEL in labels else (),
        layers=_label(labels, LAYERS_LABEL, dict[str, dict[str, LayerInfo]], image)
        if LAYERS_LABEL in labels
        else {},
        run_images=metadata.images or ((first,) if first.image else ()),
        description=metadata.description,
        system=_label(labels, SYSTEM_LABEL, SystemBuildpacks, image)
        if SYSTEM_LABEL in labels
        else SystemBuildpacks(),
    )


def read_package_labels(
    labels: Mapping[str, str], *, image: str
) -> dict[str, dict[str, LayerInfo]]:
    """The buildpacks in the package *image* (CNB distribution.md "Buildpackage"), by id and version.

    Raises:
        HakoError: the image is no package, or a label cannot be understood.
    """
    if PACKAGE_LABEL not in labels or LAYERS_LABEL not in labels:
        raise HakoError(
            f"{image} is not a buildpack's package",
            why=f"it has no label {PACKAGE_LABEL if PACKAGE_LABEL not in labels else LAYERS_LABEL}",
            fix="name an image that `pack buildpack package` has made, or a folder with uri",
        )
    found: dict[str, dict[str, LayerInfo]] = _label(
        labels, LAYERS_LABEL, dict[str, dict[str, LayerInfo]], image
    )
    return found


def choose_run_image(
    images: Sequence[RunImage], *, output_registry: str, exists: Callable[[str], bool]
) -> str:
    """The first of the default run image's places that exists, those in *output_registry* first.

    Args:
        output_registry: the registry to which the app image goes, as images spell it before their first `/`.
        exists: whether an image of that name can be read; asked for as few names as possible.

    Raises:
        HakoError: there is no run image, or none of its places holds it.
    """
    if not images:
        raise HakoError(
            "no run image is known",
            why="the builder names none",
            fix="choose one with --run-image",
        )
    candidates = (images[0].image, *images[0].mirrors)
    near = [c for c in candidates if c.split("/", 1)[0] == output_registry]
    for candidate in dict.fromkeys([*near, *candidates]):
        if exists(candidate):
            return candidate
    raise HakoError(
        "the run image cannot be found",
        why=f"tried {', '.join(candidates)}",
        fix="choose one with --run-image, or load one of these images",
    )


class _BuilderStack(msgspec.Struct, frozen=True, kw_only=True, rename={"run_image": "runImage"}):
    run_image: RunImage = RunImage(image="")


class _BuilderMetadata(msgspec.Struct, frozen=True, kw_only=True):
    description: str = ""
    stack: _BuilderStack = _BuilderStack()
    images: tuple[RunImage, ...] = ()


def _layer_info(buildpack: Buildpack, diff_id: str) -> LayerInfo:
    return LayerInfo(
        api=buildpack.api,
        stacks=buildpack.stacks,
        targets=buildpack.targets,
        order=buildpack.order,
        layer_diff_id=diff_id,
        homepage=buildpack.buildpack.homepage,
        name=buildpack.buildpack.name,
    )


def _check_base(document: TomlDocument) -> None:
    has_stack = "stack" in document.values
    has_base = "build" in document.values or "run" in document.values
    if has_stack and has_base:
        document.complain(("stack",), "write either [stack], or [build] and [run]")
    if not has_stack:
        for key in ("build", "run"):
            if key not in document.values:
                document.complain((), f"the table [{key}] is missing")


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


def _compact(document: Any) -> str:
    return encode_label(msgspec.to_builtins(document))


def _label(labels: Mapping[str, str], key: str, type_: Any, image: str) -> Any:
    try:
        return msgspec.json.decode(labels[key], type=type_)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise HakoError(f"the label {key} of {image} cannot be read", why=str(error)) from error
