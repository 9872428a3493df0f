import json

import pytest

from hakobune.oci.config import decode_config, encode_config
from hakobune.oci.descriptor import (
    CONFIG,
    INDEX,
    LAYER_GZIP,
    MANIFEST,
    Descriptor,
    DocumentFormatError,
    encode_document,
)
from hakobune.oci.digest import Digest, DigestError
from hakobune.oci.manifest import (
    Image,
    ManifestError,
    decode_index,
    decode_manifest,
    make_manifest,
)
from hakobune.oci.platform import Platform

DIFF_ID = Digest.of(b"tar")


def a_config(**changes) -> bytes:
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["A=1", "B=x=y", "A=2"], "Labels": None, "Entrypoint": None},
        "rootfs": {"type": "layers", "diff_ids": [str(DIFF_ID)]},
        "history": None,
        "future": {"kept": True},
    }
    return json.dumps(config | changes).encode()


def a_manifest(config: bytes, **changes) -> bytes:
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": str(Digest.of(config)), "size": len(config)},
        "layers": [{"mediaType": LAYER_GZIP, "digest": str(Digest.of(b"gz")), "size": 2}],
    }
    return json.dumps(manifest | changes).encode()


def test_an_image_keeps_the_bytes_that_were_hashed():
    raw_config = a_config()
    raw = a_manifest(raw_config, extra="x")

    image = Image.from_raw(raw, raw_config)

    assert (image.digest, image.raw, image.raw_config) == (Digest.of(raw), raw, raw_config)
    assert image.diff_ids == (DIFF_ID,)
    assert image.platform == Platform("linux", "amd64")


def test_null_is_read_as_not_said_and_a_later_variable_wins():
    config = decode_config(a_config())

    assert config.labels == {}
    assert config.config.entrypoint == ()
    assert config.history == ()
    assert config.env == {"A": "2", "B": "x=y"}


def test_an_image_without_any_layer_is_read_as_buildkit_writes_it_and_written_with_a_list():
    config = a_config(rootfs={"type": "layers", "diff_ids": None})
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": str(Digest.of(config)), "size": len(config)},
        "layers": None,
    }

    manifest = decode_manifest(json.dumps(document).encode())

    assert manifest.layers == ()
    assert json.loads(encode_document(manifest))["layers"] == []


def test_a_config_of_another_image_is_refused():
    with pytest.raises(DigestError, match="damaged"):
        Image.from_raw(a_manifest(a_config()), a_config(os="plan9"))


def test_layers_and_diff_ids_must_pair_up():
    raw_config = a_config(rootfs={"type": "layers", "diff_ids": []})

    with pytest.raises(ManifestError, match="contradicts itself"):
        Image.from_raw(a_manifest(raw_config), raw_config)


def test_a_type_error_names_its_place():
    layers = [{"mediaType": LAYER_GZIP, "digest": "sha256:zz", "size": 2}]

    with pytest.raises(
        DocumentFormatError, match=r"64 hexadecimal digits.*\$\.layers\[0\]\.digest"
    ):
        decode_manifest(a_manifest(b"{}", layers=layers))


def test_a_negative_size_is_refused():
    layers = [{"mediaType": LAYER_GZIP, "digest": str(DIFF_ID), "size": -1}]

    with pytest.raises(DocumentFormatError, match="negative"):
        decode_manifest(a_manifest(b"{}", layers=layers))


def test_a_document_that_is_manifest_and_index_at_once_is_refused():
    with pytest.raises(ManifestError, match="at once"):
        decode_manifest(a_manifest(b"{}", manifests=[]))


@pytest.mark.parametrize("raw", [b"", b"[]", b"\xff", b"{}", b"[" * 100_000])
def test_garbage_is_refused(raw: bytes):
    with pytest.raises(DocumentFormatError):
        decode_manifest(raw)


def test_schema_1_is_refused():
    with pytest.raises(ManifestError, match="schemaVersion 1"):
        decode_manifest(a_manifest(b"{}", schemaVersion=1))


def test_a_huge_document_is_refused_before_it_is_parsed():
    with pytest.raises(ManifestError, match="too large"):
        decode_index(b" " * (4 << 20) + b"x")


def test_an_index_selects_by_platform():
    entry = {"mediaType": MANIFEST, "size": 1}
    arm = entry | {
        "digest": str(Digest.of(b"a")),
        "platform": {"os": "linux", "architecture": "arm64"},
    }
    amd = entry | {
        "digest": str(Digest.of(b"b")),
        "platform": {"os": "linux", "architecture": "amd64"},
    }
    index = decode_index(
        json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [arm, amd]}).encode()
    )

    chosen = index.select(Platform("linux", "amd64"))

    assert chosen is not None
    assert chosen.digest == Digest.of(b"b")
    assert index.select(Platform("linux", "s390x")) is None


def test_equal_documents_give_equal_bytes():
    config = decode_config(a_config())
    layer = Descriptor(media_type=LAYER_GZIP, digest=DIFF_ID, size=3)
    one = make_manifest(layer, [layer], {"b": "1", "a": "2"})
    two = make_manifest(layer, [layer], {"a": "2", "b": "1"})

    assert encode_document(one) == encode_document(two)
    assert decode_manifest(encode_document(one)) == one
    assert decode_config(encode_config(config)) == config


def test_documents_are_written_without_empty_fields():
    layer = Descriptor(
        media_type=LAYER_GZIP, digest=DIFF_ID, size=3, platform=Platform("linux", "amd64")
    )

    assert json.loads(encode_document(layer)) == {
        "mediaType": LAYER_GZIP,
        "digest": str(DIFF_ID),
        "size": 3,
        "platform": {"os": "linux", "architecture": "amd64"},
    }
