"""`--chmod`: octal numbers and symbolic modes, with BuildKit's meaning.

That is BSD's setmode(3). GNU's chmod(1) differs in corners: here `X` asks what the file was before the first clause, and `t`
belongs to the owner, not to others.
"""

from __future__ import annotations

import re

from msgspec import Struct

from hakobune.dockerfile.errors import TextError

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=][rwxXstugo]*)+)")
_ACTION = re.compile(r"([-+=])([rwxXstugo]*)")
_WHO = {"u": 0o4700, "g": 0o2070, "o": 0o0007, "a": 0o6777}
_BITS = {"r": 0o444, "w": 0o222, "x": 0o111, "s": 0o6000, "t": 0o1000}
_SHIFT = {"u": 6, "g": 3, "o": 0}
_EVERYBODY, _OTHERS, _STICKY, _EXECUTE = 0o6777, 0o7, 0o1000, 0o111


class _Action(Struct, frozen=True):
    """Bits of `who` (0: nobody is named, which means everybody), one of `+-=`, letters."""

    who: int
    operator: str
    letters: str


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
            who = 0
            for letter in match[1]:
                who |= _WHO[letter]
            actions += [_Action(who, one[1], one[2]) for one in _ACTION.finditer(match[2])]
        return cls(None, tuple(actions))

    def apply(self, mode: int, *, is_directory: bool) -> int:
        """The new permission bits (07777) of a file that has these now."""
        if self.octal is not None:
            return self.octal
        mode &= 0o7777
        change = _Change(mode, may_execute=is_directory or bool(mode & _EXECUTE))
        for action in self.actions:
            change.carry_out(action)
        return change.mode


class _Change(Struct):
    """One file's mode on its way."""

    mode: int
    may_execute: bool

    def carry_out(self, action: _Action) -> None:
        who, operator = action.who, action.operator
        bits = maybe_execute = 0
        done = operator != "="  # `u=` alone takes everything away
        for letter in action.letters:
            if letter in _SHIFT:
                if bits:
                    self._change(operator, who, bits)
                self._execute_if_it_could(who, maybe_execute)
                self._copy(operator, who, letter)
                bits = maybe_execute = 0
                done = True
            elif letter == "X" and operator != "-":
                maybe_execute = _EXECUTE
            elif letter in "st" and who and not who & ~_OTHERS:
                continue  # others alone have neither
            else:
                bits |= _BITS[letter.lower()]
                who |= _STICKY if letter == "t" else 0
        if bits or not done:
            self._change(operator, who, bits)
        self._execute_if_it_could(who, maybe_execute)

    def _change(self, operator: str, who: int, bits: int) -> None:
        meant = bits & who if who else bits
        if operator == "=":
            self.mode &= ~(who or _EVERYBODY)
        self.mode = self.mode & ~meant if operator == "-" else self.mode | meant

    def _execute_if_it_could(self, who: int, bits: int) -> None:
        if self.may_execute:
            self.mode |= bits & who if who else bits

    def _copy(self, operator: str, who: int, source: str) -> None:
        """Give to *who* what *source* has, or take it away."""
        three = (self.mode >> _SHIFT[source]) & 7
        for letter, shift in _SHIFT.items():
            if who and not who & _BITS["r"] & _WHO[letter]:
                continue
            if operator != "+":
                self.mode &= ~((7 if operator == "=" else three) << shift)
            if operator != "-":
                self.mode |= three << shift
