"""One line of what a container or program prints, as its log keeps it. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecord:
    """One line of output. `time` is RFC 3339 in UTC with microseconds; `partial` lines go on in the next record."""

    time: str
    container: str
    stream: str
    text: str
    partial: bool = False

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LogRecord:
        return cls(
            time=data["time"],
            container=data["container"],
            stream=data["stream"],
            text=data["text"],
            partial=bool(data.get("partial", False)),
        )
