"""Detached, shifted overlays on the real kernel: every way of handing layers over gives the same file system."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from hakobune.runtime import linux, mount, slot
from hakobune.runtime.mount import RootFs, TmpfsTop
from hakobune.runtime.mount_method import OverlayMethod, TmpfsIds
from hakobune.runtime.slot import Slot

pytestmark = pytest.mark.needs_root

Listing = dict[str, tuple[int, int, int, bytes]]
METHODS = pytest.mark.parametrize("method", list(OverlayMethod), ids=lambda m: m.name.lower())


@dataclass(frozen=True, slots=True)
class View:
    """A detached overlay, used as an id of its range."""

    fd: int
    base: int

    @property
    def path(self) -> Path:
        return Path(f"/proc/self/fd/{self.fd}")

    def write(self, name: str, text: str, *, uid: int = 0) -> None:
        with linux.filesystem_ids(self.base + uid, self.base + uid):
            (self.path / name).write_text(text)

    def do(self, action: Callable[[Path], object], *, uid: int = 0) -> None:
        with linux.filesystem_ids(self.base + uid, self.base + uid):
            action(self.path)


@pytest.fixture
def folder() -> Iterator[Path]:
    """On a disk: pytest's own folder may be a tmpfs."""
    made = Path(tempfile.mkdtemp(prefix="hk-", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def ids() -> Iterator[Slot]:
    held = slot.take_range("test-mounts", ephemeral=True)
    try:
        with slot.make_slot(held.ids) as made:
            yield made
    finally:
        held.release()


@pytest.fixture
def lowers(folder: Path) -> tuple[Path, ...]:
    """Two layers: the upper one hides a file of the lower one."""
    below, above = folder / "below", folder / "above"
    for layer in (below, above):
        layer.mkdir()
    (below / "kept").mkdir()
    (below / "kept/file").write_text("below")
    (below / "both").write_text("below")
    (below / "gone").write_text("below")
    os.chown(below / "kept/file", 1001, 1000)
    (above / "both").write_text("above")
    os.mknod(above / "gone", stat.S_IFCHR)
    return (above, below)


@contextmanager
def mounted(
    rootfs: RootFs,
    ids: Slot,
    *,
    method: OverlayMethod = OverlayMethod.DESCRIPTORS,
    tmpfs_ids: TmpfsIds = TmpfsIds.MAPPED,
    nosuid: bool = False,
) -> Iterator[View]:
    fd = mount.overlay(rootfs, ids, method=method, tmpfs_ids=tmpfs_ids, nosuid=nosuid)
    try:
        yield View(fd, ids.base)
    finally:
        os.close(fd)


def change(view: View) -> None:
    """Everything that makes an upper directory interesting."""
    view.write("new", "root")
    view.write("both", "changed")
    view.do(lambda root: (root / "kept/file").unlink())
    view.do(lambda root: (root / "folder").mkdir())
    view.do(lambda root: os.chown(root / "folder", view.base + 1001, view.base + 1000))
    view.write("folder/user", "user", uid=1001)
    view.do(lambda root: os.chmod(root / "folder/user", 0o4755))
    view.do(lambda root: os.mkfifo(root / "fifo"))
    view.do(lambda root: os.symlink("/etc/passwd", root / "link"))


def listing(root: Path, base: int = 0) -> Listing:
    """Every name below with mode, owner and group (less *base*), contents or link target."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        data = b""
        if path.is_symlink():
            data = os.readlink(path).encode()
        elif path.is_file():
            data = path.read_bytes()
        found[str(path.relative_to(root))] = (
            status.st_mode,
            status.st_uid - base,
            status.st_gid - base,
            data,
        )
    return found


@METHODS
def test_a_layer_may_be_there_several_times(
    folder: Path, ids: Slot, lowers: tuple[Path, ...], method: OverlayMethod
) -> None:
    above, below = lowers

    with mounted(RootFs(lowers=(above, below, above, below), top=folder / "t"), ids, method=method) as view:  # fmt: skip
        assert listing(view.path, ids.base) == {
            "both": (0o100644, 0, 0, b"above"),
            "kept": (0o40755, 0, 0, b""),
            "kept/file": (0o100644, 1001, 1000, b"below"),
        }
    with mounted(RootFs(lowers=(below, above, below), top=folder / "u"), ids, method=method) as view:  # fmt: skip
        assert (view.path / "gone").read_text() == "below"
        assert (view.path / "both").read_text() == "below"


@METHODS
def test_each_method_shows_the_layers_and_leaves_the_same_top_with_real_ids(
    folder: Path, ids: Slot, lowers: tuple[Path, ...], method: OverlayMethod
) -> None:
    top = folder / method.name

    with mounted(RootFs(lowers=lowers, top=top), ids, method=method) as view:
        assert listing(view.path, ids.base) == {
            "both": (0o100644, 0, 0, b"above"),
            "kept": (0o40755, 0, 0, b""),
            "kept/file": (0o100644, 1001, 1000, b"below"),
        }
        change(view)

    assert listing(top / "up") == {
        "both": (0o100644, 0, 0, b"changed"),
        "fifo": (0o10644, 0, 0, b""),
        "folder": (0o40755, 1001, 1000, b""),
        "folder/user": (0o104755, 1001, 1001, b"user"),
        "kept": (0o40755, 0, 0, b""),
        "kept/file": (0o20000, 0, 0, b""),
        "link": (0o120777, 0, 0, b"/etc/passwd"),
        "new": (0o100644, 0, 0, b"root"),
    }
    assert (lowers[1] / "kept/file").read_text() == "below"


@METHODS
@pytest.mark.parametrize("tmpfs_ids", list(TmpfsIds), ids=lambda i: i.name.lower())
def test_a_top_in_memory_gives_the_same_view_however_it_gets_its_ids(
    ids: Slot, lowers: tuple[Path, ...], method: OverlayMethod, tmpfs_ids: TmpfsIds
) -> None:
    rootfs = RootFs(lowers=lowers, top=TmpfsTop(1 << 20))

    with mounted(rootfs, ids, method=method, tmpfs_ids=tmpfs_ids) as view:
        change(view)

        seen = listing(view.path, ids.base)
        assert seen["folder/user"] == (0o104755, 1001, 1001, b"user")
        assert seen["both"] == (0o100644, 0, 0, b"changed")
        assert "kept/file" not in seen
        with pytest.raises(OSError, match="No space left") as full:
            view.write("big", "x" * (2 << 20))
        assert full.value.errno == errno.ENOSPC


@METHODS
def test_a_lower_directory_is_renamed_with_redirects_and_exdev_without(
    folder: Path, ids: Slot, lowers: tuple[Path, ...], method: OverlayMethod
) -> None:
    plain = RootFs(lowers=lowers, top=folder / "plain")
    redirecting = RootFs(lowers=lowers, top=folder / "redirecting", redirect_dir=True)

    with mounted(plain, ids, method=method) as view:
        with pytest.raises(OSError, match="cross-device") as refused:
            view.do(lambda root: os.rename(root / "kept", root / "moved"))
        assert refused.value.errno == errno.EXDEV
    with mounted(redirecting, ids, method=method) as view:
        view.do(lambda root: os.rename(root / "kept", root / "moved"))
        assert (view.path / "moved/file").read_text() == "below"

    up = folder / "redirecting/up"
    assert os.getxattr(up / "moved", "trusted.overlay.redirect") == b"kept"
    assert stat.S_ISCHR((up / "kept").stat().st_mode)


@METHODS
def test_a_volatile_top_refuses_to_be_mounted_again_until_its_work_folder_is_fresh(
    folder: Path, ids: Slot, lowers: tuple[Path, ...], method: OverlayMethod
) -> None:
    top = folder / "top"
    with mounted(RootFs(lowers=lowers, top=top), ids, method=method) as view:
        view.write("new", "first")

    with pytest.raises(OSError, match=r".") as refused:
        with mounted(RootFs(lowers=lowers, top=top), ids, method=method):
            pass
    assert refused.value.errno == errno.EINVAL

    shutil.rmtree(top / "wk")
    with mounted(RootFs(lowers=lowers, top=top), ids, method=method) as view:
        assert (view.path / "new").read_text() == "first"


@METHODS
def test_nothing_is_attached_and_nothing_stays_open(
    folder: Path, ids: Slot, lowers: tuple[Path, ...], method: OverlayMethod
) -> None:
    mounts, fds = Path("/proc/self/mountinfo").read_text(), set(os.listdir("/proc/self/fd"))

    with mounted(RootFs(lowers=lowers, top=folder / "top"), ids, method=method) as view:
        assert Path("/proc/self/mountinfo").read_text() == mounts
        assert set(os.listdir("/proc/self/fd")) - fds == {str(view.fd)}
        assert not os.get_inheritable(view.fd)

    assert set(os.listdir("/proc/self/fd")) == fds


@METHODS
def test_many_layers_are_one_view(
    folder: Path, ids: Slot, method: OverlayMethod, lowers: tuple[Path, ...]
) -> None:
    stack = []
    for number in range(120):
        layer = folder / f"layer-with-a-long-name-{number:04}"
        layer.mkdir()
        (layer / "who").write_text(str(number))
        (layer / f"own-{number}").touch()
        stack.append(layer)

    with mounted(RootFs(lowers=tuple(stack), top=folder / "top"), ids, method=method) as view:
        assert (view.path / "who").read_text() == "0"
        assert len(os.listdir(view.path)) == 121


@METHODS
def test_device_nodes_and_overlay_attributes_of_our_own_are_refused_inside(
    folder: Path, ids: Slot, lowers: tuple[Path, ...], method: OverlayMethod
) -> None:
    """As a process of the user namespace, not as the host's root: only there is the range the whole world."""
    with mounted(RootFs(lowers=lowers, top=folder / "top"), ids, method=method) as view:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.fchdir(view.fd)
                linux.setns(ids.userns_fd, linux.CLONE_NEWUSER)
                os.setresgid(0, 0, 0)
                os.setresuid(0, 0, 0)
                refused = 0
                for attempt in (
                    lambda: os.mknod("disk", stat.S_IFBLK | 0o600, os.makedev(8, 0)),
                    lambda: os.setxattr("kept", "trusted.overlay.opaque", b"y"),
                ):
                    try:
                        attempt()
                    except PermissionError:
                        refused += 1
                code = 0 if refused == 2 else 1
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0


@METHODS
def test_nosuid_is_a_mount_flag_that_every_method_sets(
    folder: Path, ids: Slot, lowers: tuple[Path, ...], method: OverlayMethod
) -> None:
    for nosuid in (True, False):
        rootfs = RootFs(lowers=lowers, top=folder / f"{nosuid}")
        with mounted(rootfs, ids, method=method, nosuid=nosuid) as view:
            assert bool(os.fstatvfs(view.fd).f_flag & os.ST_NOSUID) is nosuid


def test_a_duplicate_shows_the_same_files_and_lives_without_the_first(
    folder: Path, ids: Slot, lowers: tuple[Path, ...]
) -> None:
    with mounted(RootFs(lowers=lowers, top=folder / "top"), ids) as view:
        second = mount.duplicate(view.fd)
        view.write("shared", "seen")
    try:
        assert Path(f"/proc/self/fd/{second}/shared").read_text() == "seen"
    finally:
        os.close(second)


def test_kernels_that_cannot_clone_a_detached_mount_get_a_duplicate_too(
    folder: Path, ids: Slot, lowers: tuple[Path, ...]
) -> None:
    with mounted(RootFs(lowers=lowers, top=folder / "top"), ids) as view:
        second = mount._duplicate_attached(view.fd)
        try:
            view.write("shared", "seen")
            assert Path(f"/proc/self/fd/{second}/shared").read_text() == "seen"
            assert (view.path / "both").read_text() == "above"
        finally:
            os.close(second)


def test_a_file_system_that_cannot_be_shifted_is_named(ids: Slot) -> None:
    with pytest.raises(OSError, match="idmap of /proc"):
        mount.clone_tree("/proc", ids.userns_fd)


def test_what_overlayfs_says_about_an_option_is_in_the_error() -> None:
    with pytest.raises(OSError, match="Bad value for 'redirect_dir'") as refused:
        os.close(mount.new_filesystem("overlay", [("redirect_dir", "maybe")]))

    assert refused.value.errno == errno.EINVAL


def test_a_missing_layer_is_named_and_nothing_stays_open(folder: Path, ids: Slot) -> None:
    fds = set(os.listdir("/proc/self/fd"))

    with pytest.raises(OSError, match="no-such-layer"):
        mount.overlay(RootFs(lowers=(folder / "no-such-layer",), top=folder / "top"), ids)

    assert set(os.listdir("/proc/self/fd")) == fds


def test_a_read_only_clone_refuses_writes(folder: Path) -> None:
    with closing(_Fd(mount.clone_tree(folder))) as clone:
        mount.protect(clone.number, read_only=True)

        with pytest.raises(OSError, match="Read-only"):
            Path(f"/proc/self/fd/{clone.number}/x").touch()


@dataclass(frozen=True, slots=True)
class _Fd:
    number: int

    def close(self) -> None:
        os.close(self.number)
