"""The filter language of Google's lists (AIP-160) as far as Artifact Registry has it: a text to a predicate (pure).

`name="projects/…/web*" AND NOT annotations.team:blue`; comparisons ignore case, `*` stands for any text, `OR` binds
tighter than `AND`, as AIP-160 says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from hakobune.serving.errors import InvalidArgumentError

Record = Mapping[str, Any]
Predicate = Callable[[Record], bool]
MAX_LENGTH = 8192
_MAX_DEPTH = 50  # of parentheses and NOT

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<sign>\(|\)|!=|=|:)
      | (?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<word>(?:`[^`]*`|[^\s()"'=!:`])+)
    )""",
    re.VERBOSE,
)


def parse_filter(text: str, fields: Collection[str]) -> Predicate:
    """The predicate that *text* says; an empty text is true of everything.

    Args:
        fields: what may be asked for: `name`, `owner`, `annotations`, …

    Raises:
        InvalidArgumentError: *text* is no filter, or asks for another field.
    """
    if len(text) > MAX_LENGTH:
        raise InvalidArgumentError("it is too long", field="filter", why=f"{MAX_LENGTH} characters at most")  # fmt: skip
    parser = _Parser(text, fields)
    if parser.at_end():
        return lambda _: True
    predicate = parser.conjunction()
    if not parser.at_end():
        raise parser.error(f"nothing is expected at {parser.rest()!r}")
    return predicate


class _Parser:
    def __init__(self, text: str, fields: Collection[str]) -> None:
        self._text = text.strip()
        self._at = 0
        self._depth = 0
        self._fields = fields

    def at_end(self) -> bool:
        return self._at >= len(self._text)

    def rest(self) -> str:
        return self._text[self._at :].strip()

    def error(self, why: str) -> InvalidArgumentError:
        return InvalidArgumentError(
            f"{self._text!r} is no filter",
            field="filter",
            why=why,
            fix=f'FIELD="VALUE" with FIELD of {", ".join(self._fields)}; * stands for any text',
        )

    def conjunction(self) -> Predicate:
        parts = [self._disjunction()]
        while not self.at_end() and self._peek() != ")":
            if self._peek() == "AND":
                self._next()
            parts.append(self._disjunction())
        return parts[0] if len(parts) == 1 else lambda record: all(p(record) for p in parts)

    def _disjunction(self) -> Predicate:
        parts = [self._unary()]
        while self._peek() == "OR":
            self._next()
            parts.append(self._unary())
        return parts[0] if len(parts) == 1 else lambda record: any(p(record) for p in parts)

    def _unary(self) -> Predicate:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self.error("it is nested too deeply")
        try:
            return self._negation()
        finally:
            self._depth -= 1

    def _negation(self) -> Predicate:
        if self._peek() == "NOT":
            self._next()
            inner = self._unary()
            return lambda record: not inner(record)
        if self._peek() == "(":
            self._next()
            predicate = self.conjunction()
            if self._peek() != ")":
                raise self.error("a parenthesis is not closed")
            self._next()
            return predicate
        return self._restriction()

    def _restriction(self) -> Predicate:
        field, *keys = _parts(self._next())
        if field not in self._fields:
            raise self.error(f"{field!r} cannot be filtered by")
        if field == "annotations":
            return self._annotation(".".join(keys))
        operator = self._next() if self._peek() in ("=", "!=", ":") else ""
        if not operator or keys:
            raise self.error(f"{field} is compared with = or !=")
        matches = _wildcard(self._value())
        wanted = operator != "!="
        return lambda record: any(map(matches, _values(record, field))) == wanted

    def _annotation(self, key: str) -> Predicate:
        if not key:
            raise self.error("an annotation is named by annotations.KEY")
        name = _wildcard(key)
        operator = self._next() if self._peek() in ("=", "!=", ":") else ""
        value = _wildcard(self._value()) if operator else _wildcard("*")
        wanted = operator != "!="
        return lambda record: (
            any(name(k) and value(v) for k, v in (record.get("annotations") or {}).items())
            == wanted
        )

    def _value(self) -> str:
        """The text after an operator; an unquoted one ends at a blank and may hold any other sign."""
        if self.at_end():
            raise self.error("a value is missing at the end")
        found = re.compile(r"""\s*([^\s()"'`][^\s()]*)""").match(self._text, self._at)
        if found:
            self._at = found.end()
            return found[1]
        return _unquote(self._next())

    def _peek(self) -> str:
        found = _TOKEN.match(self._text, self._at)
        return found[0].strip() if found else ""

    def _next(self) -> str:
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            raise self.error(
                f"{self.rest()!r} cannot be read" if self.rest() else "it ends too soon"
            )
        self._at = found.end()
        return found[0].strip()


def _values(record: Record, field: str) -> Sequence[str]:
    """A field's value, or its values: a file may have several owners."""
    value = record.get(field, "")
    return value if isinstance(value, list) else [str(value)]


def _parts(word: str) -> list[str]:
    """`annotations.`external.link`` is annotations, external.link."""
    return [_unquote(part) for part in re.findall(r"`[^`]*`|[^.`]+", word)] or [""]


def _unquote(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'`":
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text


def _wildcard(text: str) -> Callable[[str], bool]:
    """Whether a text is *text*, in which `*` stands for any text; in time that grows with both lengths only."""
    head, *parts = text.casefold().split("*")
    if not parts:
        return lambda value: value.casefold() == head
    *middle, tail = parts

    def matches(value: str) -> bool:
        value = value.casefold()
        end = len(value) - len(tail)
        at = len(head)
        if end < at or not value.startswith(head) or not value.endswith(tail):
            return False
        for part in middle:  # the first place for each leaves most for the others
            at = value.find(part, at, end)
            if at < 0:
                return False
            at += len(part)
        return True

    return matches
