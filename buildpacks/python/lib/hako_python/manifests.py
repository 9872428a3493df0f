"""Is this folder a Python app? Decided by file names in its root; imports next to nothing, since every build asks."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # importing even `typing` or `collections` takes longer than to decide
if TYPE_CHECKING:
    from collections.abc import Mapping

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


def find_manifest(root: str) -> str:
    """The file that dependencies are taken from, empty if there is none."""
    return _first(root, MANIFESTS)


def why_not_python(root: str, env: Mapping[str, str]) -> str:
    """The reason why this folder is not for this buildpack; empty if it is."""
    runtime = env.get("GOOGLE_RUNTIME", "")
    if runtime and not runtime.lower().startswith("python"):
        return f"GOOGLE_RUNTIME is {runtime}"
    if _first(root, (*MANIFESTS, "Pipfile", "manage.py")) or runtime:
        return ""
    if foreign := _first(root, tuple(OTHER_LANGUAGES)):
        return f"{foreign} says {OTHER_LANGUAGES[foreign]}, and there is no requirements.txt or pyproject.toml"
    if any(name.endswith(".py") for name in os.listdir(root)):
        return ""
    return "no requirements.txt, pyproject.toml, lock file or .py file in the root"


def _first(root: str, names: tuple[str, ...]) -> str:
    return next((n for n in names if os.path.isfile(os.path.join(root, n))), "")
