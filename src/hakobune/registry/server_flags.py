"""The command line of `python -m hakobune.registry.server`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hakobune.errors import UsageError

_MOST_WORKERS: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """The command line. *key* is None if it is in the certificate's file."""

    workers: int
    certificate: Path | None
    key: Path | None


def read_flags(arguments: Sequence[str]) -> Flags:
    """Read `--workers N --tls-cert FILE --tls-key FILE`; argparse would cost every worker a megabyte.

    Raises:
        UsageError: it is something else.
    """
    known = {"--workers": "", "--tls-cert": "", "--tls-key": ""}
    rest: list[str] = []
    for argument in arguments:
        rest += argument.split("=", 1) if argument.startswith("--") else [argument]
    while rest:
        flag, *rest = rest
        if flag not in known or not rest:
            raise UsageError(
                f"cannot understand {flag!r}",
                fix=f"the flags are {', '.join(known)}, each with a value",
            )
        known[flag], *rest = rest
    count = known["--workers"] or str(len(os.sched_getaffinity(0)))
    if not count.isdecimal() or not 0 < int(count) <= _MOST_WORKERS:
        raise UsageError(f"cannot start {count} workers", fix=f"1 to {_MOST_WORKERS}")
    certificate, key = known["--tls-cert"], known["--tls-key"]
    return Flags(
        workers=int(count),
        certificate=Path(certificate) if certificate else None,
        key=Path(key) if key else None,
    )
