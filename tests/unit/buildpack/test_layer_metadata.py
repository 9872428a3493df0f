import tomllib
from typing import Any

import pytest

from hakobune.buildpack.document import InvalidDocumentError
from hakobune.buildpack.layer_metadata import (
    BuildpackRecord,
    LayerMetadata,
    LayerRecord,
    LifecycleMetadata,
    RunImageRecord,
    Sha,
    StackRecord,
    StackRunImage,
    StoreRecord,
    decode_lifecycle_metadata,
    encode_label,
    encode_restored_layer,
    parse_layer_toml,
)


def parse(text: str) -> LayerMetadata:
    return parse_layer_toml(text.encode(), name="/layers/x/venv.toml", layer="venv")


def some_metadata(**changes: Any) -> LifecycleMetadata:
    record = LayerRecord(sha="sha256:1", data={"z": 1, "a": "<&>"}, launch=True)
    fields: dict[str, Any] = {
        "app": [Sha(sha="sha256:2")],
        "sbom": Sha(sha="sha256:3"),
        "buildpacks": [
            BuildpackRecord(
                key="hako/x",
                version="1",
                layers={"venv": record, "a": LayerRecord(sha="sha256:9", data={}, launch=True)},
                store=StoreRecord(metadata={"k": "v"}),
            )
        ],
        "config": Sha(sha="sha256:4"),
        "launcher": Sha(sha="sha256:5"),
        "process_types": Sha(sha="sha256:6"),
        "run_image": RunImageRecord(
            top_layer="sha256:7", reference="r@sha256:8", image="r", mirrors=("m",)
        ),
        "stack": StackRecord(run_image=StackRunImage(image="r", mirrors=("m",))),
    }
    return LifecycleMetadata(**(fields | changes))


def test_types_are_read() -> None:
    layer = parse("[types]\nlaunch = true\ncache = true\n[metadata]\nlock = 'abc'\n")

    assert layer == LayerMetadata(name="venv", launch=True, cache=True, metadata={"lock": "abc"})
    assert not layer.is_ignored


def test_a_layer_without_types_is_ignored() -> None:
    assert parse("[metadata]\nx = 1\n").is_ignored


def test_flags_outside_of_types_are_refused() -> None:
    with pytest.raises(InvalidDocumentError) as caught:
        parse("launch = true\ncache = 1\n")

    assert caught.value.problems == (
        "/layers/x/venv.toml:1: launch: layer types belong under [types]",
        "/layers/x/venv.toml:2: cache: layer types belong under [types]",
    )


def test_a_flag_that_is_no_boolean_is_refused() -> None:
    with pytest.raises(InvalidDocumentError, match="not valid"):
        parse('[types]\nlaunch = "yes"\n')


def test_a_restored_layer_has_metadata_and_no_types() -> None:
    data = encode_restored_layer({"a": 1, "none": None, "list": [{"b": None, "c": 2}]})

    assert tomllib.loads(data.decode()) == {"metadata": {"a": 1, "list": [{"c": 2}]}}


def test_the_label_is_compact_json_in_upstreams_order() -> None:
    assert encode_label(some_metadata()) == (
        '{"app":[{"sha":"sha256:2"}],"sbom":{"sha":"sha256:3"},'
        '"buildpacks":[{"key":"hako/x","version":"1","layers":{'
        '"a":{"sha":"sha256:9","data":{},"build":false,"launch":true,"cache":false},'
        '"venv":{"sha":"sha256:1","data":{"a":"\\u003c\\u0026\\u003e","z":1},'
        '"build":false,"launch":true,"cache":false}},"store":{"metadata":{"k":"v"}}}],'
        '"config":{"sha":"sha256:4"},"launcher":{"sha":"sha256:5"},'
        '"process-types":{"sha":"sha256:6"},'
        '"runImage":{"topLayer":"sha256:7","reference":"r@sha256:8","image":"r","mirrors":["m"]},'
        '"stack":{"runImage":{"image":"r","mirrors":["m"]}}}'
    )


def test_what_is_absent_is_omitted_from_the_label() -> None:
    label = encode_label(some_metadata(sbom=None, stack=None, buildpacks=[]))

    assert '"sbom"' not in label
    assert '"stack"' not in label


def test_a_label_is_read_back() -> None:
    metadata = some_metadata(exec_env="test")

    assert decode_lifecycle_metadata(encode_label(metadata)) == metadata
    record = metadata.layer("hako/x", "venv")
    assert record is not None
    assert record.sha == "sha256:1"
    assert metadata.layer("hako/x", "other") is None
    assert metadata.layer("other", "venv") is None


@pytest.mark.parametrize("label", ["", "{}", "[]", "null", '{"app":"old"}', "\udcff"])
def test_a_label_that_cannot_be_understood_is_ignored(label: str) -> None:
    assert decode_lifecycle_metadata(label) is None


def test_a_label_with_unknown_keys_is_read() -> None:
    label = encode_label(some_metadata())[:-1] + ',"new":1}'

    assert decode_lifecycle_metadata(label) == some_metadata()
