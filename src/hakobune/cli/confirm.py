"""Asking before something is gone."""

from __future__ import annotations

import sys

from hakobune.cli.main import Context
from hakobune.errors import HakoError, UsageError


def confirm(what: str, *, quiet: bool, context: Context) -> None:
    """Go on if the person says so, or `--quiet` did.

    Args:
        what: what will be done, as an infinitive: `delete web`.

    Raises:
        HakoError: the answer is no.
        UsageError: nobody can be asked.
    """
    if quiet:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"to {what} must be confirmed", why="nobody can be asked", fix="--quiet")
    print(f"This will {what}. Go on? [y/N] ", end="", file=context.err, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise HakoError("nothing was done")
