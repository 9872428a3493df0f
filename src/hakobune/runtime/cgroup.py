"""Control groups over v2, v1, hybrid and none, as five verbs: create, limit, freeze, kill, events (cgroups(7)).

A group is one relative path (`INSTALLATION/containers/ID`) in every hierarchy that is used: the v2 tree, always,
for freezing, killing and membership (it can do these without a controller), and the v1 trees of those
controllers that v2 does not have. Hierarchies are descriptors, so nothing has to be mounted at a known place.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from hakobune.runtime import linux

PARTS = ("system", "containers", "builds")
CONTROLLERS = ("memory", "cpu", "pids")
CPU_PERIOD_US = 100_000
_DEFAULT_V1_SHARES = 1024
_IN_MODIFY = 2
_PATH_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a group may use; `None` is "as much as there is". `cpu_weight` is v2's scale: 100 is everybody's."""

    memory_bytes: int | None = None
    cpus: float | None = None
    pids: int | None = None
    cpu_weight: int | None = None


@dataclass(frozen=True, slots=True)
class MountPoint:
    """One cgroup file system that is mounted: where, and which controllers (`None`: it is v2's)."""

    path: str
    controllers: tuple[str, ...] | None
    options: str = ""


def parse_mounts(mountinfo: str) -> tuple[MountPoint, ...]:
    """The cgroup mounts in a `/proc/self/mountinfo` (proc(5))."""
    found = []
    for line in mountinfo.splitlines():
        head, _, tail = line.partition(" - ")
        fields, rest = head.split(), tail.split(" ", 2)
        if len(fields) < 6 or len(rest) < 3:
            continue
        if rest[0] == "cgroup2":
            found.append(MountPoint(fields[4], None, rest[2]))
        elif rest[0] == "cgroup":
            found.append(MountPoint(fields[4], tuple(rest[2].split(","))))
    return tuple(found)


