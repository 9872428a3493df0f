"""Amounts of CPU and memory as Kubernetes writes them."""

from __future__ import annotations

import re
from decimal import Decimal

from hakobune.serving.errors import InvalidArgumentError

_UNITS = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)([kMGT]|[KMGT]i)?")
_CPU = re.compile(r"(\d+(?:\.\d+)?)(m)?")
MIN_MEMORY_BYTES = 16 * 2**20


def parse_memory(text: str, *, field: str) -> int:
    """Bytes of `512Mi`.

    Raises:
        InvalidArgumentError: no amount, or less than any program needs.
    """
    match = _MEMORY.fullmatch(text)
    if match is None:
        raise InvalidArgumentError(f"{text!r} is no amount of memory", field=field, fix="512Mi")
    size = int(Decimal(match[1]) * _UNITS[match[2] or ""])
    if size < MIN_MEMORY_BYTES:
        raise InvalidArgumentError(f"{text} is less than 16Mi", field=field)
    return size


def parse_cpu(text: str, *, field: str) -> float:
    """CPUs in `1`, `0.5` or `500m`.

    Raises:
        InvalidArgumentError: no amount, or less than 0.08 (Cloud Run's least).
    """
    match = _CPU.fullmatch(text)
    if match is None:
        raise InvalidArgumentError(f"{text!r} is no amount of CPU", field=field, fix="1")
    cpus = float(match[1]) / (1000 if match[2] else 1)
    if cpus < 0.08:
        raise InvalidArgumentError(f"{text} is less than 0.08 CPU", field=field)
    return cpus
