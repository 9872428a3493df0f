"""Recognising `<<NAME` in RUN, COPY and ADD (Dockerfile reference "Here-Documents")."""

from __future__ import annotations

import re

from hakobune.dockerfile.errors import TextError
from hakobune.dockerfile.expand import expansion
from hakobune.dockerfile.instructions import Heredoc

_HEREDOC = re.compile(r"(\d*)<<(-?)\s*([^<]*)\Z")
_NO_VARIABLES: dict[str, str] = {}


def heredocs_in(line: str) -> tuple[Heredoc, ...]:
    """The heredocs that a line opens, in order, still without content.

    Raises:
        TextError: a delimiter with an open quote.
    """
    try:
        words = expansion(
            line, _NO_VARIABLES, keep_quotes=True, keep_escapes=True, keep_unset=True
        ).words
    except TextError:
        return ()  # a shell's line that only the shell understands
    found = (read_heredoc(word) for word in words)
    return tuple(heredoc for heredoc in found if heredoc is not None)


def read_heredoc(word: str) -> Heredoc | None:
    """The heredoc that a word is, without content, or None.

    Raises:
        TextError: a delimiter with an open quote.
    """
    match = _HEREDOC.match(word)
    if match is None or not match[3]:
        return None
    bare = expansion(match[3], _NO_VARIABLES, keep_unset=True).words
    if len(bare) != 1:
        return None
    (quoted,) = expansion(match[3], _NO_VARIABLES, keep_quotes=True, keep_unset=True).words
    return Heredoc(
        name=bare[0],
        content="",
        expand=_quotes(bare[0]) == _quotes(quoted),
        strip_tabs=match[2] == "-",
        descriptor=int(match[1][:9] or 0),
    )


def is_heredoc(word: str) -> bool:
    """Whether COPY, ADD or RUN would take the word for a heredoc."""
    try:
        return read_heredoc(word) is not None
    except TextError:
        return False


def _quotes(text: str) -> int:
    return text.count("'") + text.count('"')
