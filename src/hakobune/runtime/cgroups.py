"""The control groups of one installation, in every hierarchy that this machine has.

Hierarchies are descriptors, so nothing has to be mounted at a known place.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence

from hakobune.runtime import linux
from hakobune.runtime.cgroup import Cgroup
from hakobune.runtime.cgroup_files import children, exists, make_folders, read_text, remove_tree
from hakobune.runtime.cgroup_mounts import find_mounts, mount_v2

PARTS = ("system", "containers", "builds")
CONTROLLERS = ("memory", "cpu", "pids")
_PATH_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class Cgroups:
    """The hierarchies of this machine and one installation's part of them."""

    def __init__(self, installation: str, *, v2: int | None, v1: Mapping[str, int]) -> None:
        self._prefix = installation
        self.v2 = v2
        self.v1 = dict(v1)
        v2_controllers = read_text(v2, "cgroup.controllers").split() if v2 is not None else []
        self.controllers = {c: 2 for c in CONTROLLERS if c in v2_controllers}
        self.controllers.update({c: 1 for c in CONTROLLERS if c in v1})

    @classmethod
    def open(cls, installation: str, *, also: Sequence[str] = ()) -> Cgroups:
        """Find what the machine has. Without any cgroup file system groups have no effect but on `kill`.

        Args:
            also: further controllers of version 1 in whose trees groups shall be; nothing is limited there.
        """
        v1: dict[str, int] = {}
        v2: int | None = None
        for mount in find_mounts():
            if mount.controllers is None:
                v2 = v2 if v2 is not None else _open_folder(mount.path)
                continue
            for controller in (*CONTROLLERS, *also):
                if controller in mount.controllers and controller not in v1:
                    fd = _open_folder(mount.path)
                    if fd is not None:
                        v1[controller] = fd
        if v2 is None:
            v2 = mount_v2()
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
                    make_folders(fd, path, controllers=controllers)
                except FileNotFoundError:  # somebody else's `prune` came between
                    if attempt == 9:
                        raise
                else:
                    break
        return self.group(name)

    def names(self, part: str) -> tuple[str, ...]:
        """The groups in `INSTALLATION/PART`, in any hierarchy, sorted."""
        found = {n for fd in self._trees() for n in children(fd, f"{self._prefix}/{part}")}
        return tuple(sorted(found))

    def remove_all(self) -> bool:
        """Remove every empty group of the installation; says whether nothing is left."""
        gone = [remove_tree(fd, self._prefix) for fd in self._trees()]
        return all(gone)

    def prune(self) -> None:
        """Remove the installation's folders above groups if no group is in them: nothing stays when nothing runs."""
        for fd in self._trees():
            for path in (*(f"{self._prefix}/{part}" for part in PARTS), self._prefix):
                with contextlib.suppress(OSError):
                    os.rmdir(path, dir_fd=fd)

    def exists(self) -> bool:
        """Whether any group of the installation is there."""
        return any(exists(fd, self._prefix) for fd in self._trees())

    def _trees(self) -> Iterator[int]:
        if self.v2 is not None:
            yield self.v2
        yield from dict.fromkeys(self.v1.values())

    def _v2_controllers(self) -> tuple[str, ...]:
        return tuple(c for c, version in self.controllers.items() if version == 2)


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


def _open_folder(path: str) -> int | None:
    try:
        return os.open(path, _PATH_FLAGS)
    except OSError:
        return None
