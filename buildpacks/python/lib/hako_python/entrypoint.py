"""What runs in the image: which processes, on which server, and why."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from hako_python import scan
from hako_python.procfile import Command, parse_procfile, to_command
from hako_python.project import Project
from hako_python.report import BuildpackError

# Added when the app's own requirements lack them, at these versions.
SERVERS = {
    "gunicorn": "gunicorn==25.3.0",
    "uvicorn": "uvicorn[standard]==0.46.0",
    "functions-framework": "functions-framework==3.10.2",
}
RUNNABLE = (
    "main.py",
    "app.py",
    "server.py",
    "run.py",
    "index.py",
    "src/main.py",
    "src/app.py",
    "src/server.py",
)
# `python main.py` is how these are started; they read their own variables for the port.
SELF_SERVING = ("gradio", "nicegui", "reflex", "robyn", "cherrypy", "tornado")


class Start(NamedTuple):
    """The processes of the image, web first."""

    processes: Mapping[str, Command]
    reason: str
    server: str = ""  # a distribution that has to be installed for it
    module: str = ""  # the package that must be importable for it
    place: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def needs_shell(self) -> bool:
        return any(c.needs_shell for c in self.processes.values())


def choose_start(project: Project, env: Mapping[str, str], *, gunicorn_config: Path) -> Start:
    """GOOGLE_ENTRYPOINT, function, Procfile, script of the project, object in the source, in this order.

    Raises:
        BuildpackError: none of them is there; the message says what was looked for.
    """
    if text := env.get("GOOGLE_ENTRYPOINT", "").strip():
        return _as_written({"web": text}, "GOOGLE_ENTRYPOINT", ())
    if target := env.get("GOOGLE_FUNCTION_TARGET", "").strip():
        return _function(target, env)
    if project.exists("Procfile"):
        processes, complaints = parse_procfile(
            (project.root / "Procfile").read_text(errors="replace")
        )
        if processes and "web" not in processes:
            complaints += ("Procfile has no `web` process: the image has no default process",)
        if processes:
            return _as_written(processes, "Procfile", complaints)
    if start := _script(project):
        return start
    return (
        _streamlit(project)
        or _application(project, gunicorn_config)
        or _plain_script(project)
        or _nothing_found(project)
    )


def _as_written(texts: Mapping[str, str], origin: str, complaints: tuple[str, ...]) -> Start:
    commands = {name: to_command(text) for name, text in texts.items()}
    web = texts.get("web", "")
    server = next((s for s in ("gunicorn", "uvicorn", "functions-framework") if s in web), "")
    return Start(commands, f"{origin}: {web or ', '.join(texts)}", server, warnings=complaints)


def _function(target: str, env: Mapping[str, str]) -> Start:
    words = ["python", "-m", "functions_framework", "--target", target]
    words += ["--source", env.get("GOOGLE_FUNCTION_SOURCE") or "main.py"]
    words += ["--signature-type", env.get("GOOGLE_FUNCTION_SIGNATURE_TYPE") or "http"]
    reason = f"function {target} (GOOGLE_FUNCTION_TARGET) on functions-framework"
    return Start({"web": Command(tuple(words))}, reason, "functions-framework")


def _script(project: Project) -> Start | None:
    scripts = project.scripts
    name = "start" if "start" in scripts else next(iter(scripts)) if len(scripts) == 1 else ""
    if not name:
        return None
    words: tuple[str, ...] = (name,)
    if not project.is_package:  # nothing installs the script then
        module, _, function = scripts[name].partition(":")
        words = (
            "python",
            "-c",
            f"import sys; from {module} import {function}; sys.exit({function}())",
        )
    return Start({"web": Command(words)}, f"script `{name}` of pyproject.toml ({scripts[name]})")


def _streamlit(project: Project) -> Start | None:
    for name in RUNNABLE:
        if project.exists(name) and "streamlit" in scan.imports_of(project.root / name):
            words = ("python", "-m", "streamlit", "run", name, "--server.headless=true")
            return Start(
                {"web": Command(words)}, f"Streamlit app in {name}", module="streamlit", place=name
            )
    return None


def _application(project: Project, gunicorn_config: Path) -> Start | None:
    found = scan.find_application(project.root)
    if found is None:
        return None
    place = f"{found.framework} app in {found.file}:{found.line}: `{found.name}{'()' if found.factory else ''}`"
    folder = found.source_folder if not project.is_package else ""
    if found.kind == scan.ASGI:
        words = ["python", "-m", "uvicorn"]
        words += ["--app-dir", folder] if folder else []
        words += ["--factory"] if found.factory else []
        return Start(
            {"web": Command((*words, found.target))},
            f"{place} on uvicorn",
            "uvicorn",
            scan.PACKAGES.get(found.framework, ""),
            f"{found.file}:{found.line}",
        )
    words = ["python", "-m", "gunicorn"]
    if not (project.root / "gunicorn.conf.py").is_file():  # gunicorn reads the app's own by itself
        words += ["--config", str(gunicorn_config)]
    words += ["--pythonpath", folder] if folder else []
    if found.kind == scan.AIOHTTP:
        words += ["--worker-class", "aiohttp.GunicornWebWorker"]
    target = found.target + ("()" if found.factory else "")
    return Start(
        {"web": Command((*words, target))},
        f"{place} on gunicorn",
        "gunicorn",
        scan.PACKAGES.get(found.framework, ""),
        f"{found.file}:{found.line}",
    )


def _plain_script(project: Project) -> Start | None:
    candidates = [n for n in RUNNABLE if project.exists(n)]
    for name in candidates:
        path = project.root / name
        if line := scan.serves_by_itself(path):
            return _run_script(name, f"{name} starts a server itself (line {line})")
        if scan.imports_of(path) & set(SELF_SERVING):
            return _run_script(name, f"{name} starts a server itself")
    return None


def _run_script(name: str, reason: str) -> Start:
    return Start({"web": Command(("python", name))}, reason)


def _nothing_found(project: Project) -> Start:
    others = sorted(p.name for p in project.root.glob("*.py"))
    seen = f"looked for {scan.looked_for()}"
    if others:
        seen += f"; found {', '.join(others[:5])}{' …' if len(others) > 5 else ''} without one"
    raise BuildpackError(
        "no entry point found",
        seen=seen,
        fix="a Procfile (web: python server.py), or --env GOOGLE_ENTRYPOINT='python server.py'",
    )
