"""`K=V` and `K[=V]` on the command line: variables, build arguments, labels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from hakobune.errors import UsageError

# What a shell takes as one.
SHELL_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ANY_NAME: Final = re.compile(r".+", re.DOTALL)


def parse_variables(
    texts: Iterable[str],
    caller: Mapping[str, str],
    option: str,
    *,
    name: re.Pattern[str] = _ANY_NAME,
    must_exist: bool = False,
) -> dict[str, str]:
    """The variables that an option gives, later ones over earlier ones; `K` alone copies the caller's value.

    Args:
        option: as it is typed, for errors.
        name: what may be one.
        must_exist: a name alone that the caller does not have is an error; else it is left out, as docker does.

    Raises:
        UsageError: one names no variable, or one that must be there.
    """
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not name.fullmatch(key):
            raise UsageError(
                f"{option} {text!r} does not begin with a variable's name",
                fix=f"{option} NAME=VALUE",
            )
        if equals:
            found[key] = value
        elif key in caller:
            found[key] = caller[key]
        elif must_exist:
            raise UsageError(
                f"{option} {key} copies a variable that is not set here",
                fix=f"{option} {key}=VALUE",
            )
    return found


def parse_pairs(texts: Iterable[str], option: str) -> dict[str, str]:
    """The labels that an option gives; a name alone has an empty value.

    Raises:
        UsageError: one has no name.
    """
    return parse_variables((text if "=" in text else f"{text}=" for text in texts), {}, option)
