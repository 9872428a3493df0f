"""The file system as a sandbox sees it: its root with devices, kernel interfaces, masks and what its owner gives.

It is put together as host root: no place of it is reached by a path that the image can bend.
"""

from __future__ import annotations

import contextlib
import os
import stat

from hakobune.runtime import linux, mount
from hakobune.runtime.masks import MASKED_PATHS, READ_ONLY_PATHS
from hakobune.runtime.sandbox_plan import GivenFile, GivenMount, Plan
from hakobune.runtime.sandbox_stubs import shows_directory
from hakobune.runtime.sandbox_tree import INSIDE

_STAGING = "/dev/.hakobune"  # of mounts on their way to their places; gone before anything runs
_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}  # fmt: skip
_LINKS = (
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
)
_QUIET = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC


def build_view(plan: Plan) -> None:
    """Mount it all and make it this process's root; of the host's files nothing is left. In a mount namespace of its own."""
    root = mount.ATTACH_POINT
    mount.attach(plan.root_fd, root)
    os.umask(0)
    with linux.filesystem_ids(plan.base, plan.base):
        for name in ("proc", "sys", "dev"):
            _require_directory(f"{root}/{name}", name)
    linux.mount("proc", f"{root}/proc", "proc", _QUIET)
    linux.mount("sysfs", f"{root}/sys", "sysfs", _QUIET | linux.MS_RDONLY)
    _make_devices(root, plan.base)
    for path in MASKED_PATHS:
        place = root + path
        if os.path.isdir(place):
            linux.mount("tmpfs", place, "tmpfs", linux.MS_RDONLY)
        elif os.path.exists(place):
            linux.mount(f"{root}/dev/null", place, None, linux.MS_BIND)
    for path in READ_ONLY_PATHS:
        place = root + path
        if os.path.exists(place):
            linux.mount(place, place, None, linux.MS_BIND | linux.MS_REC)
            flags = linux.MS_BIND | linux.MS_REMOUNT | linux.MS_RDONLY | _QUIET
            linux.mount(None, place, None, flags)
    _show_given(root, plan)
    os.chdir(root)
    linux.pivot_root(".", ".")
    linux.umount(".", linux.MNT_DETACH)
    os.chdir("/")
    os.umask(0o022)


