"""Users of an image, read from its own files without leaving it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hakobune.oci.image_user import ImageUser, ImageUserError, read_image_file, resolve_user


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\napp:x:1002:1000::/home/app:/bin/sh\n"
    )
    (tmp_path / "etc/group").write_text("app:x:1000:\nextra:x:2000:app\n")
    return tmp_path


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", ImageUser(0, 0, (), "/root")),
        ("app", ImageUser(1002, 1000, (2000,), "/home/app")),
        ("1002", ImageUser(1002, 1000, (2000,), "/home/app")),
        ("app:extra", ImageUser(1002, 2000, (), "/home/app")),
        ("77:88", ImageUser(77, 88)),
        ("77", ImageUser(77, 0)),
    ],
)
def test_names_and_numbers_are_resolved(lower: Path, user: str, expected: ImageUser) -> None:
    assert resolve_user(user, [lower]) == expected


@pytest.mark.parametrize("user", ["nobody", "app:nobody"])
def test_a_name_that_the_image_does_not_have_is_refused(lower: Path, user: str) -> None:
    with pytest.raises(ImageUserError, match="nobody"):
        resolve_user(user, [lower])


def test_a_link_is_not_followed_out_of_the_image(tmp_path: Path) -> None:
    (tmp_path / "etc").symlink_to("/etc")

    assert read_image_file("etc/passwd", [tmp_path]) is None


def test_the_uppermost_layer_wins(lower: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    upper = tmp_path_factory.mktemp("upper")
    (upper / "etc").mkdir()
    (upper / "etc/passwd").write_text("app:x:5:6::/:/bin/sh\n")

    assert resolve_user("app", [upper, lower]).uid == 5


def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    os.mkfifo(tmp_path / "etc/passwd")

    assert read_image_file("etc/passwd", [tmp_path]) is None
