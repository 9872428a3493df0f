"""What `run` and `exec` have in common: a program's variables, and the exit code when it could not be started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hakobune.cli.assignments import parse_variables
from hakobune.errors import HakoError
from hakobune.runtime.container import ContainerError

_FAILED, _NOT_EXECUTABLE, _NO_COMMAND = 125, 126, 127


def exit_code_of(error: HakoError) -> int:
    """docker's, for what could not be started."""
    match error:
        case ContainerError(kind="no_command"):
            return _NO_COMMAND
        case ContainerError(kind="not_executable"):
            return _NOT_EXECUTABLE
        case _:
            return _FAILED


def environment(
    given: Sequence[str], before: Sequence[str], ours: Mapping[str, str]
) -> dict[str, str]:
    """*before*, overruled by what `-e` gives; a name alone takes our own value.

    Raises:
        UsageError: one names no variable.
    """
    env = dict(item.split("=", 1) for item in before if "=" in item)
    return env | parse_variables(given, ours, "-e")
