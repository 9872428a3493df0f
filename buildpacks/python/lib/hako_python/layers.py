"""Layers keyed by named inputs, so that a miss can say which input changed.

The inputs stand whole in the layer's `[metadata]` (CNB buildpack.md "Layer Content Metadata").
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

try:
    from _sha2 import sha256  # type: ignore[import-not-found] # hashlib loads OpenSSL: 3 ms in every build
except ImportError:
    from hashlib import sha256


class Layer(NamedTuple):
    """One layer of this buildpack: the directory and the TOML file beside it."""

    path: Path
    launch: bool = False
    build: bool = False
    cache: bool = False

    @property
    def name(self) -> str:
        return self.path.name

    def kept_metadata(self) -> dict[str, Any]:
        """The `[metadata]` of the last build, empty if there is none or it cannot be read."""
        try:
            document = tomllib.loads(self._toml.read_text())
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
            return {}
        metadata = document.get("metadata")
        return metadata if isinstance(metadata, dict) else {}

    def write(self, metadata: Mapping[str, Any]) -> None:
        """Declare the layer for this build."""
        types = {"launch": self.launch, "build": self.build, "cache": self.cache}
        text = to_toml({"types": types, "metadata": dict(metadata)})
        self._toml.write_text(text)

    @property
    def _toml(self) -> Path:
        return self.path.with_name(f"{self.path.name}.toml")


def changed_inputs(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """What is different, in words, by name: `requirements.txt changed`, `python 3.13.5 → 3.13.6`."""
    reasons = []
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        if old is None:
            reasons.append(f"{name} is new")
        elif new is None:
            reasons.append(f"{name} is gone")
        elif _is_digest(old) or _is_digest(new):
            reasons.append(f"{name} changed")
        else:
            reasons.append(f"{name} {old or 'unset'} → {new or 'unset'}")
    return tuple(reasons)


def digest(data: bytes) -> str:
    """A content digest as inputs name it."""
    return f"sha256:{sha256(data).hexdigest()}"


def digest_of_file(path: Path) -> str:
    return digest(path.read_bytes())


def digest_of_tree(root: Path) -> str:
    """A digest of every file's path and content below *root*, without what tools leave there."""
    state = sha256()
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in ("__pycache__", ".git", "build", "dist"))
        for file in sorted(files):
            path = Path(folder, file)
            state.update(f"{path.relative_to(root)}\0".encode())
            if path.is_file():
                state.update(sha256(path.read_bytes()).digest())
    return f"sha256:{state.hexdigest()}"


def to_toml(document: Mapping[str, Any]) -> str:
    """TOML of nested tables, lists of tables, and scalars; enough for what a buildpack writes."""
    lines: list[str] = []
    _write_table(document, (), lines)
    return "\n".join(lines) + "\n"


def _write_table(table: Mapping[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    for key, value in table.items():
        if not _is_table(value) and not _is_table_list(value):
            lines.append(f"{_key(key)} = {_value(value)}")
    for key, value in table.items():
        name = ".".join(map(_key, (*path, key)))
        if _is_table(value):
            lines.append(f"[{name}]")
            _write_table(value, (*path, key), lines)
        elif _is_table_list(value):
            for item in value:
                lines.append(f"[[{name}]]")
                _write_table(item, (*path, key), lines)


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_table_list(value: object) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(map(_is_table, value))


def _key(key: str) -> str:
    bare = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
    return key if bare else _value(key)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    # A JSON string is a TOML basic string, except that TOML also wants DEL escaped.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _is_digest(text: str) -> bool:
    return text.startswith("sha256:")
