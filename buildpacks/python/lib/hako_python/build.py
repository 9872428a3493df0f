"""bin/build: interpreter, dependencies, bytecode, processes (CNB buildpack.md "Phase #3: Build")."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hako_python import app, interpreter, variables
from hako_python.dependencies import Dependencies, dependencies_of, server_requirement
from hako_python.entrypoint import SERVERS, Start, choose_start
from hako_python.layers import Layer, changed_inputs, digest, to_toml
from hako_python.project import Project, read_project, version_wishes
from hako_python.report import BuildpackError, say, warn
from hako_python.version import Release, choose_python, format_release


class Environment(NamedTuple):
    """The Python that the app gets, as far as the rest of the build needs to know it."""

    python: Path
    packages: tuple[str, ...]
    libraries: tuple[str, ...]  # missing ones, for the message and the choice of a run image
    has_venv: bool


def main(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Build the app in the working directory; the layers' folder is the first argument."""
    try:
        _build(Path(env.get("CNB_LAYERS_DIR") or argv[1]), Path.cwd(), env)
    except BuildpackError as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    return 0


def _build(layers: Path, root: Path, env: Mapping[str, str]) -> None:
    variables.check_refused(env)
    for complaint in variables.complaints(env):
        warn(complaint)
    project = read_project(root)
    release = choose_python(
        version_wishes(project, env),
        [interpreter.running_release()],
        nearest=env.get("HAKO_VERSION_POLICY") == "nearest",
    )
    start = choose_start(project, env, gunicorn_config=layers / "server" / "gunicorn.conf.py")
    say(f"Python {format_release(release)}, {project.manifest or 'no requirements'}")
    say(start.reason)
    for complaint in start.warnings:
        warn(complaint)
    cpython = _interpreter_layer(layers, release)
    environment = _environment_layers(layers, cpython, project, env, start)
    _check_importable(start, environment, project)
    _server_layer(layers, env)
    app.compile_app(root, Layer(layers / "app-bytecode", cache=True), environment.python)
    app.collect_static(root, environment.python, environment.packages, env)
    _write_launch(layers, start, environment)


def _interpreter_layer(layers: Path, release: Release) -> Layer:
    layer = Layer(layers / "cpython", launch=True, build=True, cache=True)
    inputs = interpreter.interpreter_inputs(release)
    changes = changed_inputs(layer.kept_metadata().get("inputs", {}), inputs)
    if changes or not layer.path.is_dir():
        say("cpython: from the distribution's packages" + _because(layer, changes))
        interpreter.make_interpreter(layer, release)
    layer.write({"inputs": inputs})
    return layer


def _environment_layers(
    layers: Path, cpython: Layer, project: Project, env: Mapping[str, str], start: Start
) -> Environment:
    python = cpython.path / "bin" / "python3"
    asked = dependencies_of(project, env, server="")
    server = server_requirement(start.server, asked, SERVERS)
    if not project.manifest and not server:
        return Environment(python, (), (), has_venv=False)
    dependencies = dependencies_of(project, env, server=server)
    venv = Layer(layers / "venv", launch=True, build=True, cache=True)
    kept = venv.kept_metadata()
    inputs = {
        **dependencies.inputs,
        "python": _minor(cpython),
        "architecture": os.uname().machine,
    }
    changes = changed_inputs(kept.get("inputs", {}), inputs)
    cache = Layer(layers / "uv-cache", cache=True)
    if not changes and venv.path.is_dir():
        say(
            f"venv: {len(kept.get('packages', ()))} packages kept, nothing they depend on has changed"
        )
        if cache.path.is_dir():
            cache.write({})
        return _keep_environment(layers, venv, kept)
    return _install_environment(
        layers, venv, cache, project, env, dependencies, inputs, server, changes
    )


def _keep_environment(layers: Path, venv: Layer, kept: Mapping[str, Any]) -> Environment:
    venv.write(kept)
    libraries = Layer(layers / "libraries", launch=True, cache=True)
    if libraries.path.is_dir():
        libraries.write(libraries.kept_metadata())
    return Environment(
        venv.path / "bin" / "python", tuple(kept["packages"]), tuple(kept["missing"]), has_venv=True
    )


def _install_environment(
    layers: Path,
    venv: Layer,
    cache: Layer,
    project: Project,
    env: Mapping[str, str],
    dependencies: Dependencies,
    inputs: Mapping[str, str],
    server: str,
    changes: Sequence[str],
) -> Environment:
    import shutil

    from hako_python import install

    kept = venv.kept_metadata().get("inputs", {})
    if server:
        say(f"{server} is added: {project.manifest or 'the app'} does not name a server")
    say("venv: installed by uv" + _because(venv, changes))
    if venv.path.is_dir() and kept.get("python") != inputs["python"]:
        shutil.rmtree(venv.path)
    cache.path.mkdir(exist_ok=True)
    installer = install.Installer(
        venv.path, cache.path, layers / "cpython" / "bin" / "python3", project.root, env
    )
    fresh = any(kept.get(p) and kept[p] != inputs.get(p) for p in dependencies.locals)
    packages = install.install(installer, project, dependencies, server=server, fresh=fresh)
    if not project.has_lock and project.manifest:
        say("  not locked: versions stay as they are until the requirements change")
    missing = _libraries_layer(layers, venv)
    cache.write({})
    venv.write({"inputs": inputs, "packages": packages, "missing": missing})
    return Environment(venv.path / "bin" / "python", packages, missing, has_venv=True)


