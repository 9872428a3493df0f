"""What lies in the app's folder that decides how it is built."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hako_python.report import BuildpackError
from hako_python.version import Wish

# In the order of preference: a requirements.txt beside a pyproject.toml wins, as on Cloud Run.
MANIFESTS = (
    "requirements.txt",
    "uv.lock",
    "pylock.toml",
    "poetry.lock",
    "pdm.lock",
    "Pipfile.lock",
    "pyproject.toml",
    "setup.py",
)
LOCKS = ("uv.lock", "pylock.toml", "poetry.lock", "pdm.lock", "Pipfile.lock")
OTHER_LANGUAGES = {
    "package.json": "Node.js",
    "go.mod": "Go",
    "pom.xml": "Java",
    "build.gradle": "Java",
    "build.gradle.kts": "Java",
    "Gemfile": "Ruby",
    "composer.json": "PHP",
    "Cargo.toml": "Rust",
}


@dataclass(frozen=True)
class Project:
    """The app's folder as this buildpack sees it."""

    root: Path
    manifest: str  # the file that dependencies are taken from; empty if there is none
    pyproject: Mapping[str, Any] = field(default_factory=dict)

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
    manifest = next((m for m in MANIFESTS if (root / m).is_file()), "")
    return Project(root, manifest, _read_pyproject(root))


def why_not_python(root: Path, env: Mapping[str, str]) -> str:
    """The reason why this folder is not for this buildpack; empty if it is."""
    runtime = env.get("GOOGLE_RUNTIME", "")
    if runtime and not runtime.lower().startswith("python"):
        return f"GOOGLE_RUNTIME is {runtime}"
    manifests = (*MANIFESTS, "Pipfile", "manage.py")
    if any((root / m).is_file() for m in manifests) or runtime:
        return ""
    foreign = next((f for f in OTHER_LANGUAGES if (root / f).is_file()), "")
    if foreign:
        return f"{foreign} says {OTHER_LANGUAGES[foreign]}, and there is no requirements.txt or pyproject.toml"
    if any(root.glob("*.py")):
        return ""
    return "no requirements.txt, pyproject.toml, lock file or .py file in the root"


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
