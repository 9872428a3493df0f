"""Changes of containers, each written to `containers/ID/state.json` before anybody is told of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace

from hakobune.runtime.adoption import Record, write_record
from hakobune.runtime.event import Event, EventKind
from hakobune.runtime.held import Held
from hakobune.runtime.process import boot_id


class Ledger:
    """Writes what containers are; *tell* gets every event."""

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self.boot_id = boot_id()
        self._tell = tell

    def change(self, held: Held, kind: EventKind, **changes: object) -> None:
        """Set fields of its status, write it, tell it."""
        held.status = replace(held.status, **changes)  # type: ignore[arg-type] # fields by name
        self.write(held)
        self.tell(held, kind)

    def write(self, held: Held) -> None:
        """Write what it is now; a folder that has gone is fine."""
        cable = held.berth.cable if held.berth else None
        record = Record(
            status=held.status,
            boot_id=self.boot_id,
            base=held.base,
            cable=cable.name if cable else "",
            cable_index=cable.index if cable else 0,
            attendant=(held.attendance.pid, held.attendance.start_time)
            if held.attendance
            else None,
        )
        with contextlib.suppress(FileNotFoundError):
            write_record(held.folder, record)

    def tell(self, held: Held, kind: EventKind) -> None:
        """Tell what has happened to it, with its status as it is now."""
        status = held.status
        self._tell(
            Event(
                kind=kind,
                subject=status.id,
                time=time.time(),
                status=status,
                exit_code=status.exit_code,
                signal=status.signal,
            )
        )
