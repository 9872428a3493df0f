"""bin/detect (CNB buildpack.md "Phase #1: Detection")."""

from __future__ import annotations

from hako_python.manifests import find_manifest, why_not_python

TYPE_CHECKING = False  # importing even `typing` or `collections` takes longer than to decide
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
    if reason := why_not_python(".", env):
        print(f"python: {reason}")
        return FAIL
    print(f"python: {find_manifest('.') or 'a .py file in the root'}")
    with open(env.get("CNB_BUILD_PLAN_PATH") or argv[2], "w") as plan:
        plan.write(PLAN)
    return PASS
