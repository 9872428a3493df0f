"""bin/detect: is this folder a Python app? (CNB buildpack.md "Phase #1: Detection")"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hako_python.project import MANIFESTS, why_not_python

PASS, FAIL = 0, 100
PLAN = """\
[[provides]]
name = "python"
[[provides]]
name = "python-dependencies"
[[requires]]
name = "python"
[[requires]]
name = "python-dependencies"
"""


def main(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Pass with a build plan, or fail with the reason on stdout."""
    root = Path.cwd()
    if reason := why_not_python(root, env):
        print(f"python: {reason}")
        return FAIL
    manifest = next((m for m in MANIFESTS if (root / m).is_file()), "a .py file in the root")
    print(f"python: {manifest}")
    Path(env.get("CNB_BUILD_PLAN_PATH") or argv[2]).write_text(PLAN)
    return PASS
