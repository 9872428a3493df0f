"""What lies in the app's folder that decides how it is built."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hako_python.manifests import LOCKS, find_manifest
from hako_python.report import BuildpackError
from hako_python.version import Wish


class Project(NamedTuple):
    """The app's folder as this buildpack sees it."""

    root: Path
    manifest: str  # the file that dependencies are taken from; empty if there is none
    pyproject: Mapping[str, Any] = {}  # a tuple's default, never written to

    @property
    def has_lock(self) -> bool:
        return self.manifest in LOCKS

    @property
    def is_package(self) -> bool:
        """Whether the app itself is to be installed (it says how it is built)."""
        tool = self.pyproject.get("tool", {})
        declared = tool.get("uv", {}).get("package") if isinstance(tool, dict) else None
        if isinstance(declared, bool):
            return declared
        return "build-system" in self.pyproject or self.manifest == "setup.py"

    @property
    def scripts(self) -> Mapping[str, str]:
        """`[project.scripts]`, else poetry's."""
        scripts = self.pyproject.get("project", {}).get("scripts")
        if not scripts:
            scripts = self.pyproject.get("tool", {}).get("poetry", {}).get("scripts")
        return {k: v for k, v in (scripts or {}).items() if isinstance(v, str)}

    def exists(self, name: str) -> bool:
        return (self.root / name).is_file()


def read_project(root: Path) -> Project:
    """Look at *root* once.

    Raises:
        BuildpackError: `pyproject.toml` is no TOML.
    """
    return Project(root, find_manifest(str(root)), _read_pyproject(root))


def version_wishes(project: Project, env: Mapping[str, str]) -> tuple[Wish, ...]:
    """Every place that says a Python version, the most direct first; of variables only the first counts."""
    wishes = []
    for variable in ("GOOGLE_PYTHON_VERSION", "GOOGLE_RUNTIME_VERSION", "BP_CPYTHON_VERSION"):
        if env.get(variable, "").strip():
            wishes.append(Wish(env[variable].strip(), variable))
            break
    else:
        for file in (".python-version", "runtime.txt"):
            if text := _first_line(project.root / file):
                wishes.append(Wish(text, file))
                break
    if isinstance(requires := project.pyproject.get("project", {}).get("requires-python"), str):
        wishes.append(Wish(requires, "pyproject.toml (requires-python)"))
    return tuple(wishes)


def _first_line(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((s for line in lines if (s := re.sub(r"#.*", "", line).strip())), "")


def _read_pyproject(root: Path) -> dict[str, Any]:
    path = root / "pyproject.toml"
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BuildpackError(
            "pyproject.toml cannot be read", seen=str(error), fix="correct that line"
        ) from error
