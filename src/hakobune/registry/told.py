"""The end of a process that the command line has started for a piece of work: one JSON object, what came of it or the error."""

from __future__ import annotations

import json
from collections.abc import Callable

from hakobune.errors import HakoError


def tell(work: Callable[[], object], *, failed: str, place: str = "") -> int:
    """Do *work*, print what it returns, and give the process's exit code.

    Args:
        failed: what an error of the system begins with: `cannot make a backup`.
        place: what it is about if it names no file.
    """
    try:
        found = work()
    except OSError as error:
        return _tell_error(HakoError(failed, why=f"{error.filename or place}: {error.strerror}"))
    except HakoError as error:
        return _tell_error(error)
    print(json.dumps(found))
    return 0


def _tell_error(error: HakoError) -> int:
    print(json.dumps({"what": error.what, "why": error.why, "fix": error.fix}))
    return error.exit_code
