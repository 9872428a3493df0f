"""Lock files of other tools as the pinned, hashed list that uv installs."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hako_python.report import BuildpackError
from hako_python.requirements import normalise

Document = Mapping[str, Any]


def read_lock(root: Path, name: str, pyproject: Document) -> str:
    """The main dependencies that lock file *name* pins, one requirement a line.

    Raises:
        BuildpackError: the file cannot be read.
    """
    readers = {
        "pylock.toml": lambda d: _pylock(d),
        "poetry.lock": lambda d: _poetry(d, pyproject),
        "pdm.lock": lambda d: _pdm(d),
        "Pipfile.lock": lambda d: _pipfile(d),
    }
    try:
        text = (root / name).read_text()
        document = json.loads(text) if name == "Pipfile.lock" else tomllib.loads(text)
        lines = readers[name](document)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BuildpackError(
            f"{name} cannot be read", seen=f"{type(error).__name__}: {error}", fix="lock again"
        ) from error
    return "".join(f"{line}\n" for line in sorted(lines))


def _pylock(document: Document) -> list[str]:
    """PEP 751; packages that only a group or an extra asks for are left out."""
    lines = []
    for package in document.get("packages", ()):
        marker = package.get("marker", "")
        if "dependency_groups" in marker or "extras" in marker:
            continue
        files = [*package.get("wheels", ()), *filter(None, [package.get("sdist")])]
        hashes = [f"{k}:{v}" for f in files for k, v in f.get("hashes", {}).items()]
        lines.append(_line(package["name"], _pylock_source(package), marker, hashes))
    return lines


def _pylock_source(package: Document) -> str:
    if vcs := package.get("vcs"):
        return f" @ {vcs['type']}+{vcs['url']}@{vcs['commit-id']}"
    if archive := package.get("archive"):
        return f" @ {archive.get('url') or archive['path']}"
    if directory := package.get("directory"):
        return f" @ file://${{PWD}}/{directory['path']}"
    return f"=={package['version']}"


def _poetry(document: Document, pyproject: Document) -> list[str]:
    packages = document.get("package", [])
    main = _poetry_main(packages, pyproject)
    lines = []
    for package in packages:
        if normalise(package["name"]) not in main:
            continue
        marker = package.get("markers", "")
        if isinstance(marker, Mapping):
            marker = marker.get("main", "")
        files = package.get("files") or document.get("metadata", {}).get("files", {}).get(
            package["name"], ()
        )
        source = package.get("source", {})
        pin = f"=={package['version']}"
        if source.get("type") == "git":
            pin = f" @ git+{source['url']}@{source['resolved_reference']}"
        elif source.get("type") in ("url", "file"):
            pin = f" @ {source['url']}"
        lines.append(_line(package["name"], pin, marker, [f["hash"] for f in files]))
    return lines


def _poetry_main(packages: Iterable[Document], pyproject: Document) -> frozenset[str]:
    """Names of the main group: said by poetry 2, and by walking the dependencies for older locks."""
    packages = list(packages)
    if all("groups" in p for p in packages):
        return frozenset(normalise(p["name"]) for p in packages if "main" in p["groups"])
    needs = {normalise(p["name"]): p.get("dependencies", {}) for p in packages}
    poetry = pyproject.get("tool", {}).get("poetry", {}).get("dependencies", {})
    queue = [normalise(n) for n, d in poetry.items() if not _is_optional(d)]
    for text in pyproject.get("project", {}).get("dependencies", ()):
        queue.append(normalise(text.split(";")[0].split("[")[0].strip(" <>=!~()0123456789.,*")))
    main: set[str] = set()
    while queue:
        name = queue.pop()
        if name in needs and name not in main:
            main.add(name)
            queue += [normalise(n) for n, d in needs[name].items() if not _is_optional(d)]
    return frozenset(main)


def _is_optional(dependency: object) -> bool:
    return isinstance(dependency, Mapping) and bool(dependency.get("optional"))


def _pdm(document: Document) -> list[str]:
    lines = []
    for package in document.get("package", ()):
        if "default" not in package.get("groups", ["default"]):
            continue
        pin = f"=={package['version']}"
        if "git" in package:
            pin = f" @ git+{package['git']}@{package['revision']}"
        elif "url" in package:
            pin = f" @ {package['url']}"
        hashes = [f["hash"] for f in package.get("files", ())]
        lines.append(_line(package["name"], pin, package.get("marker", ""), hashes))
    return sorted(set(lines))  # a package with extras stands there twice


def _pipfile(document: Document) -> list[str]:
    lines = []
    for name, package in document.get("default", {}).items():
        pin = package.get("version", "")
        if "git" in package:
            pin = f" @ git+{package['git']}@{package['ref']}"
        hashes = () if "git" in package else package.get("hashes", ())
        lines.append(_line(name, pin, package.get("markers", ""), hashes))
    return lines


def _line(name: str, pin: str, marker: str, hashes: Iterable[str]) -> str:
    parts = [f"{name}{pin}"]
    if marker:
        parts.append(f"; {marker}" if not pin.startswith(" @") else f" ; {marker}")
    if not pin.startswith(" @"):
        parts += [f" --hash={h}" for h in sorted(set(hashes))]
    return "".join(parts)
