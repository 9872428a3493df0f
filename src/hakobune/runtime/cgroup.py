"""One control group over v2, v1, hybrid and none, as five verbs: create, limit, freeze, kill, events (cgroups(7)).

It is one relative path (`INSTALLATION/containers/ID`) in every hierarchy that is used: the v2 tree, always,
for freezing, killing and membership (it can do these without a controller), and the v1 trees of those
controllers that v2 does not have.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from hakobune.runtime.cgroup_files import read_text, write_text
from hakobune.runtime.cgroup_limits import Limits, limit_files

_IN_MODIFY = 2


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
            write_text(fd, f"{self.path}/cgroup.procs", "0")

    def enter_beside(self) -> None:
        """Only what a runtime that makes groups itself knows nothing of: the v2 tree of a machine whose limits are v1's."""
        if self.v2 is not None and self.v1:
            write_text(self.v2, f"{self.path}/cgroup.procs", "0")

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
            write_text(self.v2, f"{self.path}/cgroup.kill", "1")

    def pids(self) -> tuple[int, ...]:
        """The processes of the group, as this pid namespace counts them."""
        for fd in [*([self.v2] if self.v2 is not None else []), *self.v1.values()]:
            with contextlib.suppress(OSError):
                return tuple(map(int, read_text(fd, f"{self.path}/cgroup.procs").split()))
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
        write_text(self.v2, f"{self.path}/cgroup.freeze", str(int(frozen)))
        deadline = time.monotonic() + 1.0
        while wanted not in read_text(self.v2, f"{self.path}/cgroup.events").splitlines():
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
        write_text(self._tree(controller), f"{self.path}/{file}", value)

    def _read(self, controller: str, file: str) -> str:
        return read_text(self._tree(controller), f"{self.path}/{file}")
