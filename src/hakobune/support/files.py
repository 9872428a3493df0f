"""Files that appear whole or not at all, and documents whose errors name file and key."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hakobune.errors import HakoError


class DocumentError(HakoError):
    """A TOML or JSON document cannot be read; the message names the file and the place in it."""


def write_atomically(path: Path, data: bytes, *, mode: int = 0o644, durable: bool = False) -> None:
    """Put *data* at *path* by rename, so that a reader sees the old bytes or the new ones.

    Args:
        durable: also survive a power loss (fsync of the file and of its folder).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "wb", closefd=True) as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            if durable:
                os.fsync(file.fileno())
        os.rename(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make renames inside *path* survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def parse_toml(data: bytes, *, name: str) -> dict[str, Any]:
    """Decode TOML that came from *name* (a path, for the message).

    Raises:
        DocumentError: not UTF-8 or not TOML; names the line and column.
    """
    import tomllib  # every command writes files; few read TOML

    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DocumentError(f"cannot read {name}", why=f"it is not UTF-8: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise DocumentError(
            f"cannot read {name}", why=f"it is not TOML: {error}", fix="correct that line"
        ) from error


def read_toml(path: Path) -> dict[str, Any]:
    """Read and decode a TOML file.

    Raises:
        DocumentError: the file cannot be opened or is not TOML.
    """
    try:
        return parse_toml(path.read_bytes(), name=str(path))
    except OSError as error:
        raise DocumentError(f"cannot read {path}", why=error.strerror or str(error)) from error
