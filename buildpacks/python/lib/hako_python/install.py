"""Dependencies into the `venv` layer by uv: resolved, pinned, then reconciled with what is there."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from hako_python import bytecode, variables
from hako_python.dependencies import Dependencies, name_of
from hako_python.hints import explain_failure
from hako_python.locks import read_lock
from hako_python.project import Project
from hako_python.report import BuildpackError, say, warn
from hako_python.requirements import has_hashes

SHOWN = re.compile(r"^(Resolved|Prepared|Installed|Uninstalled|Audited|Downloading|warning)", re.I)


class Installer(NamedTuple):
    """uv, with the layers that it works in."""

    venv: Path
    cache: Path
    python: Path
    root: Path
    env: Mapping[str, str]

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Run uv; its standard output is the answer, its messages are shown.

        Raises:
            InstallError: uv failed; carries what it said.
        """
        command = ["uv", *arguments]
        process = subprocess.Popen(
            command, cwd=self.root, env=self._environment(), text=True, errors="replace",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin
        assert process.stdout
        assert process.stderr
        if stdin:
            process.stdin.write(stdin)
        process.stdin.close()
        messages = []
        for line in process.stderr:
            messages.append(line.rstrip("\n"))
            if SHOWN.match(line):
                say(f"  {line.rstrip()}")
        answer = process.stdout.read()
        if process.wait():
            raise InstallError(tuple(messages) + tuple(answer.splitlines()))
        return answer

    def _environment(self) -> dict[str, str]:
        include = "/usr/include/" + next(
            (p.name for p in (self.venv / "lib").glob("python3.*")), "python3"
        )
        return {
            **variables.installer_environment(self.env),
            "UV_CACHE_DIR": str(self.cache),
            "UV_LINK_MODE": "hardlink",
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_PYTHON": str(self.python),
            "UV_NO_PROGRESS": "1",
            "VIRTUAL_ENV": str(self.venv),
            "NO_COLOR": "1",
            "C_INCLUDE_PATH": include,  # the interpreter's headers are the build image's
            "SOURCE_DATE_EPOCH": self.env.get("SOURCE_DATE_EPOCH") or "315532801",
            "PYC_INVALIDATION_MODE": "CHECKED_HASH",
        }


class InstallError(Exception):
    """uv failed; *messages* is what it said."""

    def __init__(self, messages: tuple[str, ...]) -> None:
        super().__init__("\n".join(messages))
        self.messages = messages


def install(
    installer: Installer, project: Project, dependencies: Dependencies, *, server: str, fresh: bool
) -> tuple[str, ...]:
    """Bring the environment to what *dependencies* say; returns the installed pins.

    An environment that is there is reconciled: it is never removed and made anew.

    Args:
        server: a requirement to add if the resolved ones lack it; may be empty.
        fresh: contents behind a local path changed: what is installed from there is built again.

    Raises:
        BuildpackError: with the telling line and the requirement it belongs to.
    """
    before = _leftovers(project.root)
    try:
        if not (installer.venv / "pyvenv.cfg").is_file():
            installer.run(
                "venv", "--python", str(installer.python), "--no-project", str(installer.venv)
            )
        pinned = _resolve(installer, project, dependencies, server)
        store = installer.venv / "share" / "hako" / "requirements.txt"
        store.parent.mkdir(parents=True, exist_ok=True)
        store.write_text(pinned)
        sync = [
            "pip",
            "sync",
            "--allow-empty-requirements",
            "--python",
            str(installer.venv / "bin/python"),
        ]
        sync += ["--reinstall"] if fresh else []
        installer.run(*sync, *_sources(project, installer.env), str(store))
    except InstallError as error:
        for line in error.messages:
            if not SHOWN.match(line):
                say(f"  {line}")
        raise explain_failure(error.messages, project.root, dependencies.files) from error
    for path in _leftovers(project.root) - before:
        shutil.rmtree(path, ignore_errors=True)
    bytecode.compile_tree([site_packages(installer.venv)])
    return tuple(line for line in _pins(pinned))


def site_packages(venv: Path) -> Path:
    return next((venv / "lib").glob("python3.*/site-packages"))


def _resolve(
    installer: Installer, project: Project, dependencies: Dependencies, server: str
) -> str:
    """A complete list of pinned requirements."""
    manifest = project.manifest
    if manifest == "requirements.txt" and has_hashes(project.root, dependencies.files):
        listed = (project.root / "requirements.txt").read_text()
        return _with_server(installer, listed, server, hashes=True)
    if manifest == "uv.lock":
        return _with_server(installer, _export_uv_lock(installer), server, hashes=True)
    if manifest in ("pylock.toml", "poetry.lock", "pdm.lock", "Pipfile.lock"):
        listed = read_lock(project.root, manifest, project.pyproject)
        if project.is_package:
            listed += "-e .\n"
        return _with_server(installer, listed, server, hashes=True)
    return _compile(installer, project, server)


def _compile(installer: Installer, project: Project, server: str) -> str:
    """Resolve what is not locked; last time's pins are kept where they still fit."""
    files = [project.manifest] if project.manifest in ("requirements.txt", "pyproject.toml") else []
    listed = "".join(
        f"{line}\n"
        for line in (
            server,
            "-e ." if project.is_package and project.manifest != "requirements.txt" else "",
        )
        if line
    )
    if not files and not listed:
        return ""
    store = installer.venv / "share" / "hako" / "requirements.txt"
    before = store.read_text() if store.is_file() else ""
    output = ["--output-file", str(store)] if before else []
    arguments = [*files, *(["-"] if listed else [])]
    return installer.run(
        "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--python", str(installer.python),
        *output, *_sources(project, installer.env), *arguments, stdin=listed,
    ) or store.read_text()  # fmt: skip


def _with_server(installer: Installer, listed: str, server: str, *, hashes: bool) -> str:
    """*listed* is complete; add *server* and what that needs, without moving a pin."""
    names = {name_of(line) for line in _pins(listed)}
    if not server or name_of(server) in names:
        return listed
    flags = ["--generate-hashes"] if hashes and "--hash=" in listed else []
    return installer.run(
        "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--python", str(installer.python),
        *flags, "-", stdin=f"{listed}\n{server}\n",
    )  # fmt: skip


def _export_uv_lock(installer: Installer) -> str:
    arguments = [
        "export",
        "--no-dev",
        "--format",
        "requirements.txt",
        "--no-header",
        "--no-annotate",
    ]
    try:
        return installer.run(*arguments, "--quiet", "--locked")
    except InstallError as error:
        if not any("needs to be updated" in line for line in error.messages):
            raise
        if installer.env.get("HAKO_FROZEN", "") not in ("", "0"):
            raise BuildpackError(
                "uv.lock does not fit pyproject.toml",
                seen=next(line for line in error.messages if "needs to be updated" in line).strip(),
                fix="run `uv lock`, or build without HAKO_FROZEN to lock again here",
            ) from error
    warn(
        "uv.lock does not fit pyproject.toml and is locked again; run `uv lock` to keep the result"
    )
    return installer.run(*arguments, "--quiet")


def _sources(project: Project, env: Mapping[str, str]) -> list[str]:
    vendor = env.get("GOOGLE_VENDOR_PIP_DEPENDENCIES")
    return ["--no-index", "--find-links", str(project.root / vendor)] if vendor else []


def _pins(text: str) -> Iterator[str]:
    """Requirement lines without hashes, comments and options."""
    for line in text.replace("\\\n", " ").splitlines():
        line = line.split(" #")[0].split(" --hash")[0].strip()
        if line and not line.startswith(("#", "--")):
            yield line


def _leftovers(root: Path) -> set[Path]:
    """Folders that build backends leave in a source tree."""
    return {*root.glob("*.egg-info"), *root.glob("src/*.egg-info"), *root.glob("build")}
