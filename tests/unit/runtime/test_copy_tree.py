from __future__ import annotations

import io
import os
import stat
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from hakobune.runtime.copy_archive import pack, unpack
from hakobune.runtime.copy_tree import TreeCopy
from hakobune.runtime.file_place import CopyError, Here


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with every kind of entry that is copied."""
    folder = tmp_path / "source"
    (folder / "below").mkdir(parents=True)
    (folder / "file").write_text("text")
    (folder / "file").chmod(0o751)
    os.utime(folder / "file", (1, 2))
    os.link(folder / "file", folder / "same")
    (folder / "below" / "empty").touch()
    (folder / "link").symlink_to("/nowhere")
    os.mkfifo(folder / "fifo")
    os.utime(folder / "below", (3, 4))
    return folder


def copy(source: Path, target: Path, *, keep_owners: bool = False) -> None:
    place = Here()
    with (
        closing(place.find(str(source), follow=False)) as found,
        closing(place.find(str(target), follow=True)) as there,
        closing(TreeCopy(place, place, keep_owners=keep_owners, leave_out=[].append)) as run,
    ):
        run.copy(found.folder, found.name, there.folder, there.name, str(source))


def described(folder: Path) -> list[tuple[str, str, int, int, object]]:
    """Name, kind and mode, links, seconds, and what is in it."""
    found = []
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content: object = None
        if path.is_symlink():
            content = os.readlink(path)
        elif stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        links = 0 if stat.S_ISDIR(status.st_mode) else status.st_nlink
        name = str(path.relative_to(folder))
        found.append((name, stat.filemode(status.st_mode), links, int(status.st_mtime), content))
    return found


def test_a_folder_is_copied_with_modes_times_links_and_names(source: Path, tmp_path: Path) -> None:
    copy(source, tmp_path / "target")

    assert described(tmp_path / "target") == described(source)


@pytest.mark.parametrize(("keep_owners", "mode"), [(True, 0o6755), (False, 0o755)])
def test_who_else_owns_a_copy_does_not_lend_his_rights_to_it(
    tmp_path: Path, keep_owners: bool, mode: int
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "file").chmod(0o6755)

    copy(tmp_path / "file", tmp_path / "copy", keep_owners=keep_owners)

    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == mode


def test_a_copy_takes_the_place_of_files_and_keeps_what_else_is_there(
    source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    (target / "below").mkdir(parents=True)
    (target / "below" / "other").write_text("kept")
    (target / "file").write_text("old")

    copy(source, target)

    assert (target / "file").read_text() == "text"
    assert (target / "below" / "other").read_text() == "kept"


def test_a_link_in_the_way_is_replaced_and_not_followed(source: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("untouched")
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "file").symlink_to(outside)

    copy(source, tmp_path / "target")

    assert outside.read_text() == "untouched"
    assert (tmp_path / "target" / "file").read_text() == "text"


def test_a_link_where_a_folder_shall_be_is_no_folder(source: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "below").symlink_to(outside)

    with pytest.raises(CopyError):
        copy(source, tmp_path / "target")

    assert not list(outside.iterdir())


def test_a_folder_is_not_replaced_by_a_file(source: Path, tmp_path: Path) -> None:
    (tmp_path / "target" / "file").mkdir(parents=True)

    with pytest.raises(CopyError) as raised:
        copy(source, tmp_path / "target")

    assert raised.value.why == "a folder has its name, and is not replaced"


def test_what_is_neither_file_nor_link_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "fifo")

    with pytest.raises(CopyError) as raised:
        copy(tmp_path / "file", tmp_path / "fifo")

    assert raised.value.why == "a FIFO has its name, and is not replaced"
    assert (tmp_path / "fifo").is_fifo()


def test_what_the_kernel_makes_up_is_copied_too(tmp_path: Path) -> None:
    copy(Path("/proc/self/status"), tmp_path / "status")

    assert (tmp_path / "status").read_text().startswith("Name:")


def test_a_file_in_the_way_of_a_path_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(CopyError) as raised:
        Here().find(f"{tmp_path}/file/x", follow=True)

    assert raised.value.why == f"{tmp_path}/file is no folder"


def test_a_ring_of_links_has_an_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")

    with pytest.raises(CopyError):
        Here().find(f"{tmp_path}/a", follow=True)


# As a tar stream


def packed(source: Path, arcname: str) -> bytes:
    out = io.BytesIO()
    with closing(Here().find(str(source), follow=False)) as spot:
        pack(Here(), spot, arcname, out)
    return out.getvalue()


@pytest.mark.needs_root
def test_a_tar_stream_holds_all_and_gives_it_back(source: Path, tmp_path: Path) -> None:
    data = packed(source, "source")
    (tmp_path / "target").mkdir()

    unpack(Here(), str(tmp_path / "target"), io.BytesIO(data), leave_out=[].append)

    assert described(tmp_path / "target" / "source") == described(source)


def test_the_contents_of_a_folder_are_named_from_a_point(source: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(packed(source, "."))) as archive:
        names = archive.getnames()

    assert names[:3] == [".", "./below", "./below/empty"]


def stream(*members: tuple[str, bytes, str]) -> io.BytesIO:
    """Members as (name, type, where it leads or what is in it)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind, text in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            info.uid, info.gid = os.geteuid(), os.getegid()
            if kind == tarfile.REGTYPE:
                info.size = len(text)
                archive.addfile(info, io.BytesIO(text.encode()))
            else:
                info.linkname = text
                archive.addfile(info)
    out.seek(0)
    return out


@pytest.mark.parametrize("name", ["../up", "a/../../up", "/../up"])
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "target").mkdir()

    with pytest.raises(CopyError) as raised:
        unpack(
            Here(),
            str(tmp_path / "target"),
            stream((name, tarfile.REGTYPE, "x")),
            leave_out=[].append,
        )

    assert "leads out of the folder" in raised.value.why
    assert not (tmp_path / "up").exists()


def test_a_hard_link_to_the_outside_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "target").mkdir()

    with pytest.raises(CopyError):
        unpack(
            Here(),
            str(tmp_path / "target"),
            stream(("a", tarfile.LNKTYPE, "../secret")),
            leave_out=[].append,
        )


def test_an_absolute_name_lands_inside(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()

    unpack(
        Here(),
        str(tmp_path / "target"),
        stream(("/etc/x", tarfile.REGTYPE, "inside")),
        leave_out=[].append,
    )

    assert (tmp_path / "target/etc/x").read_text() == "inside"


def test_a_device_is_left_out_and_said(tmp_path: Path) -> None:
    left_out: list[str] = []
    (tmp_path / "target").mkdir()

    unpack(
        Here(),
        str(tmp_path / "target"),
        stream(("null", tarfile.CHRTYPE, "")),
        leave_out=left_out.append,
    )

    assert left_out == ["null"]
    assert not list((tmp_path / "target").iterdir())


@pytest.mark.parametrize("data", [b"no tar\n", b"\x1f\x8b\x08cut off", b"x" * 600])
def test_what_is_no_tar_stream_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(CopyError) as raised:
        unpack(Here(), str(tmp_path), io.BytesIO(data), leave_out=[].append)

    assert "no whole tar stream" in raised.value.why


def test_nothing_is_an_empty_stream(tmp_path: Path) -> None:
    unpack(Here(), str(tmp_path), io.BytesIO(b""), leave_out=[].append)
