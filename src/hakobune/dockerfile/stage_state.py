"""A stage while it is built: its configuration, variables and layers so far."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct, field

from hakobune.dockerfile.image_config import begin_stage, date_history
from hakobune.dockerfile.scope import Scope
from hakobune.dockerfile.step_layers import StepLayer
from hakobune.oci.config import ImageConfig
from hakobune.oci.digest import Digest


class StageState(Struct, eq=False):
    """What the next instruction starts from.

    Attributes:
        label: how banners call the stage.
        in_image: its layers become the image's; those of other stages are only read.
        layers: base first, with those of the base image.
        base_layers, base_history: how many of them, and of the history's lines, came with the base image.
        base_created: when that was made (RFC 3339), empty if unknown.
        cmd_is_set: the stage itself has had a CMD.
    """

    label: str
    config: ImageConfig
    scope: Scope
    layers: list[StepLayer] = field(default_factory=list)
    base_layers: int = 0
    base_history: int = 0
    base_created: str = ""
    cmd_is_set: bool = False
    in_image: bool = False

    @classmethod
    def on_image(cls, label: str, base: ImageConfig, layers: Sequence[StepLayer]) -> StageState:
        """A stage on an image that is here."""
        config = begin_stage(base)
        return cls(
            label=label,
            config=config,
            scope=Scope.of_base(config.config.env),
            layers=list(layers),
            base_layers=len(layers),
            base_history=len(config.history),
            base_created=base.created,
        )

    @classmethod
    def on_stage(cls, label: str, base: StageState) -> StageState:
        """A stage on another one that is built."""
        config = begin_stage(base.config)
        return cls(
            label=label,
            config=config,
            scope=Scope.of_base(config.config.env, base.scope),
            layers=list(base.layers),
            base_layers=base.base_layers,
            base_history=base.base_history,
            base_created=base.base_created,
        )

    def diff_ids(self) -> tuple[Digest, ...] | None:
        """Of its layers, base first; `None` while one of them is still being written."""
        known = tuple(layer.diff_id for layer in self.layers if layer.diff_id is not None)
        return known if len(known) == len(self.layers) else None

    def dated_config(self) -> ImageConfig:
        """The configuration with the times of its history; it lists no layers yet."""
        times = [layer.created for layer in self.layers[self.base_layers :]]
        return date_history(
            self.config, times, before=self.base_history, base_created=self.base_created
        )
