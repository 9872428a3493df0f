"""`--chmod`: octal numbers and the symbolic modes of chmod(1)."""

from __future__ import annotations

import re

from msgspec import Struct

from hakobune.dockerfile.errors import TextError

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)")
_ACTION = re.compile(r"([-+=])([rwxXst]*|[ugo])(?=[-+=]|\Z)")
_SHIFT = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 4, "w": 2, "x": 1}
_SPECIAL = {"u": ("s", 0o4000), "g": ("s", 0o2000), "o": ("t", 0o1000)}


class _Action(Struct, frozen=True):
    who: str
    operator: str
    what: str


class FileMode(Struct, frozen=True):
    """A change of permissions; an octal number replaces them, clauses change them one after the other."""

    octal: int | None
    actions: tuple[_Action, ...] = ()

    @classmethod
    def parse(cls, text: str) -> FileMode:
        """Read `755`, `u=rwX,go=rX`, `+x`, `g=u`, `u+s` …; without a `who`, `a` is meant.

        Raises:
            TextError: it is no mode.
        """
        if text.isascii() and text.isdecimal():
            if len(text) > 8 or not re.fullmatch("[0-7]+", text) or int(text, 8) > 0o7777:
                raise TextError(
                    f"invalid --chmod={text}",
                    near=text,
                    fix="octal modes go from 0 to 7777; write --chmod=755, for example",
                )
            return cls(int(text, 8))
        actions: list[_Action] = []
        for clause in text.split(","):
            match = _CLAUSE.fullmatch(clause)
            if match is None:
                raise TextError(
                    f"invalid --chmod={text}",
                    near=text,
                    fix="write an octal number (755) or clauses such as u=rwX,go=rX",
                )
            who = match[1].replace("a", "ugo") or "ugo"
            actions += [_Action(who, one[1], one[2]) for one in _ACTION.finditer(match[2])]
        return cls(None, tuple(actions))

    def apply(self, mode: int, *, is_directory: bool) -> int:
        """The new permission bits (07777) of a file that has these now."""
        if self.octal is not None:
            return self.octal
        mode &= 0o7777
        for action in self.actions:
            mode = _apply(action, mode, is_directory)
        return mode


def _apply(action: _Action, mode: int, is_directory: bool) -> int:
    bits = mask = 0
    for who in dict.fromkeys(action.who):
        mask |= 7 << _SHIFT[who]
        bits |= _permissions(action.what, mode, is_directory) << _SHIFT[who]
        letter, special = _SPECIAL[who]
        if letter in action.what:
            bits |= special
        if letter == "t" or not is_directory:
            mask |= special  # chmod keeps set-id bits of folders unless they are named
    match action.operator:
        case "+":
            return mode | bits
        case "-":
            return mode & ~bits
        case _:
            return (mode & ~mask) | bits


def _permissions(what: str, mode: int, is_directory: bool) -> int:
    """Three bits."""
    if what in _SHIFT:
        return (mode >> _SHIFT[what]) & 7
    bits = sum(_BITS[letter] for letter in set(what) & _BITS.keys())
    if "X" in what and (is_directory or mode & 0o111):
        bits |= 1
    return bits
