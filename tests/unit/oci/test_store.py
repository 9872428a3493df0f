import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hakobune.oci import descriptor as media
from hakobune.oci.blobs import BlobUnknownError
from hakobune.oci.config import ImageConfig, RootFs
from hakobune.oci.descriptor import Descriptor, encode_document
from hakobune.oci.digest import Digest, DigestError
from hakobune.oci.manifest import (
    Image,
    ManifestError,
    PlatformUnknownError,
    make_index,
    make_manifest,
)
from hakobune.oci.platform import Platform
from hakobune.oci.recovery import Problem
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store, StoreFormatError
from tests.image_maker import a_layer, an_image, files_below

WEB = Reference.parse("web")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path) as store:
        yield store


def _blobs(home: Path) -> list[str]:
    return files_below(home / "images" / "blobs")


# Blobs


def test_a_blob_is_visible_only_when_it_is_committed(store: Store, tmp_path: Path) -> None:
    with store.new_blob() as blob:
        blob.write(b"one ")
        blob.write(memoryview(b"two"))
        assert _blobs(tmp_path) == []
        descriptor = blob.commit("text/plain")

    assert descriptor.digest == Digest.of(b"one two")
    assert (descriptor.size, descriptor.media_type) == (7, "text/plain")
    assert store.read_blob(descriptor.digest) == b"one two"
    assert _blobs(tmp_path) == [f"sha256/{descriptor.digest.hex}"]


def test_a_blob_that_is_not_committed_leaves_nothing(store: Store, tmp_path: Path) -> None:
    with store.new_blob() as blob:
        blob.write(b"half")

    assert _blobs(tmp_path) == []
    assert files_below(tmp_path / "images/.hako/partial") == []


def test_a_blob_of_other_bytes_than_expected_is_refused(store: Store, tmp_path: Path) -> None:
    with store.new_blob() as blob:
        blob.write(b"something")
        with pytest.raises(DigestError):
            blob.commit("text/plain", expected=Digest.of(b"else"))

    assert _blobs(tmp_path) == []


def test_a_blob_is_stored_once(store: Store, tmp_path: Path) -> None:
    first = store.put_blob(b"same", "text/plain")
    inode = store.blob_path(first.digest).stat().st_ino

    store.put_blob(b"same", "text/plain")

    assert store.blob_path(first.digest).stat().st_ino == inode
    assert files_below(tmp_path / "images/.hako/partial") == []


def test_a_blob_is_taken_over_by_a_link(store: Store, tmp_path: Path) -> None:
    elsewhere = tmp_path / "blob"
    elsewhere.write_bytes(b"linked")
    digest = Digest.of(b"linked")

    assert store.link_blob(elsewhere, digest)
    assert store.link_blob(elsewhere, digest)

    assert store.blob_path(digest).samefile(elsewhere)
    assert files_below(tmp_path / "images/.hako/partial") == []


def test_a_link_to_what_is_not_there_is_no_error(store: Store, tmp_path: Path) -> None:
    assert not store.link_blob(tmp_path / "gone", Digest.of(b"gone"))
    assert not store.has_blob(Digest.of(b"gone"))


def test_a_blob_that_is_not_there_is_named(store: Store) -> None:
    missing = Digest.of(b"nothing")

    assert not store.has_blob(missing)
    with pytest.raises(BlobUnknownError, match=str(missing)):
        store.blob_path(missing)
    with pytest.raises(BlobUnknownError, match=str(missing)):
        store.read_blob(missing)


def test_damaged_bytes_are_never_given_out(store: Store) -> None:
    digest = store.put_blob(b"good", "text/plain").digest
    store.blob_path(digest).write_bytes(b"evil")

    with pytest.raises(DigestError):
        store.read_blob(digest)


# Images


