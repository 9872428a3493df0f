"""What is known of a buildpack's layers: `<layer>.toml`, and the label that remembers it in the image.

CNB buildpack.md "Layer Types", platform.md "Labels" (`io.buildpacks.lifecycle.metadata`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import tomli_w

from hakobune.buildpack.document import TomlDocument

LIFECYCLE_LABEL = "io.buildpacks.lifecycle.metadata"

_FLAGS = ("launch", "build", "cache")


class LayerTypes(msgspec.Struct, frozen=True, kw_only=True):
    """`[types]`: where a layer is wanted; all false means nowhere."""

    launch: bool = False
    build: bool = False
    cache: bool = False


class LayerMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """A layer as its buildpack describes it."""

    name: str
    launch: bool = False
    build: bool = False
    cache: bool = False
    metadata: dict[str, Any] = {}

    @property
    def is_ignored(self) -> bool:
        """It is wanted nowhere."""
        return not (self.launch or self.build or self.cache)


class _LayerToml(msgspec.Struct, frozen=True, kw_only=True):
    types: LayerTypes = LayerTypes()
    metadata: dict[str, Any] = {}


class Sha(msgspec.Struct, frozen=True, kw_only=True):
    """A layer's diff_id, by the label's word."""

    sha: str = ""


class LayerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A layer of a buildpack in the label: its diff_id and what its TOML said."""

    sha: str = ""
    data: dict[str, Any] | None = None
    build: bool = False
    launch: bool = False
    cache: bool = False


class StoreRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a buildpack's `store.toml` said."""

    metadata: dict[str, Any] = {}


class BuildpackRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A buildpack in the label."""

    key: str
    version: str
    layers: dict[str, LayerRecord]
    store: StoreRecord | None = None


class RunImageRecord(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename={"top_layer": "topLayer"},
    omit_defaults=True,
):
    """The run image in the label; `top_layer` is its last layer's diff_id."""

    top_layer: str
    reference: str
    image: str = ""
    mirrors: tuple[str, ...] = ()


class StackRunImage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    image: str
    mirrors: tuple[str, ...] = ()


class StackRecord(msgspec.Struct, frozen=True, kw_only=True, rename={"run_image": "runImage"}):
    """The run image once more, where platforms older than 0.12 look for it."""

    run_image: StackRunImage


class LifecycleMetadata(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={
        "process_types": "process-types",
        "run_image": "runImage",
        "exec_env": "exec-env",
    },
):
    """`io.buildpacks.lifecycle.metadata`; keys are written in the order in which they are declared."""

    app: list[Sha]
    sbom: Sha | None = None
    buildpacks: list[BuildpackRecord]
    config: Sha
    launcher: Sha
    process_types: Sha
    run_image: RunImageRecord
    stack: StackRecord | None = None
    exec_env: str = ""

    def buildpack(self, buildpack_id: str) -> BuildpackRecord | None:
        return next((b for b in self.buildpacks if b.key == buildpack_id), None)

    def layer(self, buildpack_id: str, name: str) -> LayerRecord | None:
        """What is remembered of one layer."""
        record = self.buildpack(buildpack_id)
        return record.layers.get(name) if record else None

    def layers(self) -> Iterator[tuple[str, str, LayerRecord]]:
        """Every remembered layer as `(buildpack id, layer name, record)`."""
        for record in self.buildpacks:
            for name, layer in record.layers.items():
                yield record.key, name, layer


def parse_layer_toml(data: bytes, *, name: str, layer: str) -> LayerMetadata:
    """Read `<layer>.toml`, which came from the file *name*.

    Raises:
        DocumentError: not TOML.
        InvalidDocumentError: wrong types, or flags outside of `[types]`.
    """
    document = TomlDocument.parse(data, name=name)
    for flag in _FLAGS:
        if flag in document.values:
            document.complain((flag,), "layer types belong under [types]")
    document.check(_LayerToml, unknown_keys=True)
    parsed = document.to(_LayerToml)
    types = parsed.types
    return LayerMetadata(
        name=layer,
        launch=types.launch,
        build=types.build,
        cache=types.cache,
        metadata=parsed.metadata,
    )


def encode_restored_layer(metadata: Mapping[str, Any]) -> bytes:
    """`<layer>.toml` as a build finds it: the metadata alone.

    The types are absent, so that a layer stays in the image only if its buildpack says so again.
    """
    return tomli_w.dumps({"metadata": without_nulls(metadata)}).encode()


def without_nulls(value: Any) -> Any:
    """*value* as TOML can hold it; JSON's null, which TOML does not know, is left out."""
    match value:
        case Mapping():
            return {k: without_nulls(v) for k, v in value.items() if v is not None}
        case list() | tuple():
            return [without_nulls(v) for v in value if v is not None]
        case _:
            return value


def encode_label(document: msgspec.Struct | Mapping[str, Any]) -> str:
    """A label's compact JSON, with the bytes that Go's encoder would write.

    Structs keep their order, free-form tables are sorted, and `<`, `>`, `&` are escaped.
    """
    text = msgspec.json.encode(document, order="deterministic").decode()
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def decode_lifecycle_metadata(label: str) -> LifecycleMetadata | None:
    """Read the label of an earlier image; `None` if it cannot be understood (it is then ignored)."""
    try:
        return msgspec.json.decode(label, type=LifecycleMetadata)
    except (msgspec.MsgspecError, UnicodeError):
        return None
