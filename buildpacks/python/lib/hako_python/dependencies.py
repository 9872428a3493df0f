"""What is to be installed, read from the manifest; nothing is resolved yet."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from hako_python import variables
from hako_python.layers import digest, digest_of_file, digest_of_tree
from hako_python.project import Project
from hako_python.requirements import NAME, local_paths, normalise, read_requirements

LAYOUT = "1"  # raised when `install` makes the environment differently from the same requirements


class Dependencies(NamedTuple):
    """What is to be installed, before anything is resolved."""

    inputs: Mapping[str, str]
    names: frozenset[str]  # what the manifest itself asks for, where that can be read
    files: tuple[str, ...]
    locals: tuple[str, ...] = ()


def dependencies_of(project: Project, env: Mapping[str, str], *, server: str) -> Dependencies:
    """Read the manifest: which contents decide the environment, and which packages it names."""
    inputs = {"layout": LAYOUT, **variables.index_inputs(env)}
    if server:
        inputs["server"] = server
    files: tuple[str, ...] = ()
    names: set[str] = set()
    locals_: tuple[str, ...] = ()
    if project.manifest == "requirements.txt":
        files, found = read_requirements(project.root, "requirements.txt")
        names = {r.name for r in found}
        locals_ = local_paths(project.root, files)
        for path in locals_:
            if (
                folder := (project.root / path).resolve()
            ) != project.root.resolve() and folder.is_dir():
                inputs[path] = digest_of_tree(folder)
    elif project.manifest:
        files = (project.manifest,)
        names = {name_of(t) for t in project.pyproject.get("project", {}).get("dependencies", ())}
        names |= {
            normalise(n)
            for n in project.pyproject.get("tool", {}).get("poetry", {}).get("dependencies", {})
        }
    if project.has_lock or project.is_package or "." in locals_ or "./" in locals_:
        files += tuple(
            f for f in ("pyproject.toml", "setup.py", "setup.cfg")
            if project.exists(f) and f not in files
        )  # fmt: skip
    for file in files:
        inputs[file] = _meaning(project.root / file)
    if vendor := env.get("GOOGLE_VENDOR_PIP_DEPENDENCIES"):
        inputs[vendor] = digest_of_tree(project.root / vendor)
    return Dependencies(inputs, frozenset(names), files, locals_)


def server_requirement(server: str, dependencies: Dependencies, servers: Mapping[str, str]) -> str:
    """The pinned requirement to add for *server*, empty if the app asks for it itself."""
    return "" if not server or server in dependencies.names else servers.get(server, "")


def name_of(requirement: str) -> str:
    match = NAME.match(requirement)
    return normalise(match[1]) if match else requirement


def _meaning(path: Path) -> str:
    """A digest of what a requirements file says; comments and blank lines say nothing."""
    if path.suffix != ".txt":
        return digest_of_file(path)
    lines = (
        re.sub(r"(^|\s)#.*", "", s).strip() for s in path.read_text(errors="replace").splitlines()
    )
    return digest("\n".join(line for line in lines if line).encode())
