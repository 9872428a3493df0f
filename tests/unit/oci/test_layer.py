import errno
import gzip
import hashlib
import io
import os
import random
import socket
import tarfile
import zlib
from contextlib import contextmanager
from pathlib import Path

import pytest

from hakobune.oci import deflate, tar_stream
from hakobune.oci.base_layer import write_base_layer
from hakobune.oci.descriptor import LAYER_GZIP
from hakobune.oci.layer import (
    Directory,
    File,
    Layer,
    LayerError,
    Owner,
    Part,
    Slice,
    Symlink,
    Tree,
    write_layer,
)
from tests.memory_blob import MemoryBlob

USER = Owner(1001, 1000)


def members(sink: MemoryBlob) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(sink.data))) as tar:
        return tar.getmembers()


def member(sink: MemoryBlob, name: str) -> tarfile.TarInfo:
    (found,) = [m for m in members(sink) if m.name == name]
    return found


def content(sink: MemoryBlob, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(sink.data))) as tar:
        file = tar.extractfile(name)
        assert file is not None
        return file.read()


def names(sink: MemoryBlob) -> list[str]:
    return [m.name for m in members(sink)]


def write(*parts: Part) -> tuple[MemoryBlob, Layer]:
    sink = MemoryBlob()
    return sink, write_layer(sink, parts, owner=USER)


def write_base(tree: Path | int, **options: int) -> MemoryBlob:
    sink = MemoryBlob()
    write_base_layer(sink, tree, **options)
    return sink


# CNB layers


def test_a_layer_has_both_its_digests(tmp_path: Path):
    (tmp_path / "f").write_bytes(b"x" * 3_000_000)

    sink, layer = write(Tree(name="/l", directory=tmp_path))

    tar = gzip.decompress(sink.data)
    assert layer.diff_id.hex == hashlib.sha256(tar).hexdigest()
    assert layer.blob.digest.hex == hashlib.sha256(sink.data).hexdigest()
    assert (layer.blob.media_type, layer.blob.size) == (LAYER_GZIP, len(sink.data))
    assert sink.committed


def test_parents_come_first_with_their_own_owner_and_everything_below_has_the_layers(
    tmp_path: Path,
):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_bytes(b"hello")
    (tmp_path / "d/f").chmod(0o4750)

    sink, _ = write(
        Directory(name="/layers"),
        Directory(name="/layers/bp", mode=0o775, owner=Owner(7, 8)),
        Tree(name="/layers/bp/x", directory=tmp_path),
    )

    assert names(sink) == [
        "/layers",
        "/layers/bp",
        "/layers/bp/x",
        "/layers/bp/x/d",
        "/layers/bp/x/d/f",
    ]
    assert [(m.uid, m.gid) for m in members(sink)] == [(0, 0), (7, 8), *[(1001, 1000)] * 3]
    assert {m.mtime for m in members(sink)} == {315532801}
    assert {(m.uname, m.gname) for m in members(sink)} == {("", "")}
    assert member(sink, "/layers/bp/x/d/f").mode == 0o4750
    assert content(sink, "/layers/bp/x/d/f") == b"hello"


def test_made_up_entries_need_no_disk(tmp_path: Path):
    launcher = tmp_path / "launcher"
    launcher.write_bytes(b"\x7fELF" + bytes(2000))

    sink, _ = write(
        Directory(name="/cnb"),
        File(name="/cnb/launcher", content=launcher, mode=0o755),
        File(name="/cnb/metadata.toml", content=b"a = 1\n", owner=USER),
        Symlink(name="/cnb/process/web", target="/cnb/launcher"),
    )

    assert content(sink, "/cnb/launcher") == launcher.read_bytes()
    assert content(sink, "/cnb/metadata.toml") == b"a = 1\n"
    link = member(sink, "/cnb/process/web")
    assert (link.issym(), link.linkname, link.mode) == (True, "/cnb/launcher", 0o755)
    assert member(sink, "/cnb/launcher").mode == 0o755


def test_the_same_tree_gives_the_same_bytes_whatever_its_times_and_the_order_on_disk(
    tmp_path: Path,
):
    for copy, order in (("one", "abc"), ("two", "cba")):
        (tmp_path / copy).mkdir()
        for name in order:
            (tmp_path / copy / name).write_bytes(name.encode() * 1000)
    os.utime(tmp_path / "two/a", (1, 1))

    one, layer_one = write(Tree(name="/l", directory=tmp_path / "one"))
    two, layer_two = write(Tree(name="/l", directory=tmp_path / "two"))

    assert layer_one == layer_two
    assert one.data == two.data


