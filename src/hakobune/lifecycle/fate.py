"""What becomes of a buildpack's layer, and why."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Fate(StrEnum):
    """What happens with it in the new image and in the cache."""

    KEEP = "keep"  # its data is there from the last build
    REUSE = "reuse"  # only its metadata is; the image's layer may be used again
    ADD = "add"  # it is new, or really changed
    DROP = "drop"  # it does not live on


class LayerFate(msgspec.Struct, frozen=True):
    """The fate of one layer with its reason."""

    buildpack: str
    layer: str
    fate: Fate
    reason: str

    @property
    def full_name(self) -> str:
        return f"{self.buildpack}:{self.layer}"
