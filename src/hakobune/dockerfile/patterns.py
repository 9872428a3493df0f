"""Globs as Docker knows them: Go's `filepath.Match` for sources, and sets of patterns with `**` and `!` for everything else.

Paths are relative, separated by single slashes, without `.` and `..`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from posixpath import normpath

from msgspec import Struct, field

from hakobune.dockerfile.errors import TextError

_WILDCARDS = frozenset("*?[")
_CACHE_LIMIT = 20_000
_STAR, _FOLDERS, _ANYTHING = "[^/]*", "(?:.*/)?", ".*"
_MOST_WILDCARDS = 3


def has_wildcards(path: str) -> bool:
    """Whether a source is a glob; an escaped wildcard is none."""
    at = 0
    while at < len(path):
        if path[at] == "\\":
            at += 1
        elif path[at] in _WILDCARDS:
            return True
        at += 1
    return False


@lru_cache(maxsize=1024)
def glob_matcher(pattern: str) -> Callable[[str], object]:
    r"""A test for whole paths: `*` and `?` do not match a slash, `[a-z]` and `[^a]` are classes, `\` takes the next one literally.

    Raises:
        TextError: a class that is not closed or empty, or an escape at the end.
    """
    return _matcher(_Translation(pattern).run(double_stars=False))


def _matcher(parts: list[str]) -> Callable[[str], object]:
    """A test for whole paths, made of regular expressions for one character each and the three wildcards.

    Python's engine tries all ways to share a path among wildcards: with more than a few of them, a hostile pattern would take it for ever.
    """
    if sum(part in (_STAR, _FOLDERS, _ANYTHING) for part in parts) <= _MOST_WILDCARDS:
        return re.compile("".join(parts)).fullmatch
    steps = [
        part if part in (_STAR, _FOLDERS, _ANYTHING) else re.compile(part).fullmatch
        for part in parts
    ]
    return lambda path: _fits(steps, path)


def _fits(steps: Sequence[str | Callable[[str], object]], path: str) -> bool | None:
    """The same in time proportional to path times pattern: all places that can be reached, step by step."""
    places = {0}
    for step in steps:
        if callable(step):
            places = {at + 1 for at in places if at < len(path) and step(path[at])}
        elif step == _FOLDERS:
            first = min(places, default=len(path))
            places |= {at + 1 for at in range(first, len(path)) if path[at] == "/"}
        else:
            stop = "/" if step == _STAR else "\n"
            reached: set[int] = set()
            for at in sorted(places):
                while at not in reached:
                    reached.add(at)
                    if at == len(path) or path[at] == stop:
                        break
                    at += 1
            places = reached
    return True if len(path) in places else None


class _Translation(Struct):
    """One pattern on its way to a regular expression."""

    pattern: str
    at: int = 0
    parts: list[str] = field(default_factory=list)

    def run(self, *, double_stars: bool) -> list[str]:
        while self.at < len(self.pattern):
            char = self._take()
            if char == "*" and double_stars and self._peek() == "*":
                self._double_star()
            elif char == "*":
                self.parts.append(_STAR)
            elif char == "?":
                self.parts.append("[^/]")
            elif char == "[":
                self._class()
            elif char == "\\":
                self.parts.append(re.escape(self._escaped()))
            else:
                self.parts.append(re.escape(char))
        return self.parts

    def _peek(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def _take(self) -> str:
        char = self._peek()
        self.at += 1
        return char

    def _double_star(self) -> None:
        """`**/` is any number of folders, none included; `**` at the end is everything."""
        is_first = self.at == 1
        self._take()
        if self._peek() == "/":
            self._take()
        elif is_first and not has_wildcards(self.pattern[self.at :]):
            self.parts.append(_ANYTHING)  # "**name": whatever ends in it
            return
        self.parts.append(_FOLDERS if self._peek() else _ANYTHING)

    def _escaped(self) -> str:
        if not self._peek():
            raise self._bad("it ends with a backslash")
        return self._take()

    def _class(self) -> None:
        negated = self._peek() == "^"
        if negated:
            self._take()
        ranges: list[str] = []
        while self._peek() != "]" or not ranges:
            low = self._class_char()
            high = low
            if self._peek() == "-":
                self._take()
                high = self._class_char()
            if low <= high:
                ranges.append(f"{re.escape(low)}-{re.escape(high)}")
            else:
                ranges.append("")  # a range that runs backwards matches nothing
        self._take()
        inside = "".join(ranges)
        if inside:
            self.parts.append(f"[{'^' if negated else ''}{inside}]")
        else:
            self.parts.append("." if negated else "(?!)")

    def _class_char(self) -> str:
        char = self._take()
        if char == "\\":
            return self._escaped()
        if char in ("", "-", "]"):
            raise self._bad("a [ is not closed, or holds a - or ] that is not escaped")
        return char

    def _bad(self, why: str) -> TextError:
        return TextError(
            f"invalid pattern {self.pattern!r}: {why}",
            near=self.pattern,
            fix=r"write \[ for the character itself",
        )


class Pattern(Struct, frozen=True):
    """One line of an ignore file, or one `--exclude`.

    Attributes:
        text: cleaned, without `!`.
        is_exception: it began with `!`.
        line: where it stands in its file, 0 if in none.
    """

    text: str
    is_exception: bool
    matcher: Callable[[str], object]
    line: int = 0

    @classmethod
    def parse(cls, text: str, line: int = 0, *, rooted: bool = True) -> Pattern | None:
        """Read a pattern; None if it is empty.

        Args:
            rooted: a slash at its beginning means nothing; else a pattern with one fits no path (BuildKit's `--exclude`).

        Raises:
            TextError: `!` alone, or a pattern that cannot be understood.
        """
        text = text.strip()
        is_exception = text.startswith("!")
        if is_exception:
            text = text[1:].strip()
            if not text:
                raise TextError("! stands alone", near="!", fix="write !PATTERN")
        if not text:
            return None
        text = normpath(re.sub("/+", "/", text))
        if rooted and len(text) > 1:
            text = text.removeprefix("/")
        glob_matcher(text.replace("**", "*"))  # its syntax; `**` is no special case of it
        return cls(text, is_exception, _matcher(_Translation(text).run(double_stars=True)), line)


class PatternSet:
    """Patterns of which the last that fits decides; what a pattern says about a folder holds for all below it.

    Not to be used by several threads at once.
    """

    def __init__(self, patterns: Iterable[Pattern]) -> None:
        self.patterns = tuple(patterns)
        self.has_exceptions = any(pattern.is_exception for pattern in self.patterns)
        self._folders: dict[str, tuple[bool, ...]] = {}

    @classmethod
    def parse(cls, texts: Iterable[str], *, rooted: bool = True) -> PatternSet:
        """From texts such as those of `--exclude`.

        Args:
            rooted: see `Pattern.parse`.

        Raises:
            TextError: one of them cannot be understood.
        """
        return cls(
            found for text in texts if (found := Pattern.parse(text, rooted=rooted)) is not None
        )

    def matches(self, path: str) -> bool:
        """Whether the path, or a folder above it, is meant and no later exception takes it back."""
        return self.deciding(path) is not None

    def deciding(self, path: str) -> Pattern | None:
        """The pattern because of which the path is meant, or None."""
        decided: Pattern | None = None
        for pattern, fits in zip(self.patterns, self._fits(path), strict=True):
            if fits:
                decided = None if pattern.is_exception else pattern
        return decided

    def _fits(self, path: str) -> tuple[bool, ...]:
        """For each pattern whether it fits the path or something above it."""
        folder, _, _ = path.rpartition("/")
        above = self._fits_folder(folder) if folder else (False,) * len(self.patterns)
        matched = False
        fits: list[bool] = []
        for pattern, above_fits in zip(self.patterns, above, strict=True):
            # A pattern that could not change anything is not asked.
            fit = above_fits or (
                pattern.is_exception == matched and pattern.matcher(path) is not None
            )
            fits.append(fit)
            if fit:
                matched = not pattern.is_exception
        return tuple(fits)

    def _fits_folder(self, path: str) -> tuple[bool, ...]:
        known = self._folders.get(path)
        if known is None:
            if len(self._folders) > _CACHE_LIMIT:
                self._folders.clear()
            known = self._folders[path] = self._fits(path)
        return known