def test_the_bytes_do_not_depend_on_the_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "f").write_bytes(b"".join(b"%d\n" % i for i in range(800_000)))
    results = set()

    for cores in (1, 2, 9):
        monkeypatch.setattr(tar_stream.os, "cpu_count", lambda cores=cores: cores)
        sink, _ = write(Tree(name="/l", directory=tmp_path))
        results.add(bytes(sink.data))

    assert len(results) == 1


def test_a_tree_may_be_given_by_descriptor_which_stays_open(tmp_path: Path):
    (tmp_path / "f").write_bytes(b"x")
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        by_descriptor, _ = write(Tree(name="/l", directory=descriptor))
        by_path, _ = write(Tree(name="/l", directory=tmp_path))

        assert by_descriptor.data == by_path.data
        os.fstat(descriptor)
    finally:
        os.close(descriptor)


def test_a_descriptor_opened_as_a_mere_path_will_do(tmp_path: Path):
    (tmp_path / "f").write_bytes(b"x")
    descriptor = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        sink, _ = write(Tree(name="/l", directory=descriptor))
    finally:
        os.close(descriptor)

    assert names(sink) == ["/l", "/l/f"]


def test_no_descriptor_is_left_open(tmp_path: Path):
    (tmp_path / "a/b/c").mkdir(parents=True)
    (tmp_path / "a/b/c/f").write_bytes(b"x")
    before = os.listdir("/proc/self/fd")

    write(
        Tree(name="/l", directory=tmp_path), Slice(name="/w", directory=tmp_path, paths=["a/b/c/f"])
    )

    assert os.listdir("/proc/self/fd") == before


def test_hard_links_become_files_of_their_own(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"same")
    os.link(tmp_path / "a", tmp_path / "b")

    sink, _ = write(Tree(name="/l", directory=tmp_path))

    assert [m.isreg() for m in members(sink)] == [False, True, True]
    assert content(sink, "/l/b") == b"same"


def test_sockets_are_skipped_and_pipes_are_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer for ever
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")

        sink, _ = write(Tree(name="/l", directory=tmp_path))

    assert names(sink) == ["/l", "/l/pipe"]
    assert member(sink, "/l/pipe").isfifo()


@pytest.mark.needs_root
def test_an_endless_device_is_written_as_a_device(tmp_path: Path):
    os.mknod(tmp_path / "zero", 0o20666, os.makedev(1, 5))

    sink, _ = write(Tree(name="/l", directory=tmp_path))

    zero = member(sink, "/l/zero")
    assert (zero.ischr(), zero.devmajor, zero.devminor) == (True, 1, 5)


def test_a_link_in_the_tree_is_never_followed(tmp_path: Path):
    os.symlink("/etc", tmp_path / "etc")
    os.symlink("/etc/passwd", tmp_path / "passwd")

    sink, _ = write(Tree(name="/l", directory=tmp_path))

    assert [(m.name, m.linkname) for m in members(sink)[1:]] == [
        ("/l/etc", "/etc"),
        ("/l/passwd", "/etc/passwd"),
    ]


def test_an_empty_layer_is_an_empty_archive():
    sink, layer = write()

    assert gzip.decompress(sink.data) == bytes(1024)
    assert layer.diff_id.hex == hashlib.sha256(bytes(1024)).hexdigest()


@pytest.mark.parametrize(
    "size", [0, 1, 511, 512, 513, (1 << 20) - 512, 1 << 20, (1 << 20) + 1, 3 << 20]
)
def test_files_of_any_size_come_back(tmp_path: Path, size: int):
    data = random.Random(size).randbytes(size)
    (tmp_path / "f").write_bytes(data)
    (tmp_path / "g").write_bytes(b"after")

    sink, _ = write(Tree(name="/l", directory=tmp_path), File(name="/made-up", content=data))

    assert content(sink, "/l/f") == data
    assert content(sink, "/l/g") == b"after"
    assert content(sink, "/made-up") == data


# Slices