def _show_given(root: str, plan: Plan) -> None:
    """Mounts and files that the owner gives, parents first: a later one may lie in an earlier one."""
    if not plan.mounts and not plan.files:
        return
    staging = root + _STAGING
    os.mkdir(staging, 0o700)
    # Not noexec: a heredoc may be a script.
    linux.mount("tmpfs", staging, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=700")
    inside = os.open(root, os.O_PATH | os.O_DIRECTORY)
    both: list[GivenMount | GivenFile] = [*plan.mounts, *plan.files]
    given = sorted(both, key=lambda item: item.target.count("/"))
    for number, item in enumerate(given):
        place = f"{staging}/{number}"
        if item.target.startswith("/dev/"):
            _make_place(root + item.target, is_file=isinstance(item, GivenFile))
        elif any(_covers(earlier, item) for earlier in given[:number]):
            with linux.filesystem_ids(plan.base, plan.base):
                _make_in_another(inside, item)
        if isinstance(item, GivenFile):
            _write_given(place, item, plan.base)
            _bind(place, inside, item.target)
            if item.read_only:
                _make_read_only(inside, item.target)
        else:
            os.mkdir(place)
            mount.attach(item.fd, place)
            _bind_part(place, inside, item)
    os.close(inside)
    linux.umount(staging, linux.MNT_DETACH)
    os.rmdir(staging)


def _make_place(path: str, *, is_file: bool) -> None:
    """In /dev, which is made here and has no links to elsewhere; other places are made in the top by the owner."""
    os.makedirs(os.path.dirname(path) if is_file else path, exist_ok=True)
    if is_file:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


def _covers(earlier: GivenMount | GivenFile, given: GivenMount | GivenFile) -> bool:
    return isinstance(earlier, GivenMount) and given.target.startswith(f"{earlier.target}/")


def _is_folder(given: GivenMount | GivenFile) -> bool:
    return isinstance(given, GivenMount) and shows_directory(given)


def _make_in_another(inside: int, given: GivenMount | GivenFile) -> None:
    """What is missing of a place that lies in an earlier mount, which covers what the owner made in the top."""
    parts = given.target.strip("/").split("/")
    above = os.dup(inside)
    try:
        for number, name in enumerate(parts, start=1):
            path = "/".join(parts[:number])
            try:
                here = linux.openat2(inside, path, os.O_PATH, resolve=INSIDE)
            except FileNotFoundError:
                if number == len(parts) and not _is_folder(given):
                    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                    os.close(os.open(name, flags, 0o644, dir_fd=above))
                    return
                os.mkdir(name, 0o755, dir_fd=above)
                here = linux.openat2(inside, path, os.O_PATH, resolve=INSIDE)
            os.close(above)
            above = here
    finally:
        os.close(above)


def _write_given(path: str, given: GivenFile, base: int) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(given.data)
        os.fchown(file.fileno(), base + given.uid, base + given.gid)
        os.fchmod(file.fileno(), given.mode)


def _bind_part(place: str, inside: int, given: GivenMount) -> None:
    whole = os.open(place, os.O_PATH | os.O_DIRECTORY)
    part = linux.openat2(whole, given.source.strip("/") or ".", os.O_PATH, resolve=INSIDE)
    _bind(f"/proc/self/fd/{part}", inside, given.target)
    if given.read_only:
        _make_read_only(inside, given.target)
    os.close(part)
    os.close(whole)


def _make_read_only(inside: int, target: str) -> None:
    """The mount at *target*, which is opened anew: what was opened before is what lies under the mount."""
    shown = linux.openat2(inside, target.strip("/") or ".", os.O_PATH, resolve=INSIDE)
    flags = linux.MS_BIND | linux.MS_REMOUNT | linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV
    linux.mount(None, f"/proc/self/fd/{shown}", None, flags)
    os.close(shown)


def _bind(source: str, inside: int, target: str) -> None:
    """By descriptor: a link in the image must not lead to a place of the host."""
    place = linux.openat2(inside, target.strip("/") or ".", os.O_PATH, resolve=INSIDE)
    linux.mount(source, f"/proc/self/fd/{place}", None, linux.MS_BIND)
    os.close(place)


def _require_directory(path: str, name: str) -> None:
    """A link would be followed from the host's root: the image must not choose where we mount."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o755)
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        raise NotADirectoryError(f"/{name} of the image is not a directory")


def _make_devices(root: str, base: int) -> None:
    options = f"mode=755,size=64k,uid={base},gid={base}"
    linux.mount("tmpfs", f"{root}/dev", "tmpfs", linux.MS_NOSUID | linux.MS_NOEXEC, options)
    for name, (major, minor) in _DEVICES.items():
        os.mknod(f"{root}/dev/{name}", 0o20666, os.makedev(major, minor))
        os.chown(f"{root}/dev/{name}", base, base)
    for name in ("pts", "shm", "mqueue"):
        os.mkdir(f"{root}/dev/{name}")
    linux.mount(
        "devpts",
        f"{root}/dev/pts",
        "devpts",
        linux.MS_NOSUID | linux.MS_NOEXEC,
        f"newinstance,ptmxmode=0666,mode=0620,gid={base + 5}",
    )
    linux.mount("shm", f"{root}/dev/shm", "tmpfs", _QUIET, "mode=1777,size=64m")
    linux.mount("mqueue", f"{root}/dev/mqueue", "mqueue", _QUIET)
    for name, target in _LINKS:
        os.symlink(target, f"{root}/dev/{name}")
