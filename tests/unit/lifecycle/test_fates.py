from hakobune.buildpack.descriptor import GroupElement
from hakobune.buildpack.layer_metadata import (
    BuildpackRecord,
    LayerRecord,
    LifecycleMetadata,
    RunImageRecord,
    Sha,
)
from hakobune.lifecycle.documents import (
    KeptBuildpack,
    KeptLayer,
    KeptLayers,
    decode_kept_layers,
    encode_kept_layers,
)
from hakobune.lifecycle.fate import Fate, LayerFate
from hakobune.lifecycle.kept import roots_of
from hakobune.lifecycle.restore import decide_fates

GROUP = (GroupElement(id="a", version="1"),)


def an_image(**layers: LayerRecord) -> LifecycleMetadata:
    return LifecycleMetadata(
        app=[],
        buildpacks=[BuildpackRecord(key="a", version="1", layers=layers)],
        config=Sha(),
        launcher=Sha(),
        process_types=Sha(),
        run_image=RunImageRecord(top_layer="", reference=""),
    )


def kept(buildpack: str = "a", **layers: KeptLayer) -> KeptLayers:
    return KeptLayers(
        uid=1001,
        gid=1000,
        buildpacks=(KeptBuildpack(key=buildpack, version="1", layers=layers),),
    )


def a_kept(*, sha: str = "", launch: bool = False) -> KeptLayer:
    return KeptLayer(sha=sha, data={}, launch=launch, cache=True, snapshot="kept-1")


def fate(image: LifecycleMetadata | None, cache: KeptLayers | None) -> tuple[Fate, str]:
    (only,) = decide_fates(GROUP, image, cache)
    return only.fate, only.reason


def test_nothing_remembered_and_nothing_kept_is_nothing() -> None:
    assert decide_fates(GROUP, None, None) == ()


def test_a_launch_layer_gives_its_metadata() -> None:
    assert fate(an_image(x=LayerRecord(sha="1", launch=True)), None) == (
        Fate.REUSE,
        "from app image",
    )


def test_a_launch_layer_that_is_cached_gives_its_data_if_the_sha_is_the_images() -> None:
    image = an_image(x=LayerRecord(sha="1", launch=True, cache=True))

    assert fate(image, kept(x=a_kept(sha="1", launch=True))) == (Fate.KEEP, "from app image")
    assert fate(image, kept(x=a_kept(sha="2", launch=True))) == (Fate.DROP, "wrong sha")
    assert fate(image, None) == (Fate.DROP, "the cache does not have it")


def test_a_build_layer_that_is_not_cached_is_not_restored() -> None:
    image = an_image(x=LayerRecord(sha="1", launch=True, build=True))

    assert fate(image, None) == (Fate.DROP, "layers of its types are not restored")


def test_a_cache_only_layer_comes_from_the_cache() -> None:
    assert fate(None, kept(x=a_kept())) == (Fate.KEEP, "from cache")


def test_a_kept_layer_of_a_buildpack_that_does_not_take_part_is_dropped() -> None:
    assert decide_fates(GROUP, None, kept("gone", x=a_kept())) == (
        LayerFate("gone", "x", Fate.DROP, "its buildpack does not take part"),
    )


def test_an_images_layers_of_buildpacks_that_do_not_take_part_are_ignored() -> None:
    image = an_image(x=LayerRecord(sha="1", launch=True))

    assert decide_fates((GroupElement(id="other", version="1"),), image, None) == ()


def test_what_is_kept_is_read_back() -> None:
    document = kept(x=a_kept(sha="1", launch=True))

    assert decode_kept_layers(encode_kept_layers(document)) == document
    assert roots_of(document) == ("kept-1",)


def test_kept_layers_that_cannot_be_read_are_none() -> None:
    assert decode_kept_layers(b"{") is None
    assert decode_kept_layers(b"{}") is None


def test_kept_layers_serve_only_the_user_and_the_execution_environment_they_were_made_for() -> None:
    document = kept(x=a_kept())

    assert document.is_usable_by(1001, 1000, exec_env="production")
    assert not document.is_usable_by(1002, 1000, exec_env="production")
    assert not document.is_usable_by(1001, 1000, exec_env="test")


def test_the_sbom_blob_is_kept_alive_too() -> None:
    document = KeptLayers(uid=1, gid=1, sbom="sha256:1")

    assert roots_of(document) == ("sha256:1",)
