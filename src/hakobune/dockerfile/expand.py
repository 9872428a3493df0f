"""Words of a Dockerfile: quotes, escapes and variables (Dockerfile reference "Environment replacement").

The same rules as BuildKit's: `$x ${x} ${x:-w} ${x-w} ${x:+w} ${x+w} ${x:?w} ${x?w} ${x#p} ${x##p} ${x%p} ${x%%p} ${x/p/r} ${x//p/r}`,
nested anywhere. Where each instruction uses them is `substitute.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from hakobune.dockerfile import shell_pattern
from hakobune.dockerfile.errors import TextError

SPECIAL_PARAMETERS = "@*#?-$!0"
_BAD_SUBSTITUTION_FIX = r"write ${NAME}, or \${ for the two characters themselves"


class Expansion(Struct, frozen=True):
    """What came out.

    Attributes:
        text: the whole, quotes and escapes taken away.
        words: the same, split at blanks that are not quoted.
        used, missing: names of variables that were asked for, set and not set.
    """

    text: str
    words: tuple[str, ...]
    used: frozenset[str]
    missing: frozenset[str]


def expand(text: str, variables: Mapping[str, str], escape: str = "\\") -> str:
    """Replace variables and take quotes and escapes away, as one word however many blanks it has.

    Raises:
        TextError: an open quote or brace, an unknown operator, or `${x:?message}` of a variable that is not set.
    """
    return expansion(text, variables, escape).text


def expand_words(text: str, variables: Mapping[str, str], escape: str = "\\") -> tuple[str, ...]:
    """Like `expand`, split at blanks that are not quoted (also those that came with a variable's value)."""
    return expansion(text, variables, escape).words


def expansion(
    text: str,
    variables: Mapping[str, str],
    escape: str = "\\",
    *,
    keep_quotes: bool = False,
    keep_escapes: bool = False,
    quotes_are_text: bool = False,
    keep_unset: bool = False,
) -> Expansion:
    """Expand with all details.

    Args:
        keep_quotes: quotes quote, and stay in the result.
        keep_escapes: escapes escape, and stay in the result.
        quotes_are_text: quotes do nothing (bodies of heredocs).
        keep_unset: `$x` stays as it is if x is not set.
    """
    reader = _Reader(
        text=text,
        variables=variables,
        escape=escape,
        keep_quotes=keep_quotes,
        keep_escapes=keep_escapes,
        quotes_are_text=quotes_are_text,
        keep_unset=keep_unset,
    )
    piece = reader.read_until("")
    return Expansion(
        piece.text(), tuple(piece.words), frozenset(reader.used), frozenset(reader.missing)
    )


class _Piece(Struct):
    """A result while it grows, whole and split into words."""

    chars: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    _word: list[str] = field(default_factory=list)

    def text(self) -> str:
        return "".join(self.chars)

    def add_open(self, text: str) -> None:
        """Text whose blanks separate words."""
        self.chars.append(text)
        for char in text:
            if char.isspace():
                self.end_word()
            else:
                self._word.append(char)

    def add_quoted(self, text: str) -> None:
        """Text whose blanks are part of the word."""
        self.chars.append(text)
        self._word.append(text)

    def end_word(self) -> None:
        if word := "".join(self._word):
            self.words.append(word)
        self._word.clear()


class _Reader(Struct, kw_only=True):
    """Reads one text from left to right."""

    text: str
    variables: Mapping[str, str]
    escape: str
    keep_quotes: bool
    keep_escapes: bool
    quotes_are_text: bool
    keep_unset: bool
    at: int = 0
    depth: int = 0
    used: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)

    def peek(self) -> str:
        """The next character, empty at the end."""
        return self.text[self.at : self.at + 1]

    def take(self) -> str:
        char = self.peek()
        self.at += len(char)
        return char

    def read_until(self, stop: str) -> _Piece:
        """Read to `stop` (taken, not given), or to the end if it is empty."""
        piece = _Piece()
        while char := self.peek():
            if char == stop:
                self.take()
                piece.end_word()
                return piece
            if char == "$":
                piece.add_open(self.read_dollar())
            elif char == "<":
                piece.add_quoted(self.read_less_than())
            elif char == "'" and not self.quotes_are_text:
                piece.add_quoted(self.read_single_quoted())
            elif char == '"' and not self.quotes_are_text:
                piece.add_quoted(self.read_double_quoted())
            elif char == self.escape:
                self.take()
                piece.add_quoted((char if self.keep_escapes else "") + self.take())
            else:
                piece.add_open(self.take())
        if stop:
            raise TextError(
                f"{stop} is missing in {self.text!r}", near=self.text, fix=f"add {stop}"
            )
        piece.end_word()
        return piece

    def read_less_than(self) -> str:
        """`<`, or `<<` with the blanks behind it: a heredoc's name may stand apart."""
        self.take()
        if self.peek() != "<":
            return "<"
        start = self.at
        self.take()
        while self.peek() in ("\t", "\r", " "):
            self.take()
        return "<" + self.text[start : self.at]

    def read_single_quoted(self) -> str:
        self.take()
        end = self.text.find("'", self.at)
        if end < 0:
            raise TextError(
                f"a single quote is not closed in {self.text!r}", near=self.text, fix="add a '"
            )
        inside = self.text[self.at : end]
        self.at = end + 1
        return f"'{inside}'" if self.keep_quotes else inside

    def read_double_quoted(self) -> str:
        self.take()
        parts: list[str] = []
        while (char := self.peek()) != '"':
            if not char:
                raise TextError(
                    f"a double quote is not closed in {self.text!r}", near=self.text, fix='add a "'
                )
            if char == "$":
                parts.append(self.read_dollar())
                continue
            self.take()
            if char == self.escape:
                parts.append(self.read_escaped_in_quotes())
            else:
                parts.append(char)
        self.take()
        inside = "".join(parts)
        return f'"{inside}"' if self.keep_quotes else inside

    def read_escaped_in_quotes(self) -> str:
        """Within double quotes only `"`, `$` and the escape itself can be escaped."""
        kept = self.escape if self.keep_escapes else ""
        following = self.peek()
        if not following:
            return kept
        if following in ('"', "$", self.escape):
            return kept + self.take()
        return kept + self.escape

    def read_dollar(self) -> str:
        self.take()
        if self.peek() == "{":
            return self.read_braces()
        name = self.read_name()
        if not name:
            return "$"
        value = self.look_up(name)
        if value is None:
            return f"${name}" if self.keep_unset else ""
        return value

    def read_name(self) -> str:
        """Letters, digits and `_`; or digits only; or one of the shell's special parameters; or nothing."""
        start = self.at
        first = self.peek()
        if first.isdecimal():
            while self.peek().isdecimal():
                self.take()
        elif first and first in SPECIAL_PARAMETERS:
            self.take()
        else:
            while (char := self.peek()) and (char.isalpha() or char.isdecimal() or char == "_"):
                self.take()
        return self.text[start : self.at]

    def look_up(self, name: str) -> str | None:
        value = self.variables.get(name)
        (self.missing if value is None else self.used).add(name)
        return value

    def read_braces(self) -> str:
        """`{…}` of a `${…}`."""
        self.take()
        if self.depth >= 100:
            raise TextError("variables are nested more than 100 deep", near=self.text)
        if not self.peek():
            raise self.unclosed()
        if self.peek() in "{}:":
            raise TextError(
                f"bad substitution in {self.text!r}", near=self.text, fix=_BAD_SUBSTITUTION_FIX
            )
        name = self.read_name()
        operator = self.take()
        self.depth += 1
        try:
            match operator:
                case "}":
                    value = self.look_up(name)
                    if value is None:
                        return f"${{{name}}}" if self.keep_unset else ""
                    return value
                case "-" | "+" | "?":
                    return self.apply_default(name, operator, empty_is_unset=False)
                case ":" if self.peek() and self.peek() in "-+?":
                    return self.apply_default(name, self.take(), empty_is_unset=True)
                case "#" | "%":
                    return self.apply_removal(name, operator)
                case "/":
                    return self.apply_replacement(name)
                case "":
                    raise self.unclosed()
                case _:
                    raise self.unknown_operator(operator + (self.peek() if operator == ":" else ""))
        finally:
            self.depth -= 1

    def unclosed(self) -> TextError:
        return TextError(f"}} is missing in {self.text!r}", near=self.text, fix="add }")

    def unknown_operator(self, operator: str) -> TextError:
        return TextError(
            f"unknown operator {operator!r} in {self.text!r}",
            near=self.text,
            fix="operators are :- - :+ + :? ? # ## % %% / //",
        )

    def apply_default(self, name: str, operator: str, *, empty_is_unset: bool) -> str:
        word = self.read_word("}")
        value = self.look_up(name)
        if value is None and self.keep_unset:
            return f"${{{name}{':' if empty_is_unset else ''}{operator}{word}}}"
        is_set = value is not None and not (empty_is_unset and value == "")
        match operator:
            case "-":
                return value if is_set and value is not None else word
            case "+":
                return word if is_set else ""
            case _:
                if is_set and value is not None:
                    return value
                state = "not set" if value is None else "empty"
                raise TextError(
                    f"{name}: {word}" if word else f"{name} is {state}",
                    near=self.text,
                    fix=f"give it a value, for example with --build-arg {name}=…",
                )

    def apply_removal(self, name: str, operator: str) -> str:
        pattern = self.read_word("}", keep_escapes=True)
        value = self.look_up(name)
        if value is None and self.keep_unset:
            return f"${{{name}{operator}{pattern}}}"
        longest = pattern.startswith(operator)
        pattern = pattern[1:] if longest else pattern
        remove = shell_pattern.remove_prefix if operator == "#" else shell_pattern.remove_suffix
        return remove(value or "", pattern, longest=longest)

    def apply_replacement(self, name: str) -> str:
        everywhere = self.peek() == "/"
        if everywhere:
            self.take()
        pattern = self.read_word("/", keep_escapes=True)
        replacement = self.read_word("}", keep_escapes=True)
        value = self.look_up(name)
        if value is None and self.keep_unset:
            return f"${{{name}/{pattern}/{replacement}}}"
        return shell_pattern.replace(value or "", pattern, replacement, everywhere=everywhere)

    def read_word(self, stop: str, *, keep_escapes: bool = False) -> str:
        """The operand of an operator; its escapes stay for a pattern, which has its own."""
        before, self.keep_escapes = self.keep_escapes, keep_escapes
        try:
            return self.read_until(stop).text()
        finally:
            self.keep_escapes = before
