"""A name under which each CPU finds its own image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hakobune.builds.base_definition import check_architecture
from hakobune.builds.platform_names import name_for_platform
from hakobune.distribution.transfer import find_local
from hakobune.errors import HakoError
from hakobune.oci.config import ImageConfig, RootFs
from hakobune.oci.manifest import Image
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store

NAME = Reference.parse("hako/builder:13")
AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path) as store:
        yield store


def an_image(store: Store, platform: Platform, created: str = "2020-01-01T00:00:00Z") -> Image:
    config = ImageConfig(
        created=created, os=platform.os, architecture=platform.architecture, rootfs=RootFs()
    )
    return store.publish_image(config=config, layers=())


def test_the_only_image_of_a_name_is_no_index(store: Store) -> None:
    first, second = an_image(store, AMD64), an_image(store, AMD64, "2021-01-01T00:00:00Z")

    for image in (first, second):
        name_for_platform(store, image, NAME)
        assert store.find_digest(NAME) == image.digest


def test_each_platform_finds_its_own_newest_image(store: Store) -> None:
    ours, theirs = an_image(store, AMD64), an_image(store, ARM64)
    newer = an_image(store, ARM64, "2021-01-01T00:00:00Z")

    for image in (ours, theirs, newer):
        name_for_platform(store, image, NAME)

    assert find_local(store, NAME, AMD64) == ours
    assert find_local(store, NAME, ARM64) == newer
    index = store.find_index(NAME)
    assert index is not None
    assert len(index.manifests) == 2


def test_a_cpu_that_debian_packages_are_not_locked_for_has_no_builder() -> None:
    check_architecture(AMD64)
    check_architecture(Platform("linux", "arm64", "v8"))
    with pytest.raises(HakoError) as refused:
        check_architecture(Platform("linux", "riscv64"))

    assert refused.value.what == "there is no builder for linux/riscv64"
    assert refused.value.why == "hako makes its own for linux/amd64 and linux/arm64"