def test_an_image_is_found_by_name_and_by_digest(store: Store) -> None:
    image = an_image(store, "web", "shop/web:v2")

    assert store.find_image(WEB) == image
    assert store.find_image(Reference.parse("shop/web:v2")) == image
    assert store.find_image(Reference.parse(f"other@{image.digest}")) == image
    assert store.find_image(Reference.parse("nothing")) is None
    assert store.find_image(Reference.parse(f"web@{Digest.of(b'')}")) is None


def test_the_same_image_twice_has_one_digest(tmp_path: Path) -> None:
    one = an_image(Store(tmp_path / "one"), "web")
    other = an_image(Store(tmp_path / "other"), "web")

    assert one == other


def test_an_image_whose_layer_is_missing_is_refused_and_takes_no_name(
    store: Store, tmp_path: Path
) -> None:
    before = an_image(store, "web")
    with Store(tmp_path / "elsewhere") as elsewhere:
        foreign = a_layer(elsewhere, b"foreign")

    with pytest.raises(BlobUnknownError):
        an_image(store, "web", layers=[foreign])
    assert store.find_image(WEB) == before


def test_a_config_that_lists_other_layers_is_refused(store: Store) -> None:
    config = ImageConfig(
        architecture="amd64", os="linux", rootfs=RootFs(diff_ids=(Digest.of(b"other"),))
    )

    with pytest.raises(ManifestError, match="contradicts itself"):
        store.publish_image(config=config, layers=[a_layer(store)])


def test_a_name_moves_to_the_image_that_is_published_last(store: Store) -> None:
    old = an_image(store, "web", content=b"old")
    new = an_image(store, "web", content=b"new")

    assert store.find_image(WEB) == new
    assert store.names() == ((WEB, new.digest),)
    assert store.read_image(old.digest) == old


def test_names_are_given_and_taken(store: Store) -> None:
    image = an_image(store)

    store.tag(image.digest, Reference.parse("b"))
    store.tag(image.digest, Reference.parse("a:v1"))

    assert [name.short for name, _ in store.names()] == ["a:v1", "b"]
    assert store.untag(Reference.parse("b"))
    assert not store.untag(Reference.parse("b"))
    assert [name.short for name, _ in store.names()] == ["a:v1"]


def test_a_name_for_an_image_that_is_not_here_is_refused(store: Store) -> None:
    with pytest.raises(BlobUnknownError):
        store.tag(Digest.of(b"nothing"), WEB)

    assert store.names() == ()


def test_another_process_s_names_are_seen_at_once(store: Store, tmp_path: Path) -> None:
    assert store.find_image(WEB) is None

    with Store(tmp_path) as other:
        image = an_image(other, "web")

    assert store.find_image(WEB) == image


def test_entries_of_other_tools_in_the_index_are_kept(store: Store, tmp_path: Path) -> None:
    image = an_image(store, "web")
    path = tmp_path / "images/index.json"
    index = json.loads(path.read_bytes())
    foreign = [
        {**index["manifests"][0], "annotations": {"vendor": "theirs"}},
        {**index["manifests"][0], "annotations": {media.REF_NAME: "UPPER not ours"}},
    ]
    index["manifests"] += foreign
    path.write_text(json.dumps(index))

    an_image(store, "other")

    kept = json.loads(path.read_bytes())["manifests"]
    assert all(entry in kept for entry in foreign)
    assert [name.short for name, _ in store.names()] == ["other", "web"]
    assert store.find_image(WEB) == image


# The folder


def test_a_folder_of_a_newer_version_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "format").write_text("2\n")

    with pytest.raises(StoreFormatError) as error:
        Store(tmp_path)

    assert str(error.value) == (
        f"cannot open {tmp_path}\n"
        "  why: its format is '2', this version reads 1\n"
        "  fix: use the newer version of hako that wrote it, or set HAKO_HOME to another folder"
    )
    assert os.listdir(tmp_path) == ["format"]


