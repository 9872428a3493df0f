"""What a repository gives, of whatever kind it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hakobune.registry.manifest import StoredManifest
from hakobune.registry.repository import Repository


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A manifest.

    Attributes:
        repository: which holds it; behind a virtual repository it is another than the one that was asked.
        note: for a `Warning` header; empty if all is well. An answer with a note is not to be remembered.
        fresh_s: for how long it is the right answer; `None` while the generation is the same.
    """

    manifest: StoredManifest
    repository: Repository
    note: str = ""
    fresh_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """All tags of an image, sorted by bytes."""

    names: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Referrers:
    """Descriptors for the index of the referrers API, sorted by digest."""

    descriptors: tuple[Mapping[str, Any], ...]
    note: str = ""


def earlier(one: float | None, other: float | None) -> float | None:
    """The shorter time; `None` is without end."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
