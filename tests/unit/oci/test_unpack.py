import gzip
import hashlib
import io
import itertools
import os
import stat
import struct
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hakobune.oci.base_layer import write_base_layer
from hakobune.oci.layer import Owner, Tree, write_layer
from hakobune.oci.unpack import Limits, Unpacked, UnpackError, unpack_layer
from tests.memory_blob import MemoryBlob

pytestmark = pytest.mark.needs_root  # owners, devices and trusted attributes

Item = tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]


def entry(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def file(name: str, data: bytes = b"x", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, size=len(data), **fields), data


def folder(name: str, **fields: object) -> tarfile.TarInfo:
    return entry(name, tarfile.DIRTYPE, **fields)


def link(name: str, target: str) -> tarfile.TarInfo:
    return entry(name, tarfile.SYMTYPE, linkname=target)


def hard_link(name: str, target: str) -> tarfile.TarInfo:
    return entry(name, tarfile.LNKTYPE, linkname=target)


def a_tar(*items: Item, format: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as tar:
        for item in items:
            if isinstance(item, tuple):
                tar.addfile(item[0], io.BytesIO(item[1]))
            else:
                tar.addfile(item)
    return out.getvalue()


class Unpack:
    """Unpacks into `root`, a fresh directory beside which lies a file that nothing may touch."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.root = scratch / "root"
        self.root.mkdir()
        self.outside = scratch / "outside"
        self.outside.write_bytes(b"untouched")

    def raw(self, data: bytes, **options: object) -> Unpacked:
        blob = self.scratch / "blob"
        blob.write_bytes(data)
        return unpack_layer(blob, self.root, **options)

    def __call__(self, *items: Item) -> Unpacked:
        return self.raw(a_tar(*items))

    def status(self, name: str) -> os.stat_result:
        return (self.root / name).lstat()

    def tree(self) -> list[str]:
        return sorted(str(p.relative_to(self.root)) for p in self.root.rglob("*"))

    def is_whiteout(self, name: str) -> bool:
        status = self.status(name)
        return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0

    def is_opaque(self, name: str) -> bool:
        try:
            return os.getxattr(self.root / name, "trusted.overlay.opaque") == b"y"
        except OSError:
            return False


@pytest.fixture
def unpack(tmp_path: Path) -> Unpack:
    return Unpack(tmp_path)


# What comes out


def test_modes_owners_times_and_contents_are_set(unpack: Unpack):
    unpack(
        folder("etc", mode=0o750, uid=1, gid=2, mtime=100),
        file("etc/shadow", b"secret", mode=0o640, uid=3, gid=42, mtime=200),
        link("etc/link", "shadow"),
    )

    shadow, etc = unpack.status("etc/shadow"), unpack.status("etc")
    assert (stat.S_IMODE(shadow.st_mode), shadow.st_uid, shadow.st_gid) == (0o640, 3, 42)
    assert (stat.S_IMODE(etc.st_mode), etc.st_uid, etc.st_gid) == (0o750, 1, 2)
    assert (shadow.st_mtime, etc.st_mtime) == (200, 100)
    assert (unpack.root / "etc/shadow").read_bytes() == b"secret"
    assert os.readlink(unpack.root / "etc/link") == "shadow"


def test_the_diff_id_is_of_all_bytes_also_those_after_the_archive(unpack: Unpack):
    data = a_tar(file("f")) + bytes(50_000)

    unpacked = unpack.raw(data)

    assert unpacked.diff_id.hex == hashlib.sha256(data).hexdigest()
    assert (unpacked.entries, unpacked.size_bytes) == (1, len(data))


def test_setuid_survives_the_change_of_owner(unpack: Unpack):
    unpack(file("su", mode=0o4755, uid=5, gid=6), folder("d", mode=0o2775, uid=5, gid=6))

    assert stat.S_IMODE(unpack.status("su").st_mode) == 0o4755
    assert stat.S_IMODE(unpack.status("d").st_mode) == 0o2775


def test_a_setgid_folder_does_not_give_its_group_to_what_is_in_it(unpack: Unpack):
    unpack(folder("d", mode=0o2775, gid=50), file("d/f", gid=0), folder("d/e", gid=0))

    assert unpack.status("d/f").st_gid == 0
    assert stat.S_IMODE(unpack.status("d/e").st_mode) == 0o755


def test_the_umask_has_no_say(unpack: Unpack):
    before = os.umask(0o077)
    try:
        unpack(file("f", mode=0o666), folder("d", mode=0o777))
    finally:
        os.umask(before)

    assert stat.S_IMODE(unpack.status("f").st_mode) == 0o666
    assert stat.S_IMODE(unpack.status("d").st_mode) == 0o777


def test_the_time_of_a_folder_is_set_after_its_content(unpack: Unpack):
    unpack(folder("d", mtime=7), folder("d/e", mtime=8), file("d/e/f"), file("d/g"))

    assert (unpack.status("d").st_mtime, unpack.status("d/e").st_mtime) == (7, 8)


def test_a_folder_without_any_permission_is_filled_first(unpack: Unpack):
    unpack(folder("d", mode=0), file("d/f"))

    assert stat.S_IMODE(unpack.status("d").st_mode) == 0
    assert (unpack.root / "d/f").exists()


def test_an_entry_for_the_root_sets_the_roots_attributes(unpack: Unpack):
    unpacked = unpack(folder("./", mode=0o711, uid=9, mtime=3), file("./f"))

    root = unpack.status(".")
    assert (stat.S_IMODE(root.st_mode), root.st_uid, root.st_mtime) == (0o711, 9, 3)
    assert unpacked.complete_parents


def test_hard_links_are_links_also_those_to_symbolic_ones(unpack: Unpack):
    unpack(folder("d"), file("d/a"), hard_link("b", "d/a"), link("s", "gone"), hard_link("t", "s"))

    assert unpack.status("b").st_ino == unpack.status("d/a").st_ino
    assert unpack.status("t").st_ino == unpack.status("s").st_ino
    assert os.readlink(unpack.root / "t") == "gone"


def test_devices_and_pipes_are_made(unpack: Unpack):
    unpack(
        entry("null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        entry("disk", tarfile.BLKTYPE, devmajor=259, devminor=70000, mode=0o660, gid=6),
        entry("pipe", tarfile.FIFOTYPE, mode=0o600, mtime=5),
    )

    null, disk, pipe = unpack.status("null"), unpack.status("disk"), unpack.status("pipe")
    assert (stat.S_ISCHR(null.st_mode), null.st_rdev) == (True, os.makedev(1, 3))
    assert (stat.S_IMODE(null.st_mode), null.st_uid) == (0o666, 0)
    assert (stat.S_ISBLK(disk.st_mode), disk.st_rdev) == (True, os.makedev(259, 70000))
    assert (stat.S_ISFIFO(pipe.st_mode), pipe.st_mtime) == (True, 5)


def test_file_capabilities_survive(unpack: Unpack):
    value = bytes.fromhex("0100000200040000000000000000000000000000")
    text = value.decode("utf-8", "surrogateescape")

    unpack(file("ping", uid=7, pax_headers={"SCHILY.xattr.security.capability": text}))

    assert os.getxattr(unpack.root / "ping", "security.capability") == value


def test_libarchives_attributes_are_read_too(unpack: Unpack):
    unpack(file("f", pax_headers={"LIBARCHIVE.xattr.user.a%20b": "aGk"}))

    assert os.getxattr(unpack.root / "f", "user.a b") == b"hi"


@pytest.mark.parametrize(
    "name",
    [
        "trusted.overlay.opaque",
        "trusted.overlay.redirect",
        "trusted.overlay.whiteout",
        "user.overlay.opaque",
        "user.overlay.metacopy",
        "trusted.anything",
        "security.selinux",
        "system.posix_acl_access",
    ],
)
def test_an_image_cannot_bring_attributes_that_steer_the_kernel(unpack: Unpack, name: str):
    unpack(folder("d", pax_headers={f"SCHILY.xattr.{name}": "y"}), file("d/f"))

    assert os.listxattr(unpack.root / "d") == []


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_and_targets_are_read_in_both_formats(unpack: Unpack, format: int):
    name = "a" * 120 + "/" + "b" * 200
    target = "../" * 2 + "c" * 300

    unpack.raw(
        a_tar(file(name, b"data"), link("l", "/" + target), hard_link("h", name), format=format)
    )

    assert (unpack.root / name).read_bytes() == b"data"
    assert os.readlink(unpack.root / "l") == "/" + target
    assert unpack.status("h").st_nlink == 2


def test_ustar_prefixes_are_joined(unpack: Unpack):
    name = "p" * 90 + "/" + "n" * 90

    unpack.raw(a_tar(file(name), format=tarfile.USTAR_FORMAT))

    assert (unpack.root / name).exists()


def test_gnus_large_numbers_are_read(unpack: Unpack):
    unpack.raw(a_tar(file("f", uid=3_000_000_000, mtime=-77), format=tarfile.GNU_FORMAT))

    assert (unpack.status("f").st_uid, unpack.status("f").st_mtime) == (3_000_000_000, -77)


def test_pax_numbers_and_fractions_are_read(unpack: Unpack):
    unpack(file("f", uid=3_000_000_000, pax_headers={"mtime": "-1.5"}), file("g", mtime=3.25))

    assert unpack.status("f").st_mtime_ns == -1_500_000_000
    assert unpack.status("f").st_uid == 3_000_000_000
    assert unpack.status("g").st_mtime_ns == 3_250_000_000


def test_global_pax_headers_are_passed_over(unpack: Unpack):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", pax_headers={"comment": "hi", "path": "evil"}) as tar:
        tar.addfile(*[file("f")[0], io.BytesIO(b"x")])

    unpack.raw(out.getvalue())

    assert unpack.tree() == ["f"]


def version_7_header(name: bytes, size: int) -> bytes:
    """A header as Unix wrote it in 1979: no type, no magic."""
    numbers = b"%07o\x00%07o\x00%07o\x00%011o\x00%011o\x00" % (0o644, 0, 0, size, 0)
    header = name.ljust(100, b"\x00") + numbers
    checksum = sum(header) + 8 * ord(" ")
    return (header + b"%06o\x00 " % checksum).ljust(512, b"\x00")


def test_old_archives_without_types_are_read(unpack: Unpack):
    unpack.raw(version_7_header(b"d/", 0) + version_7_header(b"d/f", 1) + b"x".ljust(512, b"\x00"))

    assert unpack.tree() == ["d", "d/f"]
    assert (unpack.root / "d/f").read_bytes() == b"x"


def test_absolute_names_as_cnb_layers_have_them_land_inside(unpack: Unpack):
    unpacked = unpack(folder("/layers"), folder("/layers/x/"), file("//layers/./x/f"))

    assert unpack.tree() == ["layers", "layers/x", "layers/x/f"]
    assert unpacked.complete_parents


# Parents


def test_parents_without_an_entry_are_told(unpack: Unpack):
    unpacked = unpack(file("a/b/f"), folder("a", mode=0o700, uid=4), file("tmp/x"))

    assert unpacked.implied_parents == ("a/b", "tmp")
    assert not unpacked.complete_parents
    assert stat.S_IMODE(unpack.status("a/b").st_mode) == 0o755
    assert (stat.S_IMODE(unpack.status("a").st_mode), unpack.status("a").st_uid) == (0o700, 4)


def test_a_link_on_the_way_is_resolved_inside_the_root(unpack: Unpack):
    unpack(
        folder("usr"),
        folder("usr/lib"),
        link("lib", "usr/lib"),
        file("lib/x"),
        link("abs", "/usr"),
        file("abs/y"),
    )

    assert (unpack.root / "usr/lib/x").is_file()
    assert (unpack.root / "usr/y").is_file()
    assert stat.S_ISLNK(unpack.status("lib").st_mode)


def test_a_link_to_the_outside_leads_to_the_inside(unpack: Unpack):
    unpack(
        link("up", "../../../../.."),
        file("up/etc/passwd", b"evil"),
        link("etc2", "/etc"),
        file("etc2/hosts", b"evil"),
    )

    assert (unpack.root / "etc/passwd").read_bytes() == b"evil"
    assert (unpack.root / "etc/hosts").read_bytes() == b"evil"
    assert b"evil" not in Path("/etc/passwd").read_bytes()
    assert unpack.outside.read_bytes() == b"untouched"


def test_links_that_go_round_are_refused(unpack: Unpack):
    with pytest.raises(UnpackError, match="go round"):
        unpack(link("a", "b"), link("b", "a"), file("a/x"))


# What no layer may do


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "/../outside", ".."])
def test_names_that_climb_are_refused(unpack: Unpack, name: str):
    with pytest.raises(UnpackError, match=r"has \.\. in it"):
        unpack(file(name, b"evil"))

    assert unpack.outside.read_bytes() == b"untouched"


def test_a_file_is_never_written_through_a_link(unpack: Unpack):
    unpack(link("f", str(unpack.outside)), file("f", b"new"))

    assert unpack.outside.read_bytes() == b"untouched"
    assert (unpack.root / "f").read_bytes() == b"new"
    assert stat.S_ISREG(unpack.status("f").st_mode)


def test_attributes_are_never_set_through_a_link(unpack: Unpack):
    before = unpack.outside.stat()

    unpack(entry("f", tarfile.SYMTYPE, linkname=str(unpack.outside), uid=77, mode=0o7777, mtime=1))

    after = unpack.outside.stat()
    assert (after.st_uid, after.st_mode, after.st_mtime_ns) == (
        before.st_uid,
        before.st_mode,
        before.st_mtime_ns,
    )
    assert unpack.status("f").st_uid == 77


@pytest.mark.parametrize("target", ["../outside", "/../outside"])
def test_hard_links_to_the_outside_are_refused(unpack: Unpack, target: str):
    with pytest.raises(UnpackError, match=r"has \.\. in it"):
        unpack(hard_link("f", target))


def test_a_hard_link_through_a_link_to_the_outside_finds_nothing(unpack: Unpack):
    with pytest.raises(UnpackError, match=r"not in the layer|link to nothing"):
        unpack(link("up", ".."), hard_link("f", "up/outside"))

    assert unpack.outside.stat().st_nlink == 1


@pytest.mark.parametrize("target", ["nothing", "d", "gone", "f", ""])
def test_a_hard_link_needs_a_file_of_this_layer(unpack: Unpack, target: str):
    with pytest.raises(UnpackError, match="hard link to"):
        unpack(folder("d"), file(".wh.gone"), hard_link("f", target))


def test_rewriting_a_hard_linked_file_leaves_the_other_name_alone(unpack: Unpack):
    unpack(file("a", b"first"), hard_link("b", "a"), file("a", b"second"))

    assert (unpack.root / "b").read_bytes() == b"first"
    assert (unpack.root / "a").read_bytes() == b"second"


def test_a_file_in_the_way_of_a_folder_is_refused(unpack: Unpack):
    with pytest.raises(UnpackError, match="a file and a directory"):
        unpack(file("a"), file("a/b"))


def test_the_root_cannot_be_replaced(unpack: Unpack):
    with pytest.raises(UnpackError, match="replaces the root"):
        unpack(link(".", "/etc"))


def test_sparse_files_are_refused_in_words(unpack: Unpack):
    with pytest.raises(UnpackError, match="sparse"):
        unpack(file("f", pax_headers={"GNU.sparse.major": "1"}))


def test_unknown_kinds_are_refused(unpack: Unpack):
    with pytest.raises(UnpackError, match="unknown kind"):
        unpack(entry("f", b"Z"))


def test_impossible_numbers_are_refused(unpack: Unpack):
    with pytest.raises(UnpackError, match="impossible"):
        unpack(file("f", uid=1 << 33))


# Replacing


def test_a_later_entry_replaces_an_earlier_one(unpack: Unpack):
    unpack(
        file("a", b"1"), file("a", b"2"), link("b", "x"), file("b", b"3"), file("c"), link("c", "y")
    )

    assert (unpack.root / "a").read_bytes() == b"2"
    assert (unpack.root / "b").read_bytes() == b"3"
    assert os.readlink(unpack.root / "c") == "y"


def test_a_file_replaces_a_full_folder(unpack: Unpack):
    unpacked = unpack(file("d/e/f"), file("d", b"now a file"), folder("z"))

    assert unpack.tree() == ["d", "z"]
    assert unpacked.complete_parents


def test_a_folder_over_a_folder_keeps_the_content(unpack: Unpack):
    unpack(folder("d", mode=0o755), file("d/f"), folder("d", mode=0o700))

    assert unpack.tree() == ["d", "d/f"]
    assert stat.S_IMODE(unpack.status("d").st_mode) == 0o700
    assert not unpack.is_opaque("d")


def test_a_folder_in_place_of_a_file_hides_what_lies_below(unpack: Unpack):
    unpack(file("d"), folder("d"), file("d/f"))

    assert unpack.tree() == ["d", "d/f"]
    assert unpack.is_opaque("d")


# Whiteouts


def test_whiteouts_become_devices_and_opaque_an_attribute(unpack: Unpack):
    unpacked = unpack(
        folder("d"), file("d/.wh..wh..opq", b""), file("d/.wh.gone", b""), file("d/new")
    )

    assert unpack.tree() == ["d", "d/gone", "d/new"]
    assert unpack.is_whiteout("d/gone")
    assert unpack.is_opaque("d")
    assert unpacked.complete_parents


def test_opaque_hides_lower_layers_only_wherever_it_stands(unpack: Unpack):
    unpack(folder("d"), file("d/new"), file("d/.wh..wh..opq", b""))

    assert unpack.tree() == ["d", "d/new"]
    assert unpack.is_opaque("d")


@pytest.mark.parametrize("order", [1, -1])
def test_a_whiteout_does_not_hide_a_file_of_its_own_layer(unpack: Unpack, order: int):
    unpack(*[file("x", b"mine"), file(".wh.x", b"")][::order])

    assert (unpack.root / "x").read_bytes() == b"mine"


@pytest.mark.parametrize("items", [["d", "d/f", ".wh.d"], [".wh.d", "d", "d/f"], [".wh.d", "d/f"]])
def test_a_whiteout_of_a_folder_that_comes_again_makes_it_opaque(unpack: Unpack, items: list[str]):
    unpack(*[folder(name) if name == "d" else file(name, b"") for name in items])

    assert unpack.tree() == ["d", "d/f"]
    assert unpack.is_opaque("d")


def test_a_whiteout_of_nothing_below_a_missing_parent_tells_the_parent(unpack: Unpack):
    unpacked = unpack(file("usr/share/.wh.doc", b""))

    assert unpack.is_whiteout("usr/share/doc")
    assert unpacked.implied_parents == ("usr", "usr/share")


def test_the_overlays_own_whiteouts_are_whiteouts(unpack: Unpack):
    unpack(entry("x", tarfile.CHRTYPE, devmajor=0, devminor=0))

    assert unpack.is_whiteout("x")


def test_a_whiteout_with_content_does_not_upset_what_follows(unpack: Unpack):
    unpack(file(".wh.x", b"c" * 700), file("y", b"after"))

    assert (unpack.root / "y").read_bytes() == b"after"


def test_the_notes_of_aufs_are_left_out(unpack: Unpack):
    unpack(folder(".wh..wh.plnk"), file(".wh..wh.aufs", b""), file("f"))

    assert unpack.tree() == ["f"]


@pytest.mark.parametrize("name", [".wh.", ".wh...", ".wh..", "d/.wh..."])
def test_whiteouts_without_a_real_name_are_refused(unpack: Unpack, name: str):
    with pytest.raises(UnpackError, match="deletes nothing"):
        unpack(file(name, b""))


# Damage


def test_a_wrong_checksum_is_noticed(unpack: Unpack):
    data = bytearray(a_tar(file("f")))
    data[100] ^= 1

    with pytest.raises(UnpackError, match="checksum"):
        unpack.raw(bytes(data))


def test_checksums_of_signed_bytes_are_accepted(unpack: Unpack):
    data = bytearray(a_tar(file("é"), format=tarfile.GNU_FORMAT))
    data[148:156] = b" " * 8
    signed = sum(b - 256 if b > 127 else b for b in data[:512])
    data[148:156] = b"%06o\x00 " % signed

    unpack.raw(bytes(data))

    assert unpack.tree() == ["é"]


@pytest.mark.parametrize("cut", [100, 513, 600])
def test_an_archive_that_is_cut_off_is_noticed(unpack: Unpack, cut: int):
    with pytest.raises(UnpackError, match=r"cut off|ends in the middle"):
        unpack.raw(a_tar(file("f", b"x" * 1000))[:cut])


def test_an_archive_may_end_without_zeros(unpack: Unpack):
    unpack.raw(a_tar(file("f"))[:1024])

    assert unpack.tree() == ["f"]


def test_zeros_between_entries_are_damage(unpack: Unpack):
    data = a_tar(file("f"))[:1024]

    with pytest.raises(UnpackError, match="zeros stands between"):
        unpack.raw(data + bytes(512) + data)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda g: g[: len(g) // 2], id="half"),
        pytest.param(lambda g: g[:-8], id="no checksum"),
        pytest.param(lambda g: g[:-8] + b"\x00" * 8, id="wrong checksum"),
        pytest.param(lambda g: g[:200] + b"\xff" * 30 + g[230:], id="scribbled on"),
        pytest.param(lambda g: g + b"trailing garbage", id="garbage behind"),
    ],
)
def test_a_damaged_gzip_stream_is_noticed(unpack: Unpack, damage: Callable[[bytes], bytes]):
    noise = hashlib.shake_128(b"x").digest(100_000)

    with pytest.raises(UnpackError, match=r"damaged|cut off"):
        unpack.raw(damage(gzip.compress(a_tar(file("f", noise)))))


def test_gzip_of_many_members_with_zeros_behind_is_read(unpack: Unpack):
    data = a_tar(file("f", b"x" * 3_000_000), file("g"))
    cuts = [0, 1, 512, 700_000, len(data)]
    members = [gzip.compress(data[a:b]) for a, b in itertools.pairwise(cuts)]

    unpacked = unpack.raw(b"".join(members) + bytes(1000))

    assert unpacked.diff_id.hex == hashlib.sha256(data).hexdigest()
    assert unpack.status("f").st_size == 3_000_000


def test_zstd_frames_and_what_is_to_be_skipped_between_them_are_one_layer(unpack: Unpack):
    data = a_tar(file("f", bytes(3_000_000)))
    compress = zstandard.ZstdCompressor().compress
    note = b"\x50\x2a\x4d\x18" + struct.pack("<I", 5) + b"index"

    unpacked = unpack.raw(note + compress(data[:700_000]) + note + compress(data[700_000:]) + note)

    assert unpacked.diff_id.hex == hashlib.sha256(data).hexdigest()
    assert unpack.status("f").st_size == 3_000_000


def test_zstd_that_is_none_is_damaged(unpack: Unpack):
    with pytest.raises(UnpackError, match="damaged"):
        unpack.raw(b"\x28\xb5\x2f\xfd" + b"\xff" * 100)


def test_zstd_that_is_cut_off_is_damaged(unpack: Unpack):
    data = zstandard.ZstdCompressor().compress(a_tar(file("f", os.urandom(3_000_000))))

    with pytest.raises(UnpackError, match="middle of a file"):
        unpack.raw(data[:2_000_000])


def test_an_empty_blob_is_an_empty_layer(unpack: Unpack):
    assert unpack.raw(b"").entries == 0


# Bombs


def test_a_bomb_is_stopped_by_its_size(unpack: Unpack):
    bomb = gzip.compress(a_tar(file("f", bytes(8 << 20))))

    with pytest.raises(UnpackError, match="too large"):
        unpack.raw(bomb, limits=Limits(size_bytes=4 << 20))

    assert unpack.status("f").st_size <= 4 << 20


def test_a_bomb_is_stopped_by_its_entries(unpack: Unpack):
    with pytest.raises(UnpackError, match="more than 3 entries"):
        unpack.raw(a_tar(*[file(str(i)) for i in range(4)]), limits=Limits(entries=3))


def test_a_bomb_is_stopped_by_its_depth(unpack: Unpack):
    with pytest.raises(UnpackError, match="too deep"):
        unpack(file("d/" * 1000 + "f"))


def test_a_bomb_is_stopped_by_a_huge_name(unpack: Unpack):
    with pytest.raises(UnpackError, match="bytes stands in it"):
        unpack(file("n" * (2 << 20)))


def test_no_descriptor_and_no_thread_is_left_after_an_error(unpack: Unpack):
    before = os.listdir("/proc/self/fd"), threading.enumerate()

    with pytest.raises(UnpackError):
        unpack(file("a/b/c"), file("big", bytes(30 << 20)), file("../x"))

    assert (os.listdir("/proc/self/fd"), threading.enumerate()) == before


# Without privileges


def test_without_privileges_owners_and_devices_are_left_out(unpack: Unpack):
    data = a_tar(
        folder("d"),
        file("d/.wh..wh..opq", b""),
        file(".wh.gone", b""),
        file("f", uid=12, mode=0o4755),
        entry("null", tarfile.CHRTYPE, devmajor=1, devminor=3),
    )

    unpack.raw(data, privileged=False)

    assert unpack.tree() == ["d", "f", "gone"]
    assert (unpack.status("f").st_uid, stat.S_IMODE(unpack.status("f").st_mode)) == (
        os.getuid(),
        0o4755,
    )
    assert os.getxattr(unpack.root / "d", "user.overlay.opaque") == b"y"


# There and back


def test_a_layer_of_ours_comes_back(unpack: Unpack, tmp_path: Path):
    tree = tmp_path / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/b/f").write_bytes(b"x" * 2_000_000)
    (tree / "é").symlink_to("a")
    sink = MemoryBlob()
    layer = write_layer(sink, [Tree(name="/l", directory=tree)], owner=Owner(8, 9))

    unpacked = unpack.raw(bytes(sink.data))

    assert unpacked.diff_id == layer.diff_id
    assert unpack.tree() == ["l", "l/a", "l/a/b", "l/a/b/f", "l/é"]
    assert unpack.status("l/a/b/f").st_mtime == 315532801
    assert {unpack.status(name).st_uid for name in unpack.tree()} == {8}


def test_the_top_of_an_overlay_comes_back_as_it_was(unpack: Unpack, tmp_path: Path):
    top = tmp_path / "top"
    (top / "d").mkdir(parents=True)
    os.setxattr(top / "d", "trusted.overlay.opaque", b"y")
    os.mknod(top / "gone", 0o20000, 0)
    (top / "f").write_bytes(b"x")
    os.link(top / "f", top / "g")
    os.utime(top / "f", (1000, 1000))
    sink = MemoryBlob()
    write_base_layer(sink, top)

    unpack.raw(bytes(sink.data))

    assert unpack.tree() == ["d", "f", "g", "gone"]
    assert unpack.is_opaque("d")
    assert unpack.is_whiteout("gone")
    assert (unpack.status("g").st_nlink, unpack.status("f").st_mtime) == (2, 1000)


names = st.lists(
    st.sampled_from(["a", "b", ".", "..", "", ".wh.a", ".wh..wh..opq", "é"]), min_size=1, max_size=4
).map("/".join)
targets = st.one_of(names, names.map("/".__add__))
items = st.lists(
    st.one_of(
        st.builds(file, names, st.binary(max_size=600)),
        st.builds(folder, names),
        st.builds(link, names, targets),
        st.builds(hard_link, names, targets),
        st.builds(lambda n: entry(n, tarfile.CHRTYPE), names),
    ),
    max_size=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(items=items)
def test_no_layer_touches_anything_outside(
    tmp_path_factory: pytest.TempPathFactory, items: list[Item]
):
    unpack = Unpack(tmp_path_factory.mktemp("u"))

    try:
        unpack(*items)
    except UnpackError:
        pass

    assert sorted(p.name for p in unpack.scratch.iterdir()) == ["blob", "outside", "root"]
    assert unpack.outside.read_bytes() == b"untouched"
    assert unpack.outside.stat().st_nlink == 1
