"""The `[[registry]]` tables of podman's `registries.conf` (containers-registries.conf.5), version 2 of the format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hakobune.support.files import DocumentError, read_toml


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    location: str
    insecure: bool = False
    pulls: str = "all"  # or "digest-only", "tag-only"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryTable:
    """A `[[registry]]` table."""

    prefix: str
    location: str
    insecure: bool = False
    blocked: bool = False
    mirrors: tuple[Mirror, ...] = ()
    digest_only: bool = False


def read_tables(files: Iterable[Path]) -> tuple[RegistryTable, ...]:
    """Later files replace tables of the same prefix, as podman has it."""
    found: dict[str, RegistryTable] = {}
    for file in files:
        document = read_toml(file)
        for table in _tables(document.get("registry", []), file, "registry"):
            entry = _parse_table(table, file)
            found[entry.prefix] = entry
    return tuple(found.values())


def _parse_table(table: Mapping[str, Any], file: Path) -> RegistryTable:
    location, prefix = _text(table, "location", file), _text(table, "prefix", file)
    if not (location or prefix):
        raise DocumentError(
            f"cannot read {file}", why="a [[registry]] has neither `prefix` nor `location`"
        )
    return RegistryTable(
        prefix=prefix or location,
        location=location or prefix,
        insecure=_flag(table, "insecure", file),
        blocked=_flag(table, "blocked", file),
        digest_only=_flag(table, "mirror-by-digest-only", file),
        mirrors=tuple(
            Mirror(
                location=_text(mirror, "location", file),
                insecure=_flag(mirror, "insecure", file),
                pulls=_text(mirror, "pull-from-mirror", file) or "all",
            )
            for mirror in _tables(table.get("mirror", []), file, "registry.mirror")
        ),
    )


def _tables(value: object, file: Path, key: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise DocumentError(
            f"cannot read {file}", why=f"write {key} as [[{key}]] tables (version 2 of the format)"
        )
    return value


def _text(table: Mapping[str, Any], key: str, file: Path) -> str:
    value = table.get(key, "")
    if not isinstance(value, str):
        raise DocumentError(f"cannot read {file}", why=f"{key} must be a text")
    return value


def _flag(table: Mapping[str, Any], key: str, file: Path) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise DocumentError(f"cannot read {file}", why=f"{key} must be true or false")
    return value
