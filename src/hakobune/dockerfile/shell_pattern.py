"""Patterns of `${x#p}`, `${x%p}` and `${x/p/r}`: literals, `?` and `*`, which do not match a newline.

Bracket expressions are literal text, as in BuildKit. Matching takes time proportional to text times pattern, whatever the pattern.
"""

from __future__ import annotations

from enum import Enum

from msgspec import Struct

from hakobune.dockerfile.errors import TextError


class _Wildcard(Enum):
    ONE = "?"
    ANY = "*"


_Token = str | _Wildcard


class ShellPattern(Struct, frozen=True):
    """A parsed pattern; a token is one character or a wildcard."""

    tokens: tuple[_Token, ...]

    @classmethod
    def parse(cls, text: str) -> ShellPattern:
        r"""Read a pattern in which `\*`, `\?` and `\\` are literal and `\/` and `\}` stand for `/` and `}`.

        Raises:
            TextError: a backslash before anything else.
        """
        tokens: list[_Token] = []
        rest = iter(text)
        for char in rest:
            if char == "*":
                tokens.append(_Wildcard.ANY)
            elif char == "?":
                tokens.append(_Wildcard.ONE)
            elif char == "\\":
                escaped = next(rest, "")
                if escaped not in ("*", "?", "\\", "/", "}"):
                    raise TextError(
                        f"invalid pattern {text!r}: a backslash stands before {escaped!r}",
                        near=text,
                        fix=r"only \* \? \\ \/ and \} are escapes in a pattern",
                    )
                tokens.append(escaped)
            else:
                tokens.append(char)
        return cls(tuple(tokens))

    def reversed(self) -> ShellPattern:
        """The pattern of the same texts read backwards."""
        return ShellPattern(self.tokens[::-1])

    def match_end(self, text: str, start: int, *, longest: bool) -> int | None:
        """Where a match that begins at `start` ends, or None."""
        ends = {start}
        for token in self.tokens:
            if not ends:
                return None
            ends = self._after(token, text, ends)
        if not ends:
            return None
        return max(ends) if longest else min(ends)

    @staticmethod
    def _after(token: _Token, text: str, ends: set[int]) -> set[int]:
        if token is _Wildcard.ANY:
            reached: set[int] = set()
            for end in sorted(ends):
                while end not in reached:
                    reached.add(end)
                    if end == len(text) or text[end] == "\n":
                        break
                    end += 1
            return reached
        if token is _Wildcard.ONE:
            return {end + 1 for end in ends if end < len(text) and text[end] != "\n"}
        return {end + 1 for end in ends if end < len(text) and text[end] == token}


def remove_prefix(text: str, pattern: str, *, longest: bool) -> str:
    """`${x#p}`, or `${x##p}` if longest."""
    end = ShellPattern.parse(pattern).match_end(text, 0, longest=longest)
    return text if end is None else text[end:]


def remove_suffix(text: str, pattern: str, *, longest: bool) -> str:
    """`${x%p}`, or `${x%%p}` if longest."""
    end = ShellPattern.parse(pattern).reversed().match_end(text[::-1], 0, longest=longest)
    return text if end is None else text[: len(text) - end]


def replace(text: str, pattern: str, replacement: str, *, everywhere: bool) -> str:
    """`${x/p/r}`, or `${x//p/r}` if everywhere: leftmost, longest matches."""
    matcher = ShellPattern.parse(pattern)
    parts: list[str] = []
    position, matched_to = 0, -1
    while position <= len(text):
        end = matcher.match_end(text, position, longest=True)
        # An empty match right after another does not count.
        if end is None or (end == position == matched_to):
            parts.append(text[position : position + 1])
            position += 1
            continue
        parts.append(replacement)
        matched_to = end
        if not everywhere:
            return "".join(parts) + text[end:]
        if end == position:
            parts.append(text[position : position + 1])
            position += 1
        else:
            position = end
    return "".join(parts)
