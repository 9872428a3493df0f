"""What a finished build says about itself in a few short lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hakobune.cli.terminal import human_size

if TYPE_CHECKING:
    from hakobune.builds.request import BuildResult


def describe_build(result: BuildResult) -> Iterator[tuple[str, str]]:
    """Lines about a finished build: `detect`, `build`, `image`, each with its text."""
    if result.reused:
        yield "build", "nothing that goes in has changed: the image is the last build's"
    else:
        names = " · ".join(element.id.rpartition("/")[2] for element in result.group)
        yield "detect", " · ".join([names, *result.told[:2]])
        yield "build", _what_was_built(result)
    size = human_size(sum(layer.size for layer in result.image.manifest.layers))
    name = result.reference.partition("@")[0].removeprefix("docker.io/").removesuffix(":latest")
    yield "image", f"{name}@{str(result.digest)[:15]} · {size}{_new_layers(result)}"


def _what_was_built(result: BuildResult) -> str:
    kept = [fate for fate in result.fates if fate.fate in ("keep", "reuse")]
    parts = []
    changed = [path for path in result.changed if path]  # the folder itself has no name
    if kept and changed:
        more = f" and {len(changed) - 2} more" if len(changed) > 2 else ""
        parts.append(f"{', '.join(changed[:2])}{more} changed")
    if kept:
        parts.append(f"{len(kept)} of {len(result.fates)} layers kept")
    else:
        parts.append(f"{len(result.fates)} layers made")
    return " · ".join(parts)


def _new_layers(result: BuildResult) -> str:
    if result.reused or not result.new_layers:
        return ""
    return f" · {result.new_layers} new layer{'s' if result.new_layers != 1 else ''}"