def limit_files(limits: Limits, controllers: Mapping[str, int]) -> tuple[tuple[str, str, str], ...]:
    """Controller, file and value to write, for controllers of versions 1 or 2."""
    files: list[tuple[str, str, str]] = []
    if limits.memory_bytes is not None:
        if controllers.get("memory") == 2:
            files.append(("memory", "memory.max", str(limits.memory_bytes)))
            files.append(("memory", "memory.swap.max", "0"))
        else:
            files.append(("memory", "memory.limit_in_bytes", str(limits.memory_bytes)))
    if limits.cpus is not None:
        quota = max(1000, int(limits.cpus * CPU_PERIOD_US))
        if controllers.get("cpu") == 2:
            files.append(("cpu", "cpu.max", f"{quota} {CPU_PERIOD_US}"))
        else:
            files.append(("cpu", "cpu.cfs_period_us", str(CPU_PERIOD_US)))
            files.append(("cpu", "cpu.cfs_quota_us", str(quota)))
    if limits.cpu_weight is not None:
        if controllers.get("cpu") == 2:
            files.append(("cpu", "cpu.weight", str(limits.cpu_weight)))
        else:
            shares = max(2, _DEFAULT_V1_SHARES * limits.cpu_weight // 100)
            files.append(("cpu", "cpu.shares", str(shares)))
    if limits.pids is not None:
        files.append(("pids", "pids.max", str(limits.pids)))
    return tuple(f for f in files if f[0] in controllers)


class Cgroups:
    """The hierarchies of this machine and one installation's part of them."""

    def __init__(self, installation: str, *, v2: int | None, v1: Mapping[str, int]) -> None:
        self._prefix = installation
        self.v2 = v2
        self.v1 = dict(v1)
        v2_controllers = _read(v2, "cgroup.controllers").split() if v2 is not None else []
        self.controllers = {c: 2 for c in CONTROLLERS if c in v2_controllers}
        self.controllers.update({c: 1 for c in CONTROLLERS if c in v1})

    @classmethod
    def open(cls, installation: str, *, also: Sequence[str] = ()) -> Cgroups:
        """Find what the machine has. Without any cgroup file system groups have no effect but on `kill`.

        Args:
            also: further controllers of version 1 in whose trees groups shall be; nothing is limited there.
        """
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            mounts = parse_mounts(file.read())
        v1: dict[str, int] = {}
        v2: int | None = None
        for mount in mounts:
            if mount.controllers is None:
                v2 = v2 if v2 is not None else _open_folder(mount.path)
                continue
            for controller in (*CONTROLLERS, *also):
                if controller in mount.controllers and controller not in v1:
                    fd = _open_folder(mount.path)
                    if fd is not None:
                        v1[controller] = fd
        if v2 is None:
            v2 = _mount_v2()
        return cls(installation, v2=v2, v1=v1)

    def close(self) -> None:
        """Give the descriptors up, with them every group that was made from here. Nothing on the machine changes."""
        for fd in self._trees():
            os.close(fd)
        self.v2, self.v1 = None, {}

    def group(self, name: str) -> Cgroup:
        """The group `INSTALLATION/NAME`, whether it exists or not."""
        path = f"{self._prefix}/{name}"
        return Cgroup(path, v2=self.v2, v1=self.v1, controllers=self.controllers)

    def create(self, name: str) -> Cgroup:
        """The group `INSTALLATION/NAME`, made where it is missing."""
        path = f"{self._prefix}/{name}"
        for fd in self._trees():
            controllers = self._v2_controllers() if fd == self.v2 else ()
            for attempt in range(10):
                try:
                    _make_folders(fd, path, controllers=controllers)
                except FileNotFoundError:  # somebody else's `prune` came between
                    if attempt == 9:
                        raise
                else:
                    break
        return self.group(name)

    def names(self, part: str) -> tuple[str, ...]:
        """The groups in `INSTALLATION/PART`, in any hierarchy, sorted."""
        found = {n for fd in self._trees() for n in _children(fd, f"{self._prefix}/{part}")}
        return tuple(sorted(found))

    def remove_all(self) -> bool:
        """Remove every empty group of the installation; says whether nothing is left."""
        gone = [_remove_tree(fd, self._prefix) for fd in self._trees()]
        return all(gone)

    def prune(self) -> None:
        """Remove the installation's folders above groups if no group is in them: nothing stays when nothing runs."""
        for fd in self._trees():
            for path in (*(f"{self._prefix}/{part}" for part in PARTS), self._prefix):
                with contextlib.suppress(OSError):
                    os.rmdir(path, dir_fd=fd)

    def exists(self) -> bool:
        """Whether any group of the installation is there."""
        return any(_exists(fd, self._prefix) for fd in self._trees())

    def _trees(self) -> Iterator[int]:
        if self.v2 is not None:
            yield self.v2
        yield from dict.fromkeys(self.v1.values())

    def _v2_controllers(self) -> tuple[str, ...]:
        return tuple(c for c, version in self.controllers.items() if version == 2)


@dataclass(slots=True)
class Cgroup:
    """One group."""

    path: str
    v2: int | None
    v1: Mapping[str, int]
    controllers: Mapping[str, int]
    _kept: list[int] = field(default_factory=list)

    def limit(self, limits: Limits) -> None:
        """Set limits. A controller that the machine lacks is passed over."""
        for controller, file, value in limit_files(limits, self.controllers):
            try:
                self._write(controller, file, value)
            except FileNotFoundError:  # swap accounting may be off
                continue

    def enter(self) -> None:
        """Put the calling process, and what it starts from now on, into the group."""
        trees = [*dict.fromkeys(self.v1.values())]
        for fd in [*([self.v2] if self.v2 is not None else []), *trees]:
            _write(fd, f"{self.path}/cgroup.procs", "0")

    def enter_beside(self) -> None:
        """Only what a runtime that makes groups itself knows nothing of: the v2 tree of a machine whose limits are v1's."""
        if self.v2 is not None and self.v1:
            _write(self.v2, f"{self.path}/cgroup.procs", "0")

    def freeze(self) -> None:
        """Stop every process; returns when they stand still. A frozen group can be killed."""
        self._set_frozen(frozen=True)

    def thaw(self) -> None:
        self._set_frozen(frozen=False)

    def kill(self) -> None:
        """SIGKILL to every process of the group; one that is gone or empty is fine."""
        if self.v2 is None:
            for pid in self.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return
        with contextlib.suppress(FileNotFoundError):
            _write(self.v2, f"{self.path}/cgroup.kill", "1")

    def pids(self) -> tuple[int, ...]:
        """The processes of the group, as this pid namespace counts them."""
        for fd in [*([self.v2] if self.v2 is not None else []), *self.v1.values()]:
            with contextlib.suppress(OSError):
                return tuple(map(int, _read(fd, f"{self.path}/cgroup.procs").split()))
        return ()

    def oom_kills(self) -> int:
        """How many processes were killed because the group was out of memory."""
        file = "memory.events" if self.controllers.get("memory") == 2 else "memory.oom_control"
        try:
            text = self._read("memory", file)
        except (FileNotFoundError, KeyError):
            return 0
        return sum(
            int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill ")
        )

    def oom_events(self) -> int | None:
        """A descriptor that becomes readable when the group runs out of memory; the caller closes it."""
        try:
            if self.controllers.get("memory") == 2:
                return self._inotify("memory.events")
            if "memory" in self.v1:
                return self._eventfd()
        except OSError:
            pass
        return None

    def remove(self) -> bool:
        """Remove the group if no process is in it any more; says whether it is gone."""
        gone = True
        for fd in [*([self.v2] if self.v2 is not None else []), *dict.fromkeys(self.v1.values())]:
            try:
                os.rmdir(self.path, dir_fd=fd)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                gone = False
        return gone

    def _set_frozen(self, *, frozen: bool) -> None:
        wanted = f"frozen {int(frozen)}"
        if self.v2 is None:
            for pid in self.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP if frozen else signal.SIGCONT)
            return
        _write(self.v2, f"{self.path}/cgroup.freeze", str(int(frozen)))
        deadline = time.monotonic() + 1.0
        while wanted not in _read(self.v2, f"{self.path}/cgroup.events").splitlines():
            if time.monotonic() > deadline:
                return  # a process in an uninterruptible sleep freezes when it wakes
            time.sleep(0.0002)

    def _eventfd(self) -> int:
        control = self._open("memory", "memory.oom_control", os.O_RDONLY)
        fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            self._write("memory", "cgroup.event_control", f"{fd} {control}")
        except OSError:
            os.close(fd)
            raise
        finally:
            os.close(control)
        return fd

    def _inotify(self, file: str) -> int:
        libc = ctypes.CDLL(None, use_errno=True)
        fd = int(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        path = f"/proc/self/fd/{self.v2}/{self.path}/{file}"
        if fd < 0 or libc.inotify_add_watch(fd, path.encode(), _IN_MODIFY) < 0:
            raise OSError(ctypes.get_errno(), "inotify")
        return fd

    def _tree(self, controller: str) -> int:
        if self.controllers.get(controller) == 2 and self.v2 is not None:
            return self.v2
        return self.v1[controller]

    def _open(self, controller: str, file: str, flags: int) -> int:
        return os.open(f"{self.path}/{file}", flags | os.O_CLOEXEC, dir_fd=self._tree(controller))

    def _write(self, controller: str, file: str, value: str) -> None:
        _write(self._tree(controller), f"{self.path}/{file}", value)

    def _read(self, controller: str, file: str) -> str:
        return _read(self._tree(controller), f"{self.path}/{file}")


def enter_clean_view(cgroups: Cgroups) -> None:
    """In a private mount namespace: make `/sys/fs/cgroup` what crun accepts on a hybrid machine.

    crun refuses hybrid hierarchies even when it shall not touch cgroups; merely unmounting `unified` makes it
    write plain files; and runc goes by the list of mounts, covered ones too. With v2 alone the view is left as it is.
    """
    if not cgroups.v1:
        return
    with contextlib.suppress(OSError):  # it is no mount of its own
        linux.umount("/sys/fs/cgroup", linux.MNT_DETACH)
    flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    linux.mount("tmpfs", "/sys/fs/cgroup", "tmpfs", flags, "mode=755")
    for controller in ("memory", "cpu", "cpuacct", "pids", "freezer", "devices"):
        place = f"/sys/fs/cgroup/{controller}"
        os.mkdir(place)
        with contextlib.suppress(OSError):  # mounted together with another one, or not there
            linux.mount("cgroup", place, "cgroup", flags, controller)


def favour_changes() -> None:
    """Let processes enter groups without waiting for a grace period of the kernel (4 to 18 ms each).

    The option `favordynmods` (Linux 6.0) is the whole machine's; other options of the mount are kept.
    """
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        mounts = parse_mounts(file.read())
    for mount in mounts:
        if mount.controllers is None and "favordynmods" not in mount.options.split(","):
            options = [o for o in mount.options.split(",") if o not in ("rw", "ro")]
            flags = linux.MS_REMOUNT | linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
            with contextlib.suppress(OSError):
                linux.mount(
                    "cgroup2", mount.path, "cgroup2", flags, ",".join([*options, "favordynmods"])
                )
            return


def _mount_v2() -> int | None:
    try:
        context = linux.fsopen("cgroup2")
    except OSError:
        return None
    try:
        linux.fsconfig(context, linux.FSCONFIG_CMD_CREATE)
        return linux.fsmount(context)
    except OSError:
        return None
    finally:
        os.close(context)


def _open_folder(path: str) -> int | None:
    try:
        return os.open(path, _PATH_FLAGS)
    except OSError:
        return None


def _make_folders(tree: int, path: str, *, controllers: tuple[str, ...]) -> None:
    parts = path.split("/")
    for depth in range(len(parts)):
        parent = "/".join(parts[:depth]) or "."
        if controllers:
            _write(tree, f"{parent}/cgroup.subtree_control", " ".join(f"+{c}" for c in controllers))
        with contextlib.suppress(FileExistsError):
            os.mkdir("/".join(parts[: depth + 1]), dir_fd=tree)


def _remove_tree(tree: int, path: str) -> bool:
    for name in _children(tree, path):
        _remove_tree(tree, f"{path}/{name}")
    try:
        os.rmdir(path, dir_fd=tree)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _exists(tree: int, path: str) -> bool:
    try:
        os.stat(path, dir_fd=tree)
    except FileNotFoundError:
        return False
    return True


def _children(tree: int, path: str) -> list[str]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=tree)
    except OSError:
        return []
    try:
        with os.scandir(fd) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    finally:
        os.close(fd)


def _write(tree: int, path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=tree)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def _read(tree: int, path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=tree)
    try:
        chunks = []
        while chunk := os.read(fd, 65536):
            chunks.append(chunk)
    except OSError as error:
        if error.errno == errno.ENODEV:  # removed since it was opened
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
        raise
    finally:
        os.close(fd)
    return b"".join(chunks).decode()
