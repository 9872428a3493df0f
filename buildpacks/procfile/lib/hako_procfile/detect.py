"""bin/detect: does somebody say how this app is started?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

PASS, FAIL = 0, 100


def main(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Pass without a build plan, or fail with the reason on stdout."""
    if not Path("Procfile").is_file() and not env.get("GOOGLE_ENTRYPOINT", "").strip():
        print("no Procfile, and GOOGLE_ENTRYPOINT is not set")
        return FAIL
    Path(env.get("CNB_BUILD_PLAN_PATH") or argv[2]).write_text("")
    return PASS
