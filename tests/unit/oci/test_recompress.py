from pathlib import Path

import pytest

from hakobune.oci import descriptor as media
from hakobune.oci.inflate import TarBytes, UnpackError
from hakobune.oci.recompress import Compression, compression_of, recompress
from hakobune.oci.store import Store
from tests.image_maker import a_layer, an_image

TYPES = {
    Compression.GZIP: media.LAYER_GZIP,
    Compression.ZSTD: media.LAYER_ZSTD,
    Compression.UNCOMPRESSED: media.LAYER,
}


@pytest.mark.parametrize("wanted", [Compression.ZSTD, Compression.UNCOMPRESSED])
def test_layers_are_the_same_tars_in_another_compression(
    tmp_path: Path, wanted: Compression
) -> None:
    with Store(tmp_path) as store:
        image = an_image(store, layers=[a_layer(store, bytes(3 << 20)), a_layer(store, b"two")])

        made = recompress(store, image, wanted)

        assert made.raw_config == image.raw_config
        assert {layer.media_type for layer in made.manifest.layers} == {TYPES[wanted]}
        for layer, diff_id in zip(made.manifest.layers, image.diff_ids, strict=True):
            with TarBytes(store.blob_path(layer.digest), limit_bytes=1 << 30) as tar:
                assert tar.finish() == diff_id


def test_gzip_again_gives_the_image_that_it_was(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        image = an_image(store, layers=[a_layer(store, bytes(3 << 20))])

        there_and_back = recompress(
            store, recompress(store, image, Compression.ZSTD), Compression.GZIP
        )

        assert there_and_back.digest == image.digest


def test_what_is_so_already_stays(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        image = an_image(store)

        assert recompress(store, image, Compression.GZIP) == image


def test_a_damaged_layer_is_noticed(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        plain = recompress(store, an_image(store), Compression.UNCOMPRESSED)
        path = store.blob_path(plain.manifest.layers[0].digest)
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[:-1] + b"!")

        with pytest.raises(UnpackError, match="is damaged"):
            recompress(store, plain, Compression.GZIP)


@pytest.mark.parametrize(
    ("media_type", "compression"),
    [
        (media.DOCKER_LAYER_GZIP, Compression.GZIP),
        ("application/vnd.docker.image.rootfs.diff.tar", Compression.UNCOMPRESSED),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", Compression.ZSTD),
        ("application/vnd.wasm.content.layer.v1+wasm", None),
    ],
)
def test_media_types_tell_the_compression(media_type: str, compression: Compression | None) -> None:
    assert compression_of(media_type) is compression
