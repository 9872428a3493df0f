import errno
from pathlib import Path

import pytest

from hakobune.support.room import has_room, how_to_make_room, is_full, says_full
from tests.mounts import tiny_disk


def test_no_space_and_no_allowance_are_a_full_disk_and_nothing_else():
    assert is_full(OSError(errno.ENOSPC, "x"))
    assert is_full(OSError(errno.EDQUOT, "x"))
    assert not is_full(OSError(errno.EACCES, "x"))


@pytest.mark.parametrize(
    "said",
    [
        "head: error writing 'standard output': No space left on device",
        "npm error nospc ENOSPC: no space left on device, write",
        "error: failed to write: Disk quota exceeded (os error 122)",
    ],
)
def test_programs_that_say_so_are_understood(said: str):
    assert says_full(said)
    assert not says_full("no such file or directory: device_ENOSPCX")


def test_advice_about_a_folder_that_is_not_there_says_no_figure(tmp_path: Path):
    assert how_to_make_room(tmp_path / "gone").startswith("make room there, for example")
    assert has_room(tmp_path / "gone")


@pytest.mark.needs_root
def test_a_disk_with_less_than_a_mebibyte_has_no_room():
    with tiny_disk(2 << 20) as disk:
        assert has_room(disk)
        assert how_to_make_room(disk).startswith("make room there (2 MB are left), ")
        (disk / "file").write_bytes(bytes((1 << 20) + 4096))
        assert not has_room(disk)
