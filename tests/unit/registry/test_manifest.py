"""What the registry reads of manifests, and which it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hakobune.registry.errors import RegistryError
from hakobune.registry.manifest import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    MAX_MANIFEST_BYTES,
    OCI_INDEX,
    OCI_MANIFEST,
    Child,
    ChildKind,
    check_reference,
    digest_of,
    index_platforms,
    parse_manifest,
)

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
CONFIG = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": A, "size": 2}
LAYER = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": B, "size": 10}


def document(**more: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, **more}).encode()


def test_an_image_names_its_config_and_layers_once() -> None:
    parsed = parse_manifest(
        document(config=CONFIG, layers=[LAYER, LAYER], annotations={"k": "v"}),
        f"{OCI_MANIFEST}; charset=utf-8",
    )

    assert parsed.media_type == OCI_MANIFEST
    assert [(c.digest, c.kind) for c in parsed.children] == [(A, "blob"), (B, "blob")]
    assert parsed.image_size == 12
    assert parsed.artifact_type == CONFIG["mediaType"]
    assert (parsed.config_digest, parsed.annotations) == (A, {"k": "v"})


def test_the_type_of_an_artifact_is_its_own_before_its_configs() -> None:
    own = document(config=CONFIG, layers=[], artifactType="application/x")

    assert parse_manifest(own, OCI_MANIFEST).artifact_type == "application/x"
    assert parse_manifest(document(manifests=[]), OCI_INDEX).artifact_type == ""


@pytest.mark.parametrize(
    "layer",
    [
        {**LAYER, "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"},
        {**LAYER, "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"},
        {**LAYER, "urls": ["https://example.com/layer"]},
    ],
)
def test_a_layer_that_lies_elsewhere_need_not_be_here(layer: dict[str, Any]) -> None:
    parsed = parse_manifest(document(config=CONFIG, layers=[layer]), OCI_MANIFEST)

    assert parsed.children[1].kind is ChildKind.FOREIGN


def test_a_digest_that_is_also_an_ordinary_layer_has_to_be_here() -> None:
    foreign = {**LAYER, "urls": ["https://example.com/layer"]}
    parsed = parse_manifest(document(config=CONFIG, layers=[foreign, LAYER]), OCI_MANIFEST)

    assert parsed.children[1].kind is ChildKind.BLOB


def test_an_index_names_manifests_with_their_platforms() -> None:
    platform = {"os": "linux", "architecture": "arm64", "variant": "v8"}
    entry = {"mediaType": OCI_MANIFEST, "digest": C, "size": 7, "platform": platform}
    body = document(manifests=[entry])

    assert parse_manifest(body, DOCKER_LIST).children == (
        Child(C, ChildKind.MANIFEST, 7, OCI_MANIFEST, "linux/arm64/v8"),
    )
    assert index_platforms(body) == ({"digest": C, "mediaType": OCI_MANIFEST, **platform},)


def test_any_media_type_is_kept_and_the_body_may_name_it() -> None:
    body = document(mediaType="application/vnd.example+json", subject={**LAYER, "digest": C})

    parsed = parse_manifest(body, "")

    assert (parsed.media_type, parsed.subject) == ("application/vnd.example+json", C)


@pytest.mark.parametrize(
    ("body", "media_type", "words"),
    [
        (b"", OCI_MANIFEST, "cannot be read"),
        (b"[]", OCI_MANIFEST, "cannot be read"),
        (b"\xff", OCI_MANIFEST, "cannot be read"),
        (b'{"x":' + b"[" * 100_000, OCI_MANIFEST, "cannot be read"),
        (b'{"config":' * 100_000, OCI_MANIFEST, "cannot be read"),
        (document(config=CONFIG, layers=5), OCI_MANIFEST, r"\$\.layers"),
        (document(config=CONFIG, layers=[]), "", "which media type"),
        (document(config=CONFIG, mediaType=OCI_INDEX), OCI_MANIFEST, "says that it is"),
        (document(layers=[]), DOCKER_MANIFEST, "has a `config`"),
        (document(config=CONFIG, manifests=[]), OCI_MANIFEST, "no `manifests`"),
        (document(config=CONFIG, manifests=[]), OCI_INDEX, "neither"),
        (document(config={**CONFIG, "digest": "sha256:short"}), OCI_MANIFEST, "is not a digest"),
        (document(config={**CONFIG, "size": -1}), OCI_MANIFEST, "below zero"),
        (document(config={**CONFIG, "size": 1 << 60}), OCI_MANIFEST, "more than a blob"),
        (document(config={**CONFIG, "size": 1 << 90}), OCI_MANIFEST, "cannot be read|more than"),
        (document(config=CONFIG, subject={"digest": "x"}), OCI_MANIFEST, "subject's digest"),
        (b'{"schemaVersion": 1}', "application/json", "schema 1"),
        (document(), "application/vnd.docker.distribution.manifest.v1+prettyjws", "schema 1"),
    ],
)
def test_what_is_no_manifest_is_refused_in_words(body: bytes, media_type: str, words: str) -> None:
    with pytest.raises(RegistryError, match=words) as caught:
        parse_manifest(body, media_type)

    assert (caught.value.code, caught.value.status) == ("MANIFEST_INVALID", 400)


def test_a_manifest_beyond_the_limit_is_too_large() -> None:
    with pytest.raises(RegistryError) as caught:
        parse_manifest(b" " * (MAX_MANIFEST_BYTES + 1), OCI_MANIFEST)

    assert (caught.value.code, caught.value.status) == ("SIZE_INVALID", 413)


def test_an_index_of_ten_thousand_is_read() -> None:
    entries = [
        {"mediaType": OCI_MANIFEST, "digest": f"sha256:{n:064x}", "size": 1} for n in range(10_000)
    ]

    assert len(parse_manifest(document(manifests=entries), OCI_INDEX).children) == 10_000


@given(st.binary(max_size=200), st.sampled_from(["", OCI_MANIFEST, OCI_INDEX, "a/b"]))
def test_random_bytes_are_refused_or_read(body: bytes, media_type: str) -> None:
    codes = []
    try:
        parse_manifest(body, media_type)
    except RegistryError as error:
        codes.append(error.code)
    assert codes in ([], ["MANIFEST_INVALID"])


@pytest.mark.parametrize("text", ["latest", "_x", "a" * 128, A, digest_of(b"", "sha512")])
def test_references_are_tags_and_digests(text: str) -> None:
    assert check_reference(text) == text


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "TAG_INVALID"),
        (".x", "TAG_INVALID"),
        ("a" * 129, "TAG_INVALID"),
        ("a/b", "TAG_INVALID"),
        ("v1\n", "TAG_INVALID"),
        ("sha256:abc", "DIGEST_INVALID"),
        ("md5:" + "a" * 32, "DIGEST_INVALID"),
        ("sha256:" + "A" * 64, "DIGEST_INVALID"),
        (f"{A}\n", "DIGEST_INVALID"),
    ],
)
def test_other_references_are_refused(text: str, code: str) -> None:
    with pytest.raises(RegistryError) as caught:
        check_reference(text)

    assert caught.value.code == code
