"""What `hako builder inspect` says of a builder, from its labels alone (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from hakobune.buildpack.builder_labels import BUILDER_LABEL, BuilderLabels, LayerInfo
from hakobune.buildpack.descriptor import GroupElement, Order
from hakobune.oci.manifest import Image


def describe(name: str, image: Image, labels: BuilderLabels) -> dict[str, Any]:
    """The builder as a document, for programs."""
    metadata = msgspec.json.decode(image.config.labels[BUILDER_LABEL], type=dict[str, Any])
    return {
        "name": name,
        "digest": str(image.digest),
        "platform": str(image.platform),
        "description": labels.description,
        "createdBy": metadata.get("createdBy", {}),
        "stack": image.config.labels.get("io.buildpacks.stack.id", ""),
        "lifecycle": metadata.get("lifecycle", {}),
        "runImages": msgspec.to_builtins(labels.run_images),
        "buildpacks": [
            {"id": id_, "version": version, "homepage": info.homepage, "name": info.name}
            for id_, versions in sorted(labels.layers.items())
            for version, info in versions.items()
        ],
        "order": msgspec.to_builtins(labels.order),
        "system": msgspec.to_builtins(labels.system),
    }


def summary_lines(shown: dict[str, Any]) -> Iterator[str]:
    """What stands above the table of buildpacks."""
    made_by = shown["createdBy"]
    lifecycle = shown["lifecycle"]
    rows = (
        ("Builder", f"{shown['name']}@{shown['digest']}"),
        ("Platform", shown["platform"]),
        ("Description", shown["description"]),
        ("Created by", f"{made_by.get('name', '')} {made_by.get('version', '')}".strip()),
        ("Stack", shown["stack"]),
        ("Lifecycle", lifecycle.get("version", "")),
        ("Buildpack APIs", _versions(lifecycle, "buildpack")),
        ("Platform APIs", _versions(lifecycle, "platform")),
    )
    for label, text in rows:
        if text:
            yield f"{label + ':':<16}{text}"
    yield ""
    yield "Run images:"
    for run in shown["runImages"]:
        yield f"  {run['image']}"
        for mirror in run.get("mirrors", ()):
            yield f"    mirror {mirror}"


def order_lines(labels: BuilderLabels) -> Iterator[str]:
    """The order as a tree, with what buildpacks that are orders themselves stand for."""
    for number, group in enumerate(labels.order, 1):
        yield f"  Group {number}:"
        for element in group.group:
            yield from _element_lines(element, labels, 4, ())


def _element_lines(
    element: GroupElement, labels: BuilderLabels, indent: int, above: tuple[str, ...]
) -> Iterator[str]:
    info = _find(element, labels)
    marks = [
        mark
        for mark, holds in (
            ("optional", element.optional),
            ("not in the builder", info is None),
            ("contains itself", element.full_name in above),
        )
        if holds
    ]
    yield f"{' ' * indent}{element.full_name}" + (f" ({', '.join(marks)})" if marks else "")
    if info is None or element.full_name in above:
        return
    order: Order = info.order
    for number, group in enumerate(order, 1):
        yield f"{' ' * (indent + 2)}Group {number}:"
        for inner in group.group:
            yield from _element_lines(inner, labels, indent + 4, (*above, element.full_name))


def _find(element: GroupElement, labels: BuilderLabels) -> LayerInfo | None:
    versions = labels.layers.get(element.id, {})
    if element.version:
        return versions.get(element.version)
    return next(iter(versions.values()), None)


def _versions(lifecycle: dict[str, Any], kind: str) -> str:
    return ", ".join(lifecycle.get("apis", {}).get(kind, {}).get("supported", ()))
