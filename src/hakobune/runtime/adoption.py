"""What to do with what an earlier supervisor left: decided from its records and from what lives (facts: recipe §10)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from hakobune.runtime.container import ContainerError, ContainerSpec, ContainerStatus, Phase
from hakobune.support.files import write_atomically

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What `containers/ID/state.json` says: the last status, and where on this boot's kernel the container is."""

    status: ContainerStatus
    boot_id: str
    base: int
    cable: str = ""
    cable_index: int = 0
    attendant: tuple[int, int] | None = None  # pid and start time

    def to_json(self) -> dict[str, Any]:
        return {
            "version": _VERSION,
            "status": self.status.to_json(),
            "boot_id": self.boot_id,
            "base": self.base,
            "cable": self.cable,
            "cable_index": self.cable_index,
            "attendant": self.attendant,
        }


@dataclass(frozen=True, slots=True)
class Found:
    """A container's folder as an earlier supervisor left it; `None` stands for a file that is not there or not whole."""

    id: str
    spec: ContainerSpec | None
    record: Record | None


class Fate(Enum):
    """What becomes of a container that was found."""

    ADOPT = "adopt"
    """Its process lives: watch it on."""
    ENDED = "ended"
    """It has ended while nobody watched: keep it as stopped, exit code unknown."""
    KEEP = "keep"
    """It had stopped before: keep the record."""
    DISCARD = "discard"
    """It was never finished: nobody was told of it."""


def choose_fate(found: Found, *, boot_id: str, alive: bool) -> Fate:
    """Decide what becomes of *found*.

    Args:
        boot_id: this boot's; pids and start times of another mean nothing.
        alive: a process with the record's pid *and* start time exists.
    """
    if found.spec is None or found.record is None:
        return Fate.DISCARD
    status = found.record.status
    if status.phase is Phase.STOPPED:
        return Fate.KEEP
    if status.phase is Phase.CREATING or status.pid is None:
        return Fate.DISCARD
    if found.record.boot_id == boot_id and alive:
        return Fate.ADOPT
    return Fate.ENDED


def write_spec(folder: Path, spec: ContainerSpec) -> None:
    write_atomically(folder / "spec.json", json.dumps(spec.to_json()).encode(), mode=0o600)


def write_record(folder: Path, record: Record) -> None:
    """Replace `state.json` by rename."""
    write_atomically(folder / "state.json", json.dumps(record.to_json()).encode(), mode=0o640)


def read_found(folder: Path) -> Found:
    """Read one container's folder, whatever state it is in."""
    return Found(folder.name, _read_spec(folder / "spec.json"), _read_record(folder / "state.json"))


def _read_spec(path: Path) -> ContainerSpec | None:
    try:
        return ContainerSpec.from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError, ContainerError):
        return None


def _read_record(path: Path) -> Record | None:
    try:
        data = json.loads(path.read_bytes())
        status = data["status"]
        attendant = data.get("attendant")
        return Record(
            status=ContainerStatus.from_json(status),
            boot_id=data["boot_id"],
            base=data["base"],
            cable=data["cable"],
            cable_index=data["cable_index"],
            attendant=None if attendant is None else (int(attendant[0]), int(attendant[1])),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
