"""The installation's one secret on disk, from which every other key follows; the database alone opens nothing.

It belongs to the registry's metadata: a backup of one without the other cannot verify tokens or read upstream passwords.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Final

from hakobune.errors import HakoError
from hakobune.support.files import sync_folder

KEY_BYTES: Final = 32


class MasterKeyError(HakoError):
    """The master key cannot be used."""


class MasterKey:
    """32 secret bytes. `repr` does not show them."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def derive(self, purpose: str, salt: bytes = b"") -> bytes:
        """A key of 32 bytes for one *purpose* (HKDF-Expand of RFC 5869, one block)."""
        return hmac.digest(self._secret, purpose.encode() + b"\0" + salt + b"\1", hashlib.sha256)


def master_key_path(home: Path) -> Path:
    """Where the installation at *home* keeps it."""
    return home / "registry" / "master.key"


def load_master_key(path: Path) -> MasterKey:
    """The key at *path*; made, readable by its owner alone, when there is none. Safe for several processes at once.

    Raises:
        MasterKeyError: others may read it, it is damaged, or this user may not read it.
    """
    try:
        return MasterKey(_read(path))
    except FileNotFoundError:
        _make(path)
        return MasterKey(_read(path))
    except PermissionError as error:
        raise MasterKeyError(
            f"this user may not read {path}", why="it belongs to who runs the registry"
        ) from error


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with open(descriptor, "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        data = file.read(KEY_BYTES + 1)
    if mode & 0o077:
        raise MasterKeyError(
            f"others may read {path}",
            why="whoever has it can make any token",
            fix=f"chmod 600 {path}",
        )
    if len(data) != KEY_BYTES:
        raise MasterKeyError(
            f"{path} is no master key",
            why=f"one has {KEY_BYTES} bytes",
            fix="restore it from a backup",
        )
    return data


def _make(path: Path) -> None:
    """By link, so that of two makers one wins and nobody reads half a key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass  # another process was first: its key is the key
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)
