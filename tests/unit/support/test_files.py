import os

import pytest

from hakobune.support.files import DocumentError, parse_toml, read_toml, write_atomically


def test_a_write_replaces_the_file_whole(tmp_path):
    path = tmp_path / "a" / "file"
    write_atomically(path, b"old", mode=0o600)

    write_atomically(path, b"new", mode=0o640, durable=True)

    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(path.parent) == ["file"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    with pytest.raises(TypeError):
        write_atomically(path, "text")

    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_broken_toml_names_the_file_and_the_place(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text("a = [1,\n b")

    with pytest.raises(DocumentError) as caught:
        read_toml(path)

    assert caught.value.what == f"cannot read {path}"
    assert "line 2" in caught.value.why


def test_bytes_that_are_not_utf8_are_no_toml():
    with pytest.raises(DocumentError, match=r"cannot read order\.toml"):
        parse_toml(b"\xff", name="order.toml")
