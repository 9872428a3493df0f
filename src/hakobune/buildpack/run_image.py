"""The run image of a builder, its mirrors, and the choice among them (CNB platform.md "run.toml")."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from hakobune.errors import HakoError


class RunImage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A run image and other places that hold the same."""

    image: str
    mirrors: tuple[str, ...] = ()


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
