"""A program beside the containers as the supervisor knows it. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramStatus:
    """A named host program that the supervisor keeps alive."""

    name: str
    pid: int | None
    running: bool
    restarts: int = 0
    exit_code: int | None = None
    log_path: str = ""
    argv: tuple[str, ...] = ()
    listen: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ProgramStatus:
        return cls(**{**data, "argv": tuple(data["argv"]), "listen": tuple(data["listen"])})
