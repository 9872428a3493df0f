"""What happens to containers and programs without being asked for. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from hakobune.runtime.container import ContainerStatus


class EventKind(StrEnum):
    """What can happen without being asked for, and the phases as they are reached."""

    CREATED = "created"
    STARTED = "started"
    FROZEN = "frozen"
    THAWED = "thawed"
    OOM = "oom"
    EXITED = "exited"
    REMOVED = "removed"
    PROGRAM_STARTED = "program_started"
    PROGRAM_EXITED = "program_exited"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened: to the container or program *subject*, at *time* (seconds since 1970).

    A container's event carries its status after it; a program's has only exit code and signal.
    """

    kind: EventKind
    subject: str
    time: float
    status: ContainerStatus | None = None
    exit_code: int | None = None
    signal: int | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Event:
        status = data.get("status")
        return cls(
            **{
                **data,
                "kind": EventKind(data["kind"]),
                "status": ContainerStatus.from_json(status) if status else None,
            }
        )
