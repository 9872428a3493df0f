"""Takes over what an earlier supervisor left in `containers/`; what becomes of each is decided in `adoption`."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from hakobune.errors import HakoError
from hakobune.runtime.adoption import Fate, Found, Record, choose_fate, read_found
from hakobune.runtime.attendance import Attendance
from hakobune.runtime.cable import Cable
from hakobune.runtime.cgroups import Cgroups
from hakobune.runtime.crun import Crun
from hakobune.runtime.departure import Departure
from hakobune.runtime.held import Held
from hakobune.runtime.log_book import LogBook
from hakobune.runtime.loop import Loop
from hakobune.runtime.pool import Berth, BerthPool
from hakobune.runtime.process import boot_id, open_process, read_stat
from hakobune.runtime.slot import IdRange, Slot, hold_range

logger = logging.getLogger(__name__)


class Takeover:
    """Makes `Held`s of folders, and of the processes that live in them."""

    def __init__(
        self,
        loop: Loop,
        *,
        crun: Crun,
        cgroups: Cgroups,
        pool: BerthPool,
        logs: LogBook,
        departure: Departure,
        containers: dict[str, Held],
    ) -> None:
        self._loop = loop
        self._crun = crun
        self._cgroups = cgroups
        self._pool = pool
        self._logs = logs
        self._departure = departure
        self._containers = containers
        self._boot_id = boot_id()

    def take_all(self, parent: Path) -> None:
        """Put every container whose folder is in *parent* among the containers, or clean up after it."""
        for folder in sorted(parent.iterdir()):
            if folder.is_dir():
                try:
                    self._take(read_found(folder), folder)
                except (HakoError, OSError):
                    logger.exception("a container could not be taken over: %s", folder.name)

    def _take(self, found: Found, folder: Path) -> None:
        pidfd = _open_found(found)
        fate = choose_fate(found, boot_id=self._boot_id, alive=pidfd is not None)
        if pidfd is not None and fate is not Fate.ADOPT:
            os.close(pidfd)
        group = self._cgroups.create(f"containers/{found.id}")
        if found.spec is None or found.record is None or fate is Fate.DISCARD:
            group.kill()
            self._crun.forget(found.id)
            self._departure.remove_group(group)
            shutil.rmtree(folder, ignore_errors=True)
            return
        held = Held(found.spec, folder, found.record.status, group, found.record.base)
        held.remove_at_end = found.spec.remove_on_exit
        self._containers[found.id] = held
        if fate is Fate.ADOPT:
            assert pidfd is not None
            self._adopt(held, found.record, pidfd)
        elif fate is Fate.ENDED:
            self._logs.open(held)  # its last words are lost with a reboot, not with a supervisor
            self._departure.ended(held, None)
        else:
            self._departure.remove_group(group)

    def _adopt(self, held: Held, record: Record, pidfd: int) -> None:
        pid = held.status.pid
        assert pid is not None
        held.lock_layers()
        self._logs.open(held)
        held.berth = _berth_of(pid, record, self._pool)
        if record.attendant is not None:
            held.attendance = Attendance.find(self._loop, *record.attendant)
        stat = read_stat(pid)
        if stat is not None and stat.parent == os.getpid():
            os.close(pidfd)
            self._departure.watch.child(held, pid)
        else:
            self._departure.watch.stranger(held, pidfd)
        self._departure.watch.memory(held)


def _open_found(found: Found) -> int | None:
    if found.record is None:
        return None
    pid, start_time = found.record.status.pid, found.record.status.start_time
    if pid is None or start_time is None:
        return None
    return open_process(pid, start_time)


def _berth_of(pid: int, record: Record, pool: BerthPool) -> Berth | None:
    """The berth of a living container, got back from the kernel."""
    ids = hold_range(IdRange(record.base))
    if ids is None:
        return None
    namespaces: list[int] = []
    try:
        for kind in ("user", "net"):
            namespaces.append(os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC))
    except FileNotFoundError:  # it is a zombie: they went with its life
        for fd in namespaces:
            os.close(fd)
        ids.release()
        return None
    slot = Slot(namespaces[0], namespaces[1], ids.ids)
    cable = None
    if record.status.address is not None:
        pool.addresses.reserve(record.status.address)
        cable = Cable(record.cable, record.cable_index, record.status.address)
    return Berth(slot, ids, cable)