def test_a_slice_is_sorted_by_whole_path(tmp_path: Path):
    for name in ("a/x", "a-b", "a.c", "a0"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")

    tree, _ = write(Tree(name="/w", directory=tmp_path))
    whole, _ = write(Slice(name="/w", directory=tmp_path))

    assert names(tree) == ["/w", "/w/a", "/w/a/x", "/w/a-b", "/w/a.c", "/w/a0"]
    assert names(whole) == ["/w", "/w/a", "/w/a-b", "/w/a.c", "/w/a/x", "/w/a0"]


def test_a_slice_has_the_given_paths_alone(tmp_path: Path):
    for name in ("a/b/c", "a/b/d", "a/e", "f", "a-x"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(name.encode())

    sink, _ = write(
        Slice(name="/w", directory=tmp_path, paths=["f", "a/b/d", "", "a", "a-x", "a/b"])
    )

    assert names(sink) == ["/w", "/w/a", "/w/a-x", "/w/a/b", "/w/a/b/d", "/w/f"]
    assert content(sink, "/w/a/b/d") == b"a/b/d"


def test_all_paths_given_one_by_one_are_the_whole_slice(tmp_path: Path):
    for name in ("a/b/c", "a/b-d", "a.e/f", "f"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(name.encode())
    paths = [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")]

    listed, _ = write(Slice(name="/w", directory=tmp_path, paths=["", *paths]))
    whole, _ = write(Slice(name="/w", directory=tmp_path))

    assert listed.data == whole.data


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd", "..", "a/", "a//b", "a/."])
def test_a_slice_stays_in_its_directory(tmp_path: Path, path: str):
    with pytest.raises(LayerError, match="not a path inside"):
        write(Slice(name="/w", directory=tmp_path, paths=[path]))


# Base images


def test_a_base_layer_keeps_what_the_disk_says(tmp_path: Path):
    (tmp_path / "etc").mkdir(mode=0o755)
    (tmp_path / "etc/passwd").write_bytes(b"root")
    os.chmod(tmp_path / "etc/passwd", 0o640)
    os.utime(tmp_path / "etc/passwd", ns=(5, 7_900_000_000))
    os.symlink("passwd", tmp_path / "etc/link")

    sink = write_base(tmp_path)

    assert names(sink) == ["etc", "etc/link", "etc/passwd"]
    passwd = member(sink, "etc/passwd")
    assert (passwd.mode, passwd.mtime, passwd.uid) == (0o640, 7, os.getuid())
    assert b"etc/\x00" in gzip.decompress(sink.data)[:100]


def test_hard_links_of_a_base_stay_links(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"x" * 5000)
    os.link(tmp_path / "a", tmp_path / "b")
    os.symlink("nowhere", tmp_path / "s")
    os.link(tmp_path / "s", tmp_path / "t", follow_symlinks=False)

    sink = write_base(tmp_path)

    assert [(m.name, m.type, m.linkname) for m in members(sink)] == [
        ("a", tarfile.REGTYPE, ""),
        ("b", tarfile.LNKTYPE, "a"),
        ("s", tarfile.SYMTYPE, "nowhere"),
        ("t", tarfile.LNKTYPE, "s"),
    ]


def test_times_of_a_base_can_be_limited(tmp_path: Path):
    for name, mtime in (("old", 5), ("new", 2_000_000_000)):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (mtime, mtime))

    sink = write_base(tmp_path, latest_mtime=315532801)

    assert [m.mtime for m in members(sink)] == [315532801, 5]


def test_a_time_before_1970_survives(tmp_path: Path):
    (tmp_path / "f").write_bytes(b"")
    os.utime(tmp_path / "f", (-5, -5))

    assert member(write_base(tmp_path), "f").mtime == -5


@pytest.mark.needs_root
def test_owners_seen_through_an_id_range_become_real(tmp_path: Path):
    (tmp_path / "f").write_bytes(b"")
    os.chown(tmp_path / "f", 100_033, 100_000)

    f = member(write_base(tmp_path, id_base=100_000), "f")

    assert (f.uid, f.gid) == (33, 0)
    with pytest.raises(LayerError, match="outside the id range"):
        write_base(tmp_path, id_base=100_001)


@pytest.mark.needs_root
def test_file_capabilities_are_kept_as_those_of_an_ordinary_file(tmp_path: Path):
    net_bind = bytes.fromhex("0100000200040000000000000000000000000000")
    (tmp_path / "ping").write_bytes(b"x")
    os.setxattr(tmp_path / "ping", "security.capability", net_bind)
    (tmp_path / "inside").write_bytes(b"x")
    inside = b"\x01\x00\x00\x03" + net_bind[4:] + (100_000).to_bytes(4, "little")
    os.setxattr(tmp_path / "inside", "security.capability", inside)

    sink = write_base(tmp_path, id_base=0)
    ping = member(sink, "ping").pax_headers["SCHILY.xattr.security.capability"]

    assert ping.encode("utf-8", "surrogateescape") == net_bind
    os.chown(tmp_path / "ping", 100_000, 100_000)
    os.chown(tmp_path / "inside", 100_000, 100_000)
    os.setxattr(tmp_path / "inside", "security.capability", inside)  # chown drops it
    sink = write_base(tmp_path, id_base=100_000)
    shifted = member(sink, "inside").pax_headers["SCHILY.xattr.security.capability"]
    assert shifted.encode("utf-8", "surrogateescape") == net_bind


@pytest.mark.needs_root
def test_the_top_of_an_overlay_becomes_whiteouts(tmp_path: Path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/kept").write_bytes(b"x")
    os.mknod(tmp_path / "gone", 0o20000, 0)
    os.mknod(tmp_path / "d/gone-too", 0o20000, 0)
    os.setxattr(tmp_path / "d", "trusted.overlay.opaque", b"y")
    os.setxattr(tmp_path / "d", "trusted.overlay.origin", b"\x00\xfb")
    os.setxattr(tmp_path / "d/kept", "user.note", b"kept")

    sink = write_base(tmp_path)

    assert names(sink) == ["d", "d/.wh..wh..opq", "d/.wh.gone-too", "d/kept", ".wh.gone"]
    assert all(m.isreg() and m.size == 0 for m in members(sink) if ".wh." in m.name)
    assert member(sink, "d").pax_headers == {}
    assert member(sink, "d/kept").pax_headers == {"SCHILY.xattr.user.note": "kept"}


def test_a_name_that_would_delete_something_is_refused(tmp_path: Path):
    (tmp_path / ".wh.x").write_bytes(b"")

    with pytest.raises(LayerError, match="cannot stand in an image"):
        write_base(tmp_path)


# Failures


def test_a_file_that_became_shorter_is_an_error_that_names_it(tmp_path: Path):
    (tmp_path / "f").write_bytes(b"x" * 1000)
    sink = MemoryBlob()

    def export_one_byte_more(descriptor: int) -> None:
        with tar_stream.open_tar_stream(sink) as tar:
            tar.put_file(descriptor, 1001, b"/x")

    with open(tmp_path / "f", "rb") as file:
        with pytest.raises(LayerError, match="'/x' changed while it was read"):
            export_one_byte_more(file.fileno())
    assert not sink.committed


def test_a_missing_tree_is_an_error_and_nothing_is_stored(tmp_path: Path):
    sink = MemoryBlob()

    with pytest.raises(FileNotFoundError):
        write_layer(sink, [Tree(name="/l", directory=tmp_path / "none")], owner=USER)

    assert not sink.committed


class FullDisk(MemoryBlob):
    """Has room for half a megabyte."""

    @contextmanager
    def new_blob(self):
        with super().new_blob():
            yield self

    def write(self, data, /):
        super().write(data)
        if len(self.data) > 500_000:
            raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_ends_the_export_early(tmp_path: Path):
    (tmp_path / "f").write_bytes(random.Random(1).randbytes(64 << 20))
    sink = FullDisk()

    with pytest.raises(OSError, match="No space left"):
        write_layer(sink, [Tree(name="/l", directory=tmp_path)], owner=USER)

    assert not sink.committed
    assert len(sink.data) < 3 << 20


def test_a_full_disk_at_the_last_block_is_not_overlooked(tmp_path: Path):
    (tmp_path / "f").write_bytes(random.Random(1).randbytes(600_000))

    with pytest.raises(OSError, match="No space left"):
        write_layer(FullDisk(), [Tree(name="/l", directory=tmp_path)], owner=USER)


# Compression


def test_the_blob_is_one_plain_gzip_member(tmp_path: Path):
    (tmp_path / "f").write_bytes(b"abc" * 1_000_000)

    sink, _ = write(Tree(name="/l", directory=tmp_path))

    inflater = zlib.decompressobj(31)
    inflater.decompress(sink.data)
    assert inflater.eof
    assert inflater.unused_data == b""
    assert sink.data[:10] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


def test_what_does_not_compress_is_stored(tmp_path: Path):
    noise = random.Random(3).randbytes(deflate.BLOCK_SIZE)

    block = deflate.deflate_block(memoryview(noise))

    assert len(block) == len(noise) + 17 * 5
    assert zlib.decompressobj(-15).decompress(block) == noise


def test_every_block_can_be_inflated_alone():
    text = b"".join(b"%d\n" % i for i in range(100_000))

    block = deflate.deflate_block(memoryview(text))

    assert zlib.decompressobj(-15).decompress(block) == text
    assert block.endswith(b"\x00\x00\xff\xff")
