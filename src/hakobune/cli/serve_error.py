"""Why what serves could not be started or ended, in the words of its own log where it has any."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from hakobune.errors import HakoError

_LOG_LINES = 12


class ServeError(HakoError):
    """What serves cannot be started or ended."""


def why_it_ended(log: Sequence[str]) -> ServeError:
    """The controller's own last error from its *log*, if it logged one; else the log's last lines (pure)."""
    for line in reversed(log):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and record.get("event") == "controller ended":
            return ServeError(
                str(record["what"]), why=str(record.get("why", "")), fix=str(record.get("fix", ""))
            )
    return ServeError(
        "the controller does not start",
        why=last_lines(log),
        fix="`hako doctor` lists what this machine lacks",
    )


def read_lines(path: Path) -> list[str]:
    """A log's lines; none if it cannot be read."""
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def last_lines(lines: Sequence[str]) -> str:
    """The end of a log, for the why of an error."""
    return "\n       ".join(lines[-_LOG_LINES:]) or "it logged nothing"
