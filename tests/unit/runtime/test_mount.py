from __future__ import annotations

from pathlib import Path

import pytest

from hakobune.runtime.mount import RootFs, TmpfsTop, make_top, overlay, overlay_options
from hakobune.runtime.mount_method import (
    OverlayMethod,
    TmpfsIds,
    choose_overlay_method,
    choose_tmpfs_ids,
    kernel_version,
)


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("6.18.44-fc-v657", (6, 18)),
        ("6.1.0-18-amd64", (6, 1)),
        ("5.19", (5, 19)),
        ("6.7-rc3", (6, 7)),
        ("7.0+", (7, 0)),
    ],
)
def test_versions_are_read_from_what_uname_says(release, version):
    assert kernel_version(release) == version


@pytest.mark.parametrize(
    ("version", "method"),
    [
        ((7, 0), OverlayMethod.DESCRIPTORS),
        ((6, 13), OverlayMethod.DESCRIPTORS),
        ((6, 12), OverlayMethod.STRINGS),
        ((6, 7), OverlayMethod.STRINGS),
        ((6, 6), OverlayMethod.ATTACHED),
        ((6, 1), OverlayMethod.ATTACHED),
        ((5, 10), OverlayMethod.ATTACHED),
    ],
)
def test_a_kernel_gets_the_newest_way_it_has(version, method):
    assert choose_overlay_method(version) is method


def test_a_tmpfs_is_mapped_from_linux_6_3_on():
    assert choose_tmpfs_ids((6, 3)) is TmpfsIds.MAPPED
    assert choose_tmpfs_ids((6, 2)) is TmpfsIds.SHIFTED


@pytest.mark.parametrize(("redirect_dir", "value"), [(True, "on"), (False, "follow")])
def test_every_option_of_an_overlay_is_said(redirect_dir, value):
    rootfs = RootFs(lowers=(Path("/l"),), top=TmpfsTop(1), redirect_dir=redirect_dir)

    assert overlay_options(rootfs) == (
        ("volatile", None),
        ("redirect_dir", value),
        ("metacopy", "off"),
        ("index", "off"),
        ("xino", "off"),
    )


def test_a_top_has_both_folders_whatever_the_umask_and_keeps_what_is_in_it(tmp_path):
    make_top(tmp_path / "top")
    (tmp_path / "top/up/file").write_text("kept")
    make_top(tmp_path / "top")

    assert (tmp_path / "top/up").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "top/up/file").read_text() == "kept"
    assert (tmp_path / "top/wk").is_dir()


def test_more_layers_than_overlayfs_takes_are_refused_with_both_numbers():
    rootfs = RootFs(lowers=tuple(Path(f"/l{n}") for n in range(501)), top=TmpfsTop(1))

    with pytest.raises(OSError, match="at most 500 lowers, not 501"):
        overlay(rootfs, None)
