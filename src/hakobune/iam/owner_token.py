"""The owner's token: one long-lived secret in a file that its owner alone may read."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from hakobune.support.files import write_atomically

OWNER_TOKEN_PREFIX: Final = "hako-"


def owner_token_path(home: Path) -> Path:
    """Where the installation at *home* keeps it."""
    return home / "serving" / "admin.token"


def load_token(path: Path) -> str:
    """The installation's token; made (readable by its owner alone) when there is none."""
    found = read_token(path)
    if found is None:
        found = OWNER_TOKEN_PREFIX + secrets.token_urlsafe(32)
        write_atomically(path, found.encode() + b"\n", mode=0o600, durable=True)
    return found


def read_token(path: Path) -> str | None:
    """The token that is there now."""
    try:
        return path.read_text().strip() or None
    except FileNotFoundError:
        return None