def _libraries_layer(layers: Path, venv: Layer) -> tuple[str, ...]:
    """Bring along the system libraries that wheels need and run images lack; returns what nobody has."""
    import shutil

    from hako_python import elf
    from hako_python.hints import debian_package
    from hako_python.install import site_packages

    bundled = frozenset(p.name for p in (layers / "cpython" / "lib").glob("*.so*"))
    wanted = elf.missing_libraries(
        elf.shared_objects([venv.path]), elf.RUN_IMAGE_LIBRARIES | bundled
    )
    system = elf.system_libraries()
    found = elf.resolve(wanted, system)
    layer = Layer(layers / "libraries", launch=True, cache=True)
    if found:
        folder = layer.path / "lib"
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            if old.name not in found:
                old.unlink()
        for name, path in found.items():
            if not (folder / name).exists():
                shutil.copy2(path.resolve(), folder / name)
        say(f"libraries: {', '.join(found)} (from the build image; wheels need them)")
        layer.write({"libraries": sorted(found)})
    missing = tuple(name for name in wanted if name not in system)
    for name in missing:
        user = wanted[name][0].relative_to(site_packages(venv.path))
        package = debian_package(name)
        advice = (
            f"Debian package {package}" if package else "no Debian package is known here for it"
        )
        warn(
            f"{user} needs {name}, which neither the layers nor the small run images have ({advice})"
        )
    return missing


def _check_importable(start: Start, environment: Environment, project: Project) -> None:
    """A framework that nothing installs would only be missed when the app starts."""
    if not start.module or (project.root / start.module).exists():
        return
    folders = environment.python.parents[1].glob("lib/python3.*/site-packages")
    if any((f / name).exists() for f in folders for name in (start.module, f"{start.module}.py")):
        return
    raise BuildpackError(
        f"{start.place} uses {start.module}, which nothing installs",
        seen=f"{project.manifest or 'requirements.txt (there is none)'} does not lead to it",
        fix=f"add {start.module} to {project.manifest or 'a requirements.txt'}",
    )


def _server_layer(layers: Path, env: Mapping[str, str]) -> None:
    """gunicorn's defaults, and the program that hands PORT to every server (exec.d)."""
    layer = Layer(layers / "server", launch=True, cache=True)
    config = Path(__file__).with_name("gunicorn_config.py").read_bytes()
    adapter = _port_adapter(layers, env)
    inputs = {"gunicorn.conf.py": digest(config), "port-adapter": digest(adapter)}
    if layer.kept_metadata().get("inputs") != inputs or not layer.path.is_dir():
        (layer.path / "exec.d").mkdir(parents=True, exist_ok=True)
        (layer.path / "gunicorn.conf.py").write_bytes(config)
        program = layer.path / "exec.d" / "port-adapter"
        program.write_bytes(adapter)
        program.chmod(0o755)
        variables_folder = layer.path / "env.launch"
        variables_folder.mkdir(exist_ok=True)
        (variables_folder / "PYTHONUNBUFFERED.default").write_text("1")
        # Instances are reached through the ingress only, so its X-Forwarded-* headers are believed.
        (variables_folder / "FORWARDED_ALLOW_IPS.default").write_text("*")
    layer.write({"inputs": inputs})


def _port_adapter(layers: Path, env: Mapping[str, str]) -> bytes:
    """The builder's static program; without it the same in Python, which starts 10 ms later."""
    folder = Path(env.get("CNB_BUILDPACK_DIR") or Path(__file__).parents[2])
    for program in (Path("/cnb/lifecycle/port-adapter"), folder / "exec.d" / "port-adapter"):
        if program.is_file():
            return program.read_bytes()
    source = Path(__file__).with_name("port_adapter.py").read_bytes()
    return f"#!{layers}/cpython/bin/python3 -IS\n".encode() + source


def _write_launch(layers: Path, start: Start, environment: Environment) -> None:
    processes = [
        {
            "type": name,
            "command": list(command.argv),
            **({"default": True} if name == "web" else {}),
        }
        for name, command in start.processes.items()
    ]
    labels = []
    if start.needs_shell or environment.libraries:
        needs = {
            "commands": ["bash"] if start.needs_shell else [],
            "libraries": list(environment.libraries),
        }
        labels.append({"key": "com.hakobune.run-image.needs.python", "value": json.dumps(needs)})
    (layers / "launch.toml").write_text(to_toml({"processes": processes, "labels": labels}))


def _because(layer: Layer, changes: Sequence[str]) -> str:
    if not layer.kept_metadata():
        return ""
    return " (" + (", ".join(changes) if changes else "its content is gone") + ")"


def _minor(cpython: Layer) -> str:
    inputs = cpython.kept_metadata()["inputs"]
    return ".".join(inputs["python"].split(".")[:2])
