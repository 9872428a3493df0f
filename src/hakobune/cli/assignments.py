"""`K=V` and `K[=V]` on the command line and in files of variables: variables, build arguments, labels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from hakobune.errors import UsageError

# What a shell takes as one.
SHELL_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What the file system of /platform/env takes as one, without surprises.
BUILDPACK_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
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
        found |= _variable(text, caller, f"{option} ", name=name, must_exist=must_exist)
    return found


def parse_env_file(
    text: str, caller: Mapping[str, str], file: str, *, name: re.Pattern[str] = _ANY_NAME
) -> dict[str, str]:
    """Lines of `K=V` or `K`, as docker reads them: no quotes, `#` begins a comment line.

    Args:
        file: for errors.
        name: what may be a variable's.

    Raises:
        UsageError: a line names no variable; its number is told.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        line = line.lstrip()
        if line and not line.startswith("#"):
            found |= _variable(line, caller, f"{file}:{number}: ", name=name)
    return found


def read_env_file(
    path: str, caller: Mapping[str, str], option: str, *, name: re.Pattern[str] = _ANY_NAME
) -> dict[str, str]:
    """The variables of a file; see `parse_env_file`.

    Raises:
        UsageError: it cannot be read, is not UTF-8, or has a line that names no variable.
    """
    try:
        text = Path(path).read_bytes().decode()
    except OSError as error:
        raise UsageError(
            f"cannot read {path}", why=error.strerror or str(error), fix=f"{option} FILE"
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}: it is not UTF-8 text", why=str(error), fix="save it as UTF-8"
        ) from error
    return parse_env_file(text, caller, path, name=name)


def _variable(
    text: str,
    caller: Mapping[str, str],
    place: str,
    *,
    name: re.Pattern[str],
    must_exist: bool = False,
) -> dict[str, str]:
    """One, or none.

    Args:
        place: what stands before it in messages: an option, or a file and a line.
    """
    key, equals, value = text.partition("=")
    in_file = place.endswith(": ")
    if not name.fullmatch(key):
        raise UsageError(
            f"{place}{text!r} does not begin with a variable's name",
            fix="NAME=VALUE" if in_file else f"{place}NAME=VALUE",
        )
    if equals:
        return {key: value}
    if key in caller:
        return {key: caller[key]}
    if must_exist:
        raise UsageError(
            f"{place}{key} copies a variable that is not set here", fix=f"{place}{key}=VALUE"
        )
    return {}


def parse_pairs(texts: Iterable[str], option: str) -> dict[str, str]:
    """The labels that an option gives; a name alone has an empty value.

    Raises:
        UsageError: one has no name.
    """
    return parse_variables((text if "=" in text else f"{text}=" for text in texts), {}, option)
