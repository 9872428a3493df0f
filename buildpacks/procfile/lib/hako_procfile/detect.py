"""bin/detect: does somebody say how this app is started?"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

PASS, FAIL = 0, 100


def main(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Pass without a build plan, or fail with the reason on stdout."""
    if os.path.isfile("Procfile") or env.get("GOOGLE_ENTRYPOINT", "").strip():
        return PASS
    print("no Procfile, and GOOGLE_ENTRYPOINT is not set")
    return FAIL
