"""The keys by which a person leaves a program that goes on running: docker's grammar, and their search in what is typed.

Pure. A key is one character, or `ctrl-` with one of `a`-`z @ [ \\ ] ^ _`; keys of a sequence are separated by commas.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hakobune.errors import UsageError

DEFAULT_KEYS = "ctrl-p,ctrl-q"
_CONTROLS = re.compile(r"ctrl-([a-zA-Z@\[\\\]^_])")


class DetachKeysError(UsageError):
    """The text is no sequence of keys."""


def parse_detach_keys(text: str) -> bytes:
    """What a terminal sends for the keys in *text*; an empty text is docker's default.

    Raises:
        DetachKeysError: one of them is no key.
    """
    return b"".join(_key(word) for word in (text or DEFAULT_KEYS).split(","))


def _key(word: str) -> bytes:
    if len(word) == 1 and word.isascii() and word.isprintable():
        return word.encode()
    if found := _CONTROLS.fullmatch(word):
        return bytes([ord(found[1].upper()) & 0x1F])
    raise DetachKeysError(
        f"--detach-keys: {word!r} is no key",
        why="a key is one character, or ctrl- with a letter or one of @ [ \\ ] ^ _",
        fix="--detach-keys ctrl-p,ctrl-q, or --detach-keys ctrl-x",
    )


@dataclass(slots=True)
class DetachFilter:
    """Looks for *keys* in a stream; a beginning of them is held back until it is plain what it becomes."""

    keys: bytes
    found: bool = False
    _held: bytes = b""

    def feed(self, data: bytes) -> bytes:
        """What goes on to the program. Nothing does any more from the keys on: `found` is set then."""
        if not self.keys or self.found:
            return b"" if self.found else data
        text = self._held + data
        before, keys, _ = text.partition(self.keys)
        if keys:
            self.found, self._held = True, b""
            return before
        length = next(
            n
            for n in range(min(len(self.keys) - 1, len(text)), -1, -1)
            if text.endswith(self.keys[:n])
        )
        self._held = text[len(text) - length :]
        return text[: len(text) - length]
