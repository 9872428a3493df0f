"""What a control group may use, and the files that say so in either version of cgroups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

CPU_PERIOD_US = 100_000
_DEFAULT_V1_SHARES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a group may use; `None` is "as much as there is". `cpu_weight` is v2's scale: 100 is everybody's."""

    memory_bytes: int | None = None
    cpus: float | None = None
    pids: int | None = None
    cpu_weight: int | None = None


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
