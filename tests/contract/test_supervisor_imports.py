"""The supervisor is small and survives a broken environment: it imports the standard library and our own modules only."""

from __future__ import annotations

import json
import subprocess
import sys

_LIST = """
import hakobune.runtime.supervisor, json, sys
print(json.dumps(sorted(sys.modules)))
"""

# site-packages' own .pth machinery, present in every interpreter of the environment
_ENVIRONMENT = {
    "_distutils_hack",
    "_virtualenv",
    "_editable_impl_hakobune",
    "sitecustomize",
    "usercustomize",
}


def _imported() -> list[str]:
    done = subprocess.run(
        [sys.executable, "-I", "-c", _LIST], capture_output=True, text=True, check=True, timeout=60
    )
    modules: list[str] = json.loads(done.stdout)
    return modules


def test_the_supervisor_imports_nothing_but_the_standard_library() -> None:
    tops = {name.partition(".")[0] for name in _imported()}

    foreign = tops - set(sys.stdlib_module_names) - _ENVIRONMENT - {"hakobune", "__main__"}
    assert not {name for name in foreign if not name.startswith("__")}


def test_the_supervisor_knows_no_image_no_service_and_no_http() -> None:
    ours = {name.split(".")[1] for name in _imported() if name.startswith("hakobune.")}

    assert ours <= {"runtime", "support", "errors", "settings"}
    assert not {"http", "msgspec"} & set(_imported())
