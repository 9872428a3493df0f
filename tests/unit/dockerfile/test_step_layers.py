"""Layers of steps: named at once, compressed only for an image."""

from __future__ import annotations

from pathlib import Path

import pytest

from hakobune.dockerfile.errors import DockerfileError
from hakobune.dockerfile.instructions import Position
from hakobune.dockerfile.step_layers import StageLayers, StepLayer
from hakobune.oci.descriptor import Descriptor
from hakobune.oci.digest import Digest
from hakobune.oci.store import Store

Told = list[tuple[Descriptor | None, Digest]]
AT = Position("Dockerfile", 2, 2)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


def make_layer(
    store: Store, told: Told, *, in_image: bool, epoch: int | None = None, name: str = "file"
) -> StepLayer:
    """The layer of a step that has written one file."""
    layers = StageLayers(store, epoch=epoch)
    top = layers.new_top()
    top.up.mkdir(parents=True)
    (top.up / name).write_text("content")
    layer = layers.keep(
        top, created="now", at=AT, in_image=in_image, written=lambda *given: told.append(given)
    )
    layers.close()
    return layer


def test_a_layer_that_no_image_has_gets_a_name_and_no_blob(store: Store) -> None:
    told: Told = []

    layer = make_layer(store, told, in_image=False)

    assert told == [(None, layer.wait())]
    assert not list((store.layout / "blobs" / "sha256").iterdir())
    assert layer.snapshot is not None
    assert (layer.snapshot.tree / "file").read_text() == "content"


def test_its_blob_is_made_when_an_image_needs_it(store: Store) -> None:
    diff_id = make_layer(store, [], in_image=False).wait()
    told: Told = []

    layers = StageLayers(store)
    layer = layers.of_record(
        None, diff_id, created="then", at=AT, completed=lambda *given: told.append(given)
    )
    layers.close()

    assert layer.wait_for_blob().diff_id == diff_id
    assert told == [(layer.blob, diff_id)]
    assert layer.blob is not None
    assert store.has_blob(layer.blob.digest)


def test_a_layer_is_named_alike_with_and_without_its_blob(store: Store, tmp_path: Path) -> None:
    epoch = 1_000_000_000
    other = Store(tmp_path / "other")

    light = make_layer(store, [], in_image=False, epoch=epoch)
    whole = make_layer(other, [], in_image=True, epoch=epoch)

    assert light.wait() == whole.wait()
    assert other.has_blob(whole.wait_for_blob().blob.digest)


def test_a_kept_layer_whose_files_were_changed_is_in_no_image(store: Store) -> None:
    made = make_layer(store, [], in_image=False)
    assert made.snapshot is not None
    (made.snapshot.tree / "file").write_text("other")

    layers = StageLayers(store)
    layer = layers.of_record(
        None, made.wait(), created="then", at=AT, completed=lambda *given: None
    )
    layers.close()

    with pytest.raises(DockerfileError, match=r"Dockerfile:2: a layer .* cannot be used"):
        layer.wait_for_blob()


def test_a_name_that_cannot_stand_in_a_layer_is_told_with_its_line(store: Store) -> None:
    layer = make_layer(store, [], in_image=True, name=".wh.file")

    with pytest.raises(DockerfileError, match=r"Dockerfile:2: '\.wh\.file' cannot stand"):
        layer.wait_for_blob()
