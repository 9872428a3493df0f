"""Files that an option names; `-` is stdin."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from hakobune.errors import UsageError


def read_text(file: str) -> str:
    """The text of a file.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot read {file}", why=why) from error


def read_json(file: str) -> Any:
    """The JSON document of a file.

    Raises:
        UsageError: it cannot be read, or is something else.
    """
    try:
        return json.loads(read_text(file))
    except ValueError as error:
        raise UsageError(f"{file} is not JSON", why=str(error)) from error
