"""Steps that stages have in common: the first stage that comes to one carries it out, the others take its layer.

So `RUN apt-get update` at the top of two stages runs once, as in BuildKit, and both have the same files and times.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event, Lock

from msgspec import Struct, field

from hakobune.dockerfile.step_layers import StepLayer


class Claim(Struct, eq=False):
    """One step of one build. Whoever has claimed it first ends it by `give` or `fail`.

    Attributes:
        layer: `None` until it is there, and if it failed.
        has_blob: the layer gets a blob, since an image needs it.
    """

    has_blob: bool
    layer: StepLayer | None = None
    _ended: Event = field(default_factory=Event)

    def give(self, layer: StepLayer) -> None:
        self.layer = layer
        self._ended.set()

    def fail(self) -> None:
        self._ended.set()

    def wait(self) -> StepLayer | None:
        """Its layer; `None` if it could not be made, which the one who tried tells."""
        self._ended.wait()
        return self.layer


class SharedSteps:
    """The steps of one build. Threads share it."""

    def __init__(self) -> None:
        self._claims: dict[tuple[tuple[StepLayer, ...], str], Claim] = {}
        self._same: dict[StepLayer, StepLayer] = {}
        self._lock = Lock()

    def claim(self, below: Sequence[StepLayer], key: str, *, has_blob: bool) -> tuple[Claim, bool]:
        """The claim on a step over these layers, and whether it is the caller's to carry out.

        Args:
            key: of everything else that its result depends on.
        """
        with self._lock:
            place = (tuple(self._same.get(layer, layer) for layer in below), key)
            found = self._claims.get(place)
            if found is not None:
                return found, False
            mine = self._claims[place] = Claim(has_blob)
            return mine, True

    def note_same(self, layer: StepLayer, original: StepLayer) -> None:
        """*layer* is *original* once more: what stands on either stands on the same."""
        with self._lock:
            self._same[layer] = original
