"""Named places where a test lets the process die as if by kill -9 (`HAKO_CRASH_POINT=NAME`); nothing otherwise."""

from __future__ import annotations

import os
import signal
from typing import Final

_NAME: Final = os.environ.get("HAKO_CRASH_POINT", "")


def crash_point(name: str) -> None:
    """Die here if the environment said so when the process began."""
    if _NAME and name == _NAME:
        os.kill(os.getpid(), signal.SIGKILL)
