"""What the sandboxes of one build have in common, one after the other: an id range, namespaces, a cgroup, a network."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread
from typing import TypeVar

from hakobune.runtime.cgroup import Cgroup
from hakobune.runtime.cgroup_limits import Limits
from hakobune.runtime.cgroup_mounts import favour_changes
from hakobune.runtime.cgroups import Cgroups
from hakobune.runtime.guest import guest_network
from hakobune.runtime.mount import RootFs
from hakobune.runtime.network import Network
from hakobune.runtime.resolver import make_hosts
from hakobune.runtime.sandbox import Sandbox
from hakobune.runtime.sandbox_error import SandboxError
from hakobune.runtime.sandbox_line import BUILD_PIDS
from hakobune.runtime.sandbox_plan import BUILDPACK_POWERS, GivenFile, GivenMount, Powers
from hakobune.runtime.sandbox_setup import remove_cgroup
from hakobune.runtime.slot import IdRange, Slot, hold_range, make_slot, take_range

_T = TypeVar("_T")

# Services have 100: a build that keeps every core busy takes a tenth of what a service gets.
BUILD_WEIGHT = 10
_GROUPS = "builds"


class Room:
    """Sandboxes from the same id range and on the same network; at most one lives at a time. From `open_room`.

    Attributes:
        slot: its namespaces, for mounts that are given to a sandbox.
        resolv_conf: for `/etc/resolv.conf`; empty without a network.
    """

    def __init__(
        self,
        slot: Slot,
        cgroup: Cgroup,
        start_cgroup: Callable[[], None],
        resolv_conf: str,
        at_end: Callable[[], None],
    ) -> None:
        self.slot = slot
        self.resolv_conf = resolv_conf
        self._cgroup = cgroup
        self._start_cgroup = start_cgroup
        self._at_end = at_end

    def leave_network(self) -> None:
        """No other sandbox follows: the network is given up beside other work. Once."""
        self._at_end()

    def sandbox(
        self,
        rootfs: RootFs,
        *,
        hostname: str = "build",
        powers: Powers = BUILDPACK_POWERS,
        mounts: Sequence[GivenMount] = (),
        files: Sequence[GivenFile] = (),
        is_last: bool = False,
    ) -> Sandbox:
        """A new sandbox; see `Sandbox`.

        Args:
            is_last: no other one follows: the network is given up when its processes end, beside other work.
        """
        return Sandbox(
            rootfs,
            slot=self.slot,
            hostname=hostname,
            cgroup=self._cgroup,
            powers=powers,
            mounts=mounts,
            files=files,
            at_start=self._start_cgroup,
            at_end=self._at_end if is_last else lambda: None,
        )


@contextmanager
def open_room(
    *, installation: str, run: Path, network: bool, memory_bytes: int | None = None
) -> Iterator[Room]:
    """A room while the block lasts.

    Args:
        installation: `Settings.installation`; its cgroups and its bridge are used.
        run: the installation's `run/`.
        network: whether what runs inside reaches the outside.
        memory_bytes: `None` is three quarters of the machine's memory.

    Raises:
        HakoError: a part of it cannot be had; nothing is left.
    """
    with ExitStack() as undo:
        held = take_range(installation, ephemeral=True)
        undo.callback(held.release)
        slot = _make_slot(held.ids)
        undo.callback(slot.close)
        favour_changes()
        cgroups = Cgroups.open(installation)
        undo.callback(cgroups.close)
        _sweep(cgroups)
        cgroup = cgroups.group(name := f"{_GROUPS}/{held.ids.base:x}")
        undo.callback(remove_cgroup, cgroup)
        memory = memory_bytes or default_memory_bytes(_physical_memory())
        limits = Limits(cpu_weight=BUILD_WEIGHT, pids=BUILD_PIDS, memory_bytes=memory)
        leave_network = undo.enter_context(_Background())
        resolv_conf = ""
        if network:
            guest = leave_network.after(guest_network(Network(installation, run), slot.netns_fd))
            resolv_conf = guest.resolv_conf
        yield Room(
            slot,
            cgroup,
            lambda: cgroups.create(name).limit(limits),
            resolv_conf,
            leave_network.begin,
        )


@contextmanager
def build_sandbox(
    rootfs: RootFs, *, installation: str, run: Path, network: bool, memory_bytes: int | None = None
) -> Iterator[Sandbox]:
    """The one sandbox of a build with buildpacks, in a room of its own. See `open_room`."""
    with open_room(
        installation=installation, run=run, network=network, memory_bytes=memory_bytes
    ) as room:
        files = {"/etc/hosts": make_hosts("build", None)}
        if network:
            files["/etc/resolv.conf"] = room.resolv_conf
        with room.sandbox(rootfs, is_last=True) as sandbox:
            sandbox.make_directory("/etc", mode=0o755, uid=0, gid=0)
            sandbox.make_directory("/tmp", mode=0o1777, uid=0, gid=0)
            for path, text in files.items():
                sandbox.write_file(path, text.encode(), mode=0o644, uid=0, gid=0)
            yield sandbox


def default_memory_bytes(physical: int) -> int:
    """What a build may use of a machine with *physical* bytes: services must be left with something."""
    return physical * 3 // 4


def _physical_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _make_slot(ids: IdRange) -> Slot:
    try:
        return make_slot(ids)
    except OSError as error:
        raise SandboxError(
            "cannot make the build's namespaces",
            why=error.strerror or str(error),
            fix="`hako doctor` tries what it needs",
        ) from error


def _sweep(cgroups: Cgroups) -> None:
    """Remove the groups of builds that were killed together with all that could clean up after them.

    A group is named by its id range; a range that can be held is nobody's, and what cannot be removed yet
    (its processes are dying) is for the next one.
    """
    for name in cgroups.names(_GROUPS):
        with contextlib.suppress(ValueError):
            held = hold_range(IdRange(int(name, 16)))
            if held is not None:
                cgroups.group(f"{_GROUPS}/{name}").remove()
                held.release()


class _Background:
    """Leaves contexts beside other work: the kernel takes 20 ms and more to take a network interface away."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._thread: Thread | None = None
        self._error: BaseException | None = None

    def after(self, context: contextlib.AbstractContextManager[_T]) -> _T:
        """Enter *context*; it is left by `begin`, or at the end of the block."""
        return self._stack.enter_context(context)

    def begin(self) -> None:
        """Leave from now on, in a thread; the end of the block waits for it."""
        self._thread = Thread(target=self._leave)
        self._thread.start()

    def __enter__(self) -> _Background:
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is None:
            self._stack.close()
            return
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _leave(self) -> None:
        try:
            self._stack.close()
        except BaseException as error:  # raised again where the block ends
            self._error = error