def test_the_store_is_an_image_layout(store: Store, tmp_path: Path) -> None:
    image = an_image(store, "web")

    assert json.loads((tmp_path / "images/oci-layout").read_bytes()) == {
        "imageLayoutVersion": "1.0.0"
    }
    assert json.loads((tmp_path / "images/index.json").read_bytes()) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": str(image.digest),
                "size": len(image.raw),
                "annotations": {
                    "org.opencontainers.image.ref.name": "docker.io/library/web:latest"
                },
            }
        ],
    }
    assert (tmp_path / "format").read_text() == "1\n"


def test_opening_the_store_imports_nothing_that_reads_or_writes_layers(tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from hakobune.oci.store import Store
Store(Path({str(tmp_path)!r})).names()
print([m for m in ("isal", "ctypes", "tarfile", "concurrent.futures", "asyncio") if m in sys.modules])
"""

    output = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)

    assert output.stdout == b"[]\n"


def test_verify_finds_damage_and_names_it(store: Store) -> None:
    image = an_image(store, "web")
    assert store.verify() == ()

    layer = image.manifest.layers[0].digest
    store.blob_path(layer).write_bytes(b"damaged")
    store.blob_path(image.manifest.config.digest).unlink()

    assert store.verify() == (
        Problem(f"blob {layer}", "its bytes are not what its name says"),
        Problem(
            "image docker.io/library/web:latest",
            f"the store has no blob {image.manifest.config.digest}",
        ),
    )


# Roots and collection


def test_what_nothing_needs_is_collected(store: Store, tmp_path: Path) -> None:
    kept = an_image(store, "web", content=b"kept")
    gone = an_image(store, "old", content=b"gone")
    store.untag(Reference.parse("old"))
    store.close()

    collected = store.collect()

    own = {gone.digest, gone.manifest.config.digest, gone.manifest.layers[0].digest}
    assert set(collected.blobs) == own
    assert collected.size_bytes == len(gone.raw) + sum(
        d.size for d in (gone.manifest.config, *gone.manifest.layers)
    )
    assert store.find_image(WEB) == kept
    assert store.verify() == ()
    assert files_below(tmp_path / "images/.hako/trash") == []


@pytest.mark.parametrize(
    "what", ["image", "layer's blob", "config"], ids=lambda what: what.replace(" ", "-")
)
def test_a_root_keeps_what_it_lists_and_all_that_needs(store: Store, what: str) -> None:
    image = an_image(store)
    layer, config = image.manifest.layers[0].digest, image.manifest.config.digest
    kept = {
        "image": {image.digest, layer, config},
        "layer's blob": {layer},
        "config": {config},
    }[what]
    root = {"image": image.digest, "layer's blob": layer, "config": config}[what]
    store.set_root("serving", "projects/hako/shop", [root])
    store.close()

    collected = store.collect()

    assert {image.digest, layer, config} - set(collected.blobs) == kept
    store.drop_root("serving", "projects/hako/shop")
    assert set(store.collect().blobs) == kept


def test_a_root_is_replaced_whole(store: Store) -> None:
    one, other = Digest.of(b"1"), Digest.of(b"2")
    store.set_root("builds", "web", [one, other])
    store.set_root("builds", "web", [other, "kept-1"])

    assert store.root("builds", "web") == ("kept-1", str(other))
    assert store.root("builds", "other") is None
    assert store.is_rooted(other)
    assert not store.is_rooted(one)


@pytest.mark.parametrize("name", ["../../escape", ".hidden", "a/b", "ü" * 300, "x" * 1000, "a%2Fb"])
def test_any_text_is_a_root_s_name(store: Store, tmp_path: Path, name: str) -> None:
    store.set_root("builds", name, ["kept-1"])
    store.set_root("builds", "other", ["kept-2"])

    assert store.root("builds", name) == ("kept-1",)
    assert len(files_below(tmp_path / "roots/builds")) == 2
    store.drop_root("builds", name)
    assert store.root("builds", name) is None


def test_what_a_living_process_has_written_is_kept_until_it_lets_go(
    store: Store, tmp_path: Path
) -> None:
    with Store(tmp_path) as writer:
        layer = a_layer(writer)
        assert store.collect().blobs == ()
        assert writer.has_blob(layer.blob.digest)

    assert store.collect().blobs == (layer.blob.digest,)


def test_half_a_blob_of_a_living_process_is_kept(store: Store, tmp_path: Path) -> None:
    with Store(tmp_path) as writer, writer.new_blob() as blob:
        blob.write(b"half")
        store.collect()
        blob.write(b" and half")
        digest = blob.commit("text/plain").digest
        assert writer.read_blob(digest) == b"half and half"


def test_a_layer_that_is_reused_is_kept_before_the_new_image_has_a_name(
    store: Store, tmp_path: Path
) -> None:
    layer = a_layer(store)
    an_image(store, "web", layers=[layer])
    store.close()
    with Store(tmp_path) as builder:
        image = an_image(builder, layers=[layer], labels={"new": "yes"})
        store.untag(WEB)

        store.collect()

        assert builder.read_image(image.digest) == image
        assert builder.has_blob(layer.blob.digest)


# Indexes


def an_index(store: Store, *names: str) -> tuple[Digest, Image, Image]:
    """An index of an amd64 and an arm64 image."""
    amd64 = an_image(store, content=b"for amd64")
    raw_config = amd64.raw_config.replace(b'"amd64"', b'"arm64"')
    manifest = make_manifest(store.put_blob(raw_config, media.CONFIG), amd64.manifest.layers, {})
    arm64 = store.put_image(encode_document(manifest), raw_config)
    entries = [
        Descriptor(
            media_type=media.MANIFEST,
            digest=image.digest,
            size=len(image.raw),
            platform=image.platform,
        )
        for image in (amd64, arm64)
    ]
    raw = encode_document(make_index(entries, {}))
    return store.put_index(raw, names=[Reference.parse(name) for name in names]), amd64, arm64


def test_a_name_may_stand_for_an_index_and_gives_the_image_for_a_platform(store: Store):
    digest, amd64, arm64 = an_index(store, "web")
    name = Reference.parse("web")

    assert store.find_digest(name) == digest
    assert store.find_index(name) is not None
    for image in (amd64, arm64):
        assert store.find_image(name, image.platform) == image
        assert store.find_image(name.with_digest(digest), image.platform) == image
    with pytest.raises(PlatformUnknownError, match="linux/s390x") as error:
        store.find_image(name, Platform("linux", "s390x"))
    assert error.value.why == "it has linux/amd64, linux/arm64"


def test_an_index_keeps_all_its_images_from_the_collector(store: Store, tmp_path: Path):
    digest, amd64, arm64 = an_index(store, "web")
    store.close()

    store.collect()

    assert all(store.has_blob(d) for d in (digest, amd64.digest, arm64.digest))
    assert store.verify() == ()
    store.untag(Reference.parse("web"))
    store.close()
    store.collect()
    assert not any(store.has_blob(d) for d in (digest, amd64.digest, arm64.digest))


def test_an_index_with_an_image_that_is_not_here_gets_no_name(store: Store):
    missing = Descriptor(media_type=media.MANIFEST, digest=Digest.of(b"missing"), size=7)

    with pytest.raises(BlobUnknownError):
        store.put_index(encode_document(make_index([missing], {})), names=[Reference.parse("web")])

    assert store.names() == ()


def test_a_digest_is_a_name_where_there_is_no_tag(store: Store):
    image = an_image(store)
    by_index = Reference.parse("web").with_digest(Digest.of(b"an index elsewhere"))

    store.tag(image.digest, by_index)

    assert store.names() == ((by_index, image.digest),)
    assert store.find_image(by_index) == image
    assert store.has_name(by_index)
    assert store.untag(by_index)


def test_what_a_name_was_in_its_registry_is_remembered_with_it(store: Store):
    image, name = an_image(store), Reference.parse("web")

    store.tag(image.digest, name, source=Digest.of(b"index"))
    assert store.source(name) == Digest.of(b"index")
    store.tag(image.digest, name)

    assert store.source(name) is None
