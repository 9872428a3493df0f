"""TOML that people write, read into a struct with every problem reported at once.

msgspec stops at the first type error; a person wants the list. So the document is checked field by field
against the struct, each problem named with its line and key, and converted only when nothing is wrong.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from hakobune.errors import HakoError
from hakobune.support.files import parse_toml

T = TypeVar("T", bound=msgspec.Struct)
Path = tuple[str | int, ...]
_Allows = Callable[[Path], bool]


class InvalidDocumentError(HakoError):
    """A document was read but says something it must not; holds one text a problem."""

    def __init__(self, name: str, problems: Sequence[str], *, fix: str = "") -> None:
        super().__init__(f"{name} is not valid", why="; ".join(problems), fix=fix)
        self.name = name
        self.problems = tuple(problems)


class TomlDocument(msgspec.Struct, frozen=True):
    """A decoded document beside its text, so that a problem can name the line."""

    name: str
    text: str
    values: dict[str, Any]
    problems: list[str] = msgspec.field(default_factory=list)

    @classmethod
    def parse(cls, data: bytes, *, name: str) -> TomlDocument:
        """Decode *data*, which came from the file *name*.

        Raises:
            DocumentError: not UTF-8 or not TOML.
        """
        return cls(name, data.decode("utf-8", "replace"), parse_toml(data, name=name))

    def complain(self, path: Path, problem: str) -> None:
        """Remember that the value at *path* is wrong."""
        line = find_line(self.text, path)
        place = f"{self.name}:{line}" if line else self.name
        key = show_path(path)
        self.problems.append(f"{place}: {key}: {problem}" if key else f"{place}: {problem}")

    def check(
        self, type_: type[msgspec.Struct], *, unknown_keys: bool, strict_below: Path | None = None
    ) -> None:
        """Remember everything in which the document differs from *type_*.

        Args:
            unknown_keys: keys that *type_* does not have are allowed.
            strict_below: a table in which they are never allowed.
        """

        def allows_unknown_keys(at: Path) -> bool:
            return unknown_keys and (
                strict_below is None or at[: len(strict_below)] != strict_below
            )

        self._check_table(self.values, type_, (), allows_unknown_keys)

    def to(self, type_: type[T], *, fix: str = "") -> T:
        """The checked document as *type_*.

        Raises:
            InvalidDocumentError: anything was complained about; all of it is named.
        """
        if self.problems:
            raise InvalidDocumentError(self.name, self.problems, fix=fix)
        try:
            return msgspec.convert(self.values, type_)
        except msgspec.ValidationError as error:
            raise InvalidDocumentError(self.name, [str(error)], fix=fix) from error

    def _check_table(
        self, table: dict[str, Any], type_: type[msgspec.Struct], at: Path, allows: _Allows
    ) -> None:
        fields = {f.encode_name: f for f in msgspec.structs.fields(type_)}
        for key, value in table.items():
            if key in fields:
                self._check_value(value, fields[key].type, (*at, key), allows)
            elif not allows(at):
                self.complain((*at, key), f"there is no such key{suggest(key, fields)}")
        for key, declared in fields.items():
            if declared.required and key not in table:
                meant = suggest(key, [k for k in table if k not in fields])
                self.complain(at, f"the key {key!r} is missing{meant}")

    def _check_value(self, value: Any, type_: Any, at: Path, allows: _Allows) -> None:
        match _without_none(inspect.type_info(type_)), value:
            case inspect.StructType(cls=cls), dict():
                self._check_table(value, cls, at, allows)
            case inspect.VarTupleType(item_type=inspect.StructType(cls=cls)), list():
                for index, item in enumerate(value):
                    self._check_value(item, cls, (*at, index), allows)
            case _:
                try:
                    msgspec.convert(value, type_)
                except msgspec.ValidationError as error:
                    self.complain(at, _plain(str(error)))


def read_document(data: bytes, type_: type[T], *, name: str, unknown_keys: bool = True) -> T:
    """Decode TOML into *type_*.

    Raises:
        DocumentError: not TOML.
        InvalidDocumentError: types, missing keys, and (unless *unknown_keys*) keys of no meaning.
    """
    document = TomlDocument.parse(data, name=name)
    document.check(type_, unknown_keys=unknown_keys)
    return document.to(type_)


def suggest(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the nearest of *known*, else nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""


def show_path(path: Path) -> str:
    """`order[1].group[0].version`, counted from one as people do."""
    text = ""
    for part in path:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def find_line(text: str, path: Path) -> int | None:
    """The line (from 1) on which the value at *path* is written, or the nearest thing around it."""
    best = (0, 0)
    for number, place in _places(text):
        depth = min(len(place), len(path))
        if place[:depth] == path[:depth] and depth > best[0]:
            best = (depth, number)
    return best[1] or None


_KEY = re.compile(
    r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*="""
)
_KEY_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")


def _places(text: str) -> Iterator[tuple[int, Path]]:
    """Each table header and `key =` with its line; multi-line values are passed over as text."""
    table: Path = ()
    counts: dict[Path, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("[") and (close := stripped.find("]")) > 0:
            is_array = stripped.startswith("[[")
            names = _KEY_PART.findall(stripped[: close + 1])
            table = _resolve(names[:-1], counts) + tuple(names[-1:])
            if is_array:
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            yield number, table
        elif match := _KEY.match(line):
            keys = tuple(part.strip("\"'") for part in _KEY_PART.findall(match[1]))
            yield number, (*table, *keys)


def _resolve(names: Sequence[str], counts: dict[Path, int]) -> Path:
    """A header's parents, each array of tables meaning its last element."""
    path: Path = ()
    for name in names:
        path = (*path, name.strip("\"'"))
        if path in counts:
            path = (*path, counts[path])
    return path


def _without_none(type_: inspect.Type) -> inspect.Type:
    """`X` for `X | None`: TOML has no null."""
    if isinstance(type_, inspect.UnionType):
        types = [t for t in type_.types if not isinstance(t, inspect.NoneType)]
        return types[0] if len(types) == 1 else type_
    return type_


def _plain(message: str) -> str:
    """msgspec's words without its own path."""
    return message.split(" - at `$")[0].replace("`", "'").rstrip()
