"""What may stand behind `--build-context NAME=`."""

from __future__ import annotations

from pathlib import Path

import pytest

from hakobune.dockerfile.named_contexts import parse_context
from hakobune.dockerfile.request import (
    EmptyContext,
    FolderContext,
    ImageContext,
    LayoutContext,
    RemoteContext,
)
from hakobune.errors import UsageError
from hakobune.oci.reference import Reference


def test_a_folder_an_image_and_a_layout_are_understood(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "layout").mkdir()
    (tmp_path / "layout/oci-layout").touch()
    layout = tmp_path / "layout"

    assert parse_context("lib", folder=tmp_path) == FolderContext(tmp_path / "lib")
    image = parse_context("docker-image://a/b:1", folder=tmp_path)
    assert image == ImageContext(Reference.parse("a/b:1"))
    for text, expected in (
        ("layout", LayoutContext(layout)),
        ("layout:v1", LayoutContext(layout, "v1")),
        (f"{layout}@sha256:ab", LayoutContext(layout, "", "sha256:ab")),
        ("layout:v1@sha256:ab", LayoutContext(layout, "v1", "sha256:ab")),
    ):
        assert parse_context(f"oci-layout://{text}", folder=tmp_path) == expected


@pytest.mark.parametrize("text", ["https://x.test/a.git#v1", "git@x.test:a", "git://x.test/a", "https://x.test/f"])  # fmt: skip
def test_repositories_and_urls_are_fetched_later(tmp_path: Path, text: str) -> None:
    assert parse_context(text, folder=tmp_path) == RemoteContext(text)
    assert parse_context("docker-image://scratch", folder=tmp_path) == EmptyContext()


@pytest.mark.parametrize("text", ["nowhere", "oci-layout://nowhere:v1", "ftp://x.test/a", "https://x.test/a.git?brunch=x"])  # fmt: skip
def test_what_is_none_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError):
        parse_context(text, folder=tmp_path)
